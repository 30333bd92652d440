"""Images of a student's data sets, in the input format of exported files."""

from typing import NamedTuple, Optional

import numpy as np
import torch
from mmengine.registry import DATASETS, init_default_scope

from ..checkpoints import recorded_classes
from ..checks.class_checks import classes_of, compare_classes
from .student import Student
from .student_config import reads_bgr


class CheckedImages(NamedTuple):
    """Images on which exported files are checked or calibrated."""

    images: np.ndarray  # (N, channels, size, size), float32 from 0 to 255, RGB or gray
    labels: Optional[np.ndarray]  # (N,), or None if unknown
    description: str  # source of the images


def of_test_set(student: Student, number: int) -> CheckedImages:
    """At most ``number`` evenly spaced images of the test set in the student's config.

    Raises:
        FileNotFoundError: If the data set is missing.
        ValueError: If its pipeline prepares images of another size than the student's, or its
            classes have another order.
    """
    dataset = student.config.test_dataloader.dataset
    return _evenly_spaced(student, dataset, number, 'test', '--images')


def of_training_set(student: Student, number: int) -> CheckedImages:
    """Evenly spaced training images, prepared as the test images are, to calibrate int8.

    Raises:
        FileNotFoundError: If the data set is missing.
        ValueError: If the data set is unknown, or as for :func:`of_test_set`.
    """
    if student.train_dataset is None:
        raise ValueError(
            f'{student.source!r} does not contain the training images, which calibrate the int8 '
            'file: give other images with --calibration, or the config of the run with --config'
        )
    return _evenly_spaced(student, student.train_dataset, number, 'training', '--calibration')


def _evenly_spaced(
    student: Student, cfg: dict, number: int, name: str, option: str
) -> CheckedImages:
    init_default_scope('mmpretrain')
    dataset = DATASETS.build(cfg)
    trained = recorded_classes(dict(meta=student.meta))
    compare_classes('the student', trained, f'the {name} set', classes_of(dataset))
    step = max(1, len(dataset) // number)
    samples = [dataset[index] for index in range(0, len(dataset), step)][:number]
    inputs = torch.stack([sample['inputs'] for sample in samples]).float()
    found = tuple(inputs.shape[2:])
    if found != (student.size, student.size):
        raise ValueError(
            f'the config prepares {name} images of {found[0]}x{found[1]} pixels, not of '
            f'{student.size}x{student.size}: give a folder of images with {option}'
        )
    if student.channels == 3 and reads_bgr(student.config):
        inputs = inputs.flip(1)
    labels = np.array([int(sample['data_samples'].gt_label) for sample in samples])
    description = f'{len(samples)} {name} images of {type(dataset).__name__}'
    return CheckedImages(inputs.numpy(), labels, description)
