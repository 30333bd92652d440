"""Images and labels of a student's test set, as the exported files take them."""

from typing import NamedTuple, Optional

import numpy as np
import torch
from mmengine.registry import DATASETS, init_default_scope

from .student import Student


class CheckedImages(NamedTuple):
    """Images to check files on.

    Attributes:
        images: ``(N, channels, size, size)``, float32 from 0 to 255, RGB or gray.
        labels: ``(N,)``, or None if there are none.
        description: Where they come from.
    """

    images: np.ndarray
    labels: Optional[np.ndarray]
    description: str


def of_test_set(student: Student, number: int) -> CheckedImages:
    """Evenly spaced images of the test set that the config names.

    Args:
        student: The student; its config names the data set.
        number: How many images at most.

    Raises:
        FileNotFoundError: If the data set is not there.
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
