import importlib.util
from pathlib import Path

import numpy as np
from mmpretrain.datasets import BaseDataset
from mmpretrain.registry import DATASETS

# The images are in the order of 14 forms, each with about 130 digits; form 11 begins here.
NUM_TRAIN = 1287
NUM_IMAGES = 1797


@DATASETS.register_module()
class Digits(BaseDataset):
    """scikit-learn's handwritten digits: small real images that need no download.

    1,797 gray images of 8x8: the test part of UCI's `optical recognition of handwritten digits
    <https://doi.org/10.24432/C50P49>`_, of which scikit-learn contains a copy.

    The images are in the order of the 14 forms that 13 people filled in, and the split keeps this
    order: the first images are for training, the others for testing. By default, the first ten
    forms (1,287 images) are for training and the last four (510) for testing. No form is in both
    parts (a writer may be), both parts have similar proportions of the classes, and no random
    generator is involved. This split is harder than a shuffled one, where both parts contain digits
    of every writer: a support vector machine (``SVC(gamma=0.001)``) reaches 96.7 % instead of 99 %.
    With ``num_train=256``, the first two forms are for training.

    Each sample contains ``img``, a ``uint8`` array of shape (8, 8) with values from 0 to 255, as in
    MMPretrain's MNIST. Models therefore need ``in_channels=1``.

    Args:
        split (str): 'train' or 'test'. Defaults to 'train'.
        num_train (int): Number of training images; all others are test images. To
            have no handwritten form in both parts, choose 130, 256, 386, 516, 646, 776, 1029,
            1157, 1287, 1415 or 1667. Defaults to 1287.
        **kwargs: Other arguments of :class:`mmpretrain.datasets.BaseDataset`.

    Raises:
        ImportError: If scikit-learn is not installed.
        ValueError: If ``split`` is unknown, or if one of the parts would be empty.
    """

    METAINFO = {'classes': tuple('0123456789')}

    def __init__(self, split: str = 'train', num_train: int = NUM_TRAIN, **kwargs) -> None:
        if split not in ('train', 'test'):
            raise ValueError(f"Digits has no split {split!r}; choose one of ['train', 'test']")
        if not 0 < num_train < NUM_IMAGES:
            raise ValueError(
                f'Digits needs a num_train from 1 to {NUM_IMAGES - 1}, got {num_train}'
            )
        self.split, self.num_train = split, num_train
        super().__init__(ann_file='', **kwargs)

    def load_data_list(self) -> list[dict]:
        """List the images of the split with their labels."""
        spec = importlib.util.find_spec('sklearn')
        if spec is None or spec.origin is None:
            raise ImportError(
                'the digits are part of scikit-learn, which is not installed: '
                '`pip install scikit-learn`'
            )
        # importing scikit-learn takes longer than training for several epochs
        file = Path(spec.origin).parent / 'datasets/data/digits.csv.gz'
        part = slice(self.num_train) if self.split == 'train' else slice(self.num_train, None)
        values = np.loadtxt(file, delimiter=',')[part]
        images = np.round(values[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
        return [dict(img=img, gt_label=int(label)) for img, label in zip(images, values[:, -1])]

    def extra_repr(self) -> list[str]:
        """Extra lines of the printed description."""
        return [f'Split: \t{self.split}']
