"""Images and labels of a student's test set, in the input format of exported files."""

from typing import NamedTuple, Optional

import numpy as np
import torch
from mmengine.registry import DATASETS, init_default_scope

from .student import Student


class CheckedImages(NamedTuple):
    """Images on which exported files are checked.

    Attributes:
        images: ``(N, channels, size, size)``, float32 from 0 to 255, RGB or gray.
        labels: ``(N,)``, or None if unknown.
        description: Source of the images.
    """

    images: np.ndarray
    labels: Optional[np.ndarray]
    description: str


def of_test_set(student: Student, number: int) -> CheckedImages:
    """Evenly spaced images of the test set in the config.

    Args:
        student: The student, whose config has the data set.
        number: Maximum number of images.

    Raises:
        FileNotFoundError: If the data set is missing.
    """
    init_default_scope('mmpretrain')
    dataset = DATASETS.build(student.config.test_dataloader.dataset)
    step = max(1, len(dataset) // number)
    samples = [dataset[index] for index in range(0, len(dataset), step)][:number]
    inputs = torch.stack([sample['inputs'] for sample in samples]).float()
    if student.channels == 3:
        inputs = inputs.flip(1)  # MMCV reads BGR
    labels = np.array([int(sample['data_samples'].gt_label) for sample in samples])
    name = type(dataset).__name__
    return CheckedImages(inputs.numpy(), labels, f'{len(samples)} test images of {name}')
