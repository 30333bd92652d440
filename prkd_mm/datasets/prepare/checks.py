"""Compare a folder with the official data set, and read every image."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from os import path as osp
from typing import Callable, NamedTuple

from mmpretrain.datasets import CIFAR10, CIFAR100
from mmpretrain.datasets.utils import calculate_md5
from PIL import Image
from rich.progress import track

from .. import caltech256, tinyimagenet
from .source import CALTECH_256, CIFAR_10, CIFAR_100, TINY_IMAGENET, some

MIN_PER_CLASS = 80  # images in each class of Caltech-256


class Findings(NamedTuple):
    """Problems found in a folder, one sentence each."""

    faults: list[str]  # errors that make the data set unusable
    missing: list[str]  # missing parts, without which the rest can be used


def check_tiny_imagenet(root: str) -> Findings:
    """Check Tiny ImageNet: classes, number of images, damaged images."""
    classes, faults = tinyimagenet.read_classes(root)
    if not classes:
        return Findings(faults, [])
    missing = []
    total = tinyimagenet.NUM_CLASSES
    if len(classes) != total:
        missing.append(f'{len(classes)} of {total} classes')
    for split, per_class in tinyimagenet.PER_CLASS.items():
        samples, wrong = tinyimagenet.find_images(root, split, list(classes))
        faults += wrong or find_damaged([path for path, _ in samples])
        counts = Counter(label for _, label in samples)
        short = [
            f'{wnid} has {counts[label]}'
            for label, wnid in enumerate(classes)
            if counts[label] not in (0, per_class)  # a class without images is already in `faults`
        ]
        if short:
            missing.append(
                f'{len(samples):,} of {total * per_class:,} images in '
                f'{split} ({per_class} per class, but {some(short)})'
            )
    return Findings(faults, missing)


def check_caltech256(root: str) -> Findings:
    """Check Caltech-256: classes, number of images, damaged images."""
    folders = caltech256.read_classes(root).values()
    if not folders:
        return Findings(['it has no class folders (001.ak47, ...)'], [])
    total = caltech256.NUM_CLASSES
    images = {folder: caltech256.find_images(osp.join(root, folder)) for folder in folders}
    faults = []
    if empty := [folder for folder, names in images.items() if not names]:
        faults.append(f'no *.jpg in {some(empty)}')
    if len(folders) > total:
        faults.append(f'{len(folders)} instead of {total} classes')
    faults += find_damaged(
        [f'{root}/{folder}/{name}' for folder, names in images.items() for name in names]
    )
    missing = []
    if absent := caltech256.find_missing(folders, total):
        missing.append(
            f'{total - len(absent)} of {total} classes (there is no folder for {some(absent)})'
        )
    return Findings(faults, missing + _missing_photos(images))


def _missing_photos(images: dict[str, list[str]]) -> list[str]:
    count = sum(map(len, images.values()))
    if count == caltech256.NUM_IMAGES:
        return []
    missing = [f'{count:,} of {caltech256.NUM_IMAGES:,} images']
    gaps, few = [], []
    for folder, names in images.items():
        # the images of each class are numbered from 1
        expected = [f'{folder[:3]}_{i + 1:04d}.jpg' for i in range(len(names))]
        gaps += [name for name in expected if name not in names]
        if 0 < len(names) < MIN_PER_CLASS:
            few.append(f'{folder} has {len(names)}')
    if gaps:
        missing.append(f'there is no {some(gaps)}')
    if few:
        missing.append(f'fewer than {MIN_PER_CLASS} per class: {some(few)}')
    return missing


def check_cifar(cifar: type[CIFAR10], root: str) -> Findings:
    """Check CIFAR: the MD5 of each official file.

    MMPretrain's class requires the same MD5s, so an incomplete data set cannot be used.
    """
    faults = []
    meta = cifar.meta['filename'], cifar.meta['md5']
    for name, md5 in [*cifar.train_list, *cifar.test_list, meta]:
        path = osp.join(root, name)
        if not osp.isfile(path):
            faults.append(f'{name} is missing')
        elif (found := calculate_md5(path)) != md5:
            faults.append(f'{name} has MD5 {found} instead of {md5}')
    return Findings(faults, [])


def find_damaged(paths: Sequence[str]) -> list[str]:
    """Find unreadable and truncated images by decoding all of them; returns at most one sentence.

    OpenCV, which loads the images for training, silently fills missing parts with gray. A JPEG with
    changed bytes in the middle usually remains valid and is not detected.
    """
    damaged = []
    for path in track(paths, 'Reading the images'):
        try:
            with Image.open(path) as image:
                image.draft('L', (1, 1))  # reads the whole file, decodes few pixels
                image.load()
        # the type of the error depends on the format that the bytes resemble
        except Exception:
            damaged.append(osp.join(*path.split('/')[-2:]))
    return [f'damaged images: {some(damaged)}'] if damaged else []


CHECKS: dict[str, Callable[[str], Findings]] = {
    CALTECH_256.name: check_caltech256,
    CIFAR_10.name: partial(check_cifar, CIFAR10),
    CIFAR_100.name: partial(check_cifar, CIFAR100),
    TINY_IMAGENET.name: check_tiny_imagenet,
}
