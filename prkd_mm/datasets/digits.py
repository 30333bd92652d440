import numpy as np
from mmpretrain.datasets import BaseDataset
from mmpretrain.registry import DATASETS

# The writers filled in one form after the other, each with the same 130
# digits (a few are lost): 14 forms, of which the last four begin here.
NUM_TRAIN = 1287


@DATASETS.register_module()
class Digits(BaseDataset):
    """scikit-learn's handwritten digits: real, tiny, and never downloaded.

    1,797 grey images of 8x8, of which scikit-learn carries a copy: the test
    part of UCI's `optical recognition of handwritten digits
    <https://doi.org/10.24432/C50P49>`_.

    They stand in the order of the forms they were written on, and the split
    keeps that order: the first ten forms (1,287 images) are for training, the
    last four (510) for testing. So no form is on both sides (13 people wrote
    the 14 forms: one person may be), every class has its share on each, and
    no random generator is involved. It is harder than a shuffled split, which
    has every hand on both sides: a support vector machine
    (``SVC(gamma=0.001)``) reaches 96.7 % instead of 99 %.

    Samples hold ``img``, a ``uint8`` array of shape (8, 8) in 0..255 like
    those of MMPretrain's MNIST, so that models need ``in_channels=1``.

    Args:
        split (str): 'train' or 'test'. Defaults to 'train'.
        **kwargs: Other arguments of :class:`mmpretrain.datasets.BaseDataset`.

    Raises:
        ImportError: If scikit-learn is not installed.
        ValueError: If there is no such split.
    """

    METAINFO = {'classes': tuple('0123456789')}

    def __init__(self, split: str = 'train', **kwargs) -> None:
        if split not in ('train', 'test'):
            raise ValueError(f"Digits has no split {split!r}; choose one of ['train', 'test']")
        self.split = split
        super().__init__(ann_file='', **kwargs)

    def load_data_list(self) -> list[dict]:
        """Take the split's images and labels.

        Raises:
            ImportError: If scikit-learn is not installed.
        """
        try:
            from sklearn.datasets import load_digits
        except ImportError as e:
            raise ImportError(
                'Digits are part of scikit-learn, which is not '
                'installed: `pip install scikit-learn`'
            ) from e
        data = load_digits()
        part = slice(NUM_TRAIN) if self.split == 'train' else slice(NUM_TRAIN, None)
        images = np.round(data.images[part] * (255 / 16)).astype(np.uint8)
        return [dict(img=img, gt_label=int(label)) for img, label in zip(images, data.target[part])]

    def extra_repr(self) -> list[str]:
        """The extra lines of the printed description."""
        return [f'Split: \t{self.split}']
