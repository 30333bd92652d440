"""Synthetic images in the sizes and formats of real data sets."""

from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import cv2
import numpy as np
from mmengine.config import Config
from mmpretrain.datasets import BaseDataset, CustomDataset

from prkd_mm.config import load_config

ROOT = Path(__file__).resolve().parents[1]
SETS = dict(cifar100='CIFAR-100', tinyimagenet='Tiny ImageNet', caltech256='Caltech-256')
_JPEG_SIZES = dict(tinyimagenet=64, caltech256=400)
MakeDataset = Callable[[list[dict]], BaseDataset]  # builds a data set with a pipeline


@dataclass
class Images:
    """A training set."""

    build: MakeDataset
    source: str  # description of the images
    pipeline: list[dict]  # MMPretrain's, for training
    data_preprocessor: dict  # config of MMPretrain's

    def plain(self) -> list[dict]:
        """Return the pipeline without augmentation, for images of one size."""
        steps = []
        for step in self.pipeline:
            if step['type'] == 'RandomResizedCrop':
                steps.append(dict(type='Resize', scale=(step['scale'], step['scale'])))
            elif not step['type'].startswith('Random'):
                steps.append(step)
        return steps


def make_images(name: str, count: int, folder: Path) -> Images:
    """Make images that cost as much to load as those of a data set, a key of ``SETS``."""
    cfg = load_config(str(ROOT / f'configs/_base_/datasets/{name}.py'))
    stock = cfg.train_dataloader.dataset
    stock = stock.get('dataset', stock)  # without PackedImages or ImageViews
    if name in _JPEG_SIZES:
        build, kind = write_images(folder / 'jpegs', count, _JPEG_SIZES[name]), 'JPEG files'
    else:
        build, kind = in_memory(count), 'arrays in memory'
    source = f'synthetic, like {SETS[name]}, {kind}'
    return Images(build, source, stock.pipeline, stock_preprocessor(cfg))


def stock_preprocessor(cfg: Config) -> dict:
    """Return MMPretrain's data preprocessor with the settings of a config."""
    preprocessor = cfg.data_preprocessor.to_dict()
    for extra in ('seed', 'views'):  # arguments that only our preprocessor has
        preprocessor.pop(extra, None)
    return dict(preprocessor, type='mmpretrain.ClsDataPreprocessor')


def our_preprocessor(stock: dict) -> dict:
    """Return our data preprocessor with the settings of MMPretrain's."""
    return dict(stock, type='mmpretrain.BatchClsDataPreprocessor', seed=0)


class _InMemory(BaseDataset):
    """Images as in MMPretrain's CIFAR classes: an array (N, C, H, W), viewed as (N, H, W, C)."""

    def __init__(self, images: np.ndarray, num_classes: int, **kwargs) -> None:
        self._images, self._num_classes = images, num_classes
        super().__init__(
            ann_file='', metainfo=dict(classes=[str(c) for c in range(num_classes)]), **kwargs
        )

    def load_data_list(self) -> list[dict]:
        return [
            dict(img=image, gt_label=i % self._num_classes)
            for i, image in enumerate(self._images.transpose(0, 2, 3, 1))
        ]


def synthetic_pixels(count: int, size: int) -> np.ndarray:
    """Draw smooth shapes with some noise, ``(count, size, size, 3)``, uint8."""
    random = np.random.RandomState(0)
    images = []
    for _ in range(count):
        image = np.zeros((size, size, 3))
        for scale in (4, 8, 16, size):  # natural images have 1/f spectra
            noise = random.randn(scale, scale, 3) * 100 / scale
            image += cv2.resize(noise, (size, size))
        images.append(np.clip(128 + 2 * image, 0, 255).astype(np.uint8))
    return np.stack(images)


def in_memory(count: int, size: int = 32, num_classes: int = 100) -> MakeDataset:
    """Make ``size`` x ``size`` images in memory."""
    images = np.ascontiguousarray(synthetic_pixels(count, size).transpose(0, 3, 1, 2))
    return lambda pipeline: _InMemory(images, num_classes, pipeline=pipeline)


def write_images(
    folder: Path, count: int, size: int, num_classes: int = 10, suffix: str = '.jpg'
) -> MakeDataset:
    """Write ``size`` x ``size`` images as files, in one folder per class."""
    images = synthetic_pixels(min(count, 64), size)
    for i in range(count):
        path = folder / f'{i % num_classes:03d}' / f'{i}{suffix}'
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), images[i % len(images)])
    return lambda pipeline: CustomDataset(data_root=str(folder), pipeline=pipeline)
