"""Images to feed: the real ones where they are, else made-up ones."""

from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import cv2
import numpy as np
from mmengine.config import Config
from mmpretrain.datasets import BaseDataset, CustomDataset
from mmpretrain.registry import DATASETS

from prkd_mm.config import load_config

CONFIGS = Path(__file__).resolve().parents[1] / '.mim/configs'
SETS = dict(cifar100='CIFAR-100', tinyimagenet='Tiny ImageNet')


@dataclass
class Images:
    """A training set.

    Args:
        build (Callable): From a pipeline to the data set.
        source (str): What the images are, in words.
        pipeline (list[dict]): MMPretrain's training pipeline for them.
        data_preprocessor (dict): The config of theirs.
    """

    build: Callable[[list[dict]], BaseDataset]
    source: str
    pipeline: list[dict]
    data_preprocessor: dict

    def plain(self) -> list[dict]:
        """The pipeline without augmentation."""
        return [step for step in self.pipeline if not step['type'].startswith('Random')]


def find_images(name: str, count: int, folder: Path) -> Images:
    """The images of a data set's config, or others of their kind.

    Args:
        name (str): Of a file in ``configs/_base_/datasets``: 'cifar100' or
            'tinyimagenet'.
        count (int): How many.
        folder (Path): Where to write made-up ones.
    """
    cfg = load_config(str(CONFIGS / f'_base_/datasets/{name}.py'))
    stock = cfg.train_dataloader.dataset
    if stock.type == 'PackedImages':
        stock = stock.dataset
    stock = stock.to_dict()
    pipeline = stock.pop('pipeline')
    root = Path(stock['data_root'])
    if name == 'cifar100':
        real, kind = (root / 'cifar-100-python').is_dir(), 'arrays in memory'
        stock['indices'] = count
    else:
        real, kind = root.is_dir(), 'JPEG files'
        stock['samples_per_class'] = max(1, count // 200)
    if real:

        def build(pipeline: list[dict]) -> BaseDataset:
            return DATASETS.build(dict(stock, pipeline=pipeline))
    elif name == 'cifar100':
        build = in_memory(count)
    else:
        build = _write_jpegs(folder / 'jpegs', count)
    source = SETS[name] if real else f'made up, like {SETS[name]}'
    return Images(build, f'{source}, {kind}', pipeline, stock_preprocessor(cfg))


def stock_preprocessor(cfg: Config) -> dict:
    """MMPretrain's data preprocessor in the place of a config's own."""
    preprocessor = cfg.data_preprocessor.to_dict()
    for extra in ('seed', 'views'):  # only ours takes them
        preprocessor.pop(extra, None)
    return dict(preprocessor, type='mmpretrain.ClsDataPreprocessor')


def our_preprocessor(stock: dict) -> dict:
    """Ours in the place of MMPretrain's."""
    return dict(stock, type='mmpretrain.BatchClsDataPreprocessor', seed=0)


class _InMemory(BaseDataset):
    """Images as MMPretrain's CIFAR classes hold them: N × C × H × W, seen as
    N × H × W × C."""

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


def made_up_pixels(count: int, size: int) -> np.ndarray:
    """Smooth shapes with some noise, ``(count, size, size, 3)``, uint8."""
    random = np.random.RandomState(0)
    images = []
    for _ in range(count):
        image = np.zeros((size, size, 3))
        for scale in (4, 8, 16, size):  # natural images have 1/f spectra
            noise = random.randn(scale, scale, 3) * 100 / scale
            image += cv2.resize(noise, (size, size))
        images.append(np.clip(128 + 2 * image, 0, 255).astype(np.uint8))
    return np.stack(images)


def in_memory(
    count: int, size: int = 32, num_classes: int = 100
) -> Callable[[list[dict]], BaseDataset]:
    """From a pipeline to a data set of made-up images in memory.

    Args:
        count (int): How many.
        size (int): Their height and width. Defaults to 32.
        num_classes (int): Defaults to 100.
    """
    images = np.ascontiguousarray(made_up_pixels(count, size).transpose(0, 3, 1, 2))
    return lambda pipeline: _InMemory(images, num_classes, pipeline=pipeline)


def _write_jpegs(folder: Path, count: int) -> Callable[[list[dict]], BaseDataset]:
    for i, image in enumerate(made_up_pixels(count, 64)):
        path = folder / f'{i % 10}' / f'{i}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image)
    return lambda pipeline: CustomDataset(data_root=str(folder), pipeline=pipeline)
