"""The hash that tells whether two data sets have the same images and labels."""

from typing import Optional

from mmengine.dataset import BaseDataset
from torch.utils.data import Dataset

from .image_views import ImageViews, hash_of_images
from .packed.packed_images import PackedImages


def hash_of_dataset(dataset: Dataset) -> Optional[str]:
    """Hash of the images of a data set, their labels and their pipeline, the same on any machine.

    It is None if the data set is not MMEngine's ``BaseDataset``, or its images have neither a path
    nor pixels.
    """
    if isinstance(dataset, PackedImages):  # its `source` depends on the decoder, too
        return dataset.fingerprint
    if isinstance(dataset, ImageViews):
        return dataset.source
    if not isinstance(dataset, BaseDataset):
        return None
    dataset.full_init()
    try:
        return hash_of_images(dataset)
    except (LookupError, TypeError):  # its images have no path
        return None
