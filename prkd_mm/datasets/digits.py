import numpy as np
from mmpretrain.datasets import BaseDataset
from mmpretrain.registry import DATASETS

# The images are in the order of 14 forms, each with about 130 digits; the 11th begins here.
NUM_TRAIN = 1287
NUM_IMAGES = 1797


@DATASETS.register_module()
class Digits(BaseDataset):
    """scikit-learn's handwritten digits: real images, tiny, and without a download.

    1,797 gray images of 8x8: the test part of UCI's `optical recognition of handwritten digits
    <https://doi.org/10.24432/C50P49>`_, of which scikit-learn contains a copy.

    They are in the order of the 14 forms on which 13 people wrote them, and the split keeps that
    order: the first images are for training, the others for testing. With the default, the first
    ten forms (1,287 images) are for training and the last four (510) for testing, so that no form
    is in both parts (one person may be), every class has its share of both, and no random
    generator is involved. This is harder than a shuffled split, in which both parts have digits
    of every writer: a support vector machine (``SVC(gamma=0.001)``) reaches 96.7 % instead of
    99 %. ``num_train=646`` trains on the first five forms.

    Samples hold ``img``, a ``uint8`` array of shape (8, 8) in 0..255 as in MMPretrain's MNIST, so
    that models need ``in_channels=1``.

    Args:
        split (str): 'train' or 'test'. Defaults to 'train'.
        num_train (int): Number of training images; all others are test images. Forms end at 130,
            256, 386, 516, 646, 776, 1029, 1157, 1287, 1415 and 1667. Defaults to 1287.
        **kwargs: Other arguments of :class:`mmpretrain.datasets.BaseDataset`.

    Raises:
        ImportError: If scikit-learn is not installed.
        ValueError: If there is no such split, or if one of the parts would be empty.
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
        """Images and labels of the split.

        Raises:
            ImportError: If scikit-learn is not installed.
        """
        try:
            from sklearn.datasets import load_digits
        except ImportError as e:
            raise ImportError(
                'the digits are part of scikit-learn, which is not installed: '
                '`pip install scikit-learn`'
            ) from e
        data = load_digits()
        part = slice(self.num_train) if self.split == 'train' else slice(self.num_train, None)
        images = np.round(data.images[part] * (255 / 16)).astype(np.uint8)
        return [dict(img=img, gt_label=int(label)) for img, label in zip(images, data.target[part])]

    def extra_repr(self) -> list[str]:
        """The extra lines of the printed description."""
        return [f'Split: \t{self.split}']
