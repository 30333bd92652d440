import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from os import path as osp

from mmpretrain.datasets import BaseDataset
from mmpretrain.registry import DATASETS

from .prepare.source import CALTECH_256, some

NUM_CLASSES = 257  # in the official data set; the last one is clutter
NUM_IMAGES = 30607
CLUTTER = 'clutter'
SPLITS = ('train', 'test')


def read_classes(root: str) -> dict[str, str]:
    """Find the folders of the classes: ``{'ak47': '001.ak47', ...}``, sorted by their number."""
    folders = sorted(
        e.name for e in os.scandir(root) if e.is_dir() and re.fullmatch(r'\d{3}\..+', e.name)
    )
    return {folder.partition('.')[2]: folder for folder in folders}


def find_missing(folders: Iterable[str], total: int) -> list[str]:
    """List the class numbers from 1 to ``total`` without a folder."""
    present = {folder[:3] for folder in folders}
    numbers = [f'{i + 1:03d}' for i in range(total)]
    return [number for number in numbers if number not in present]


def find_images(folder: str) -> list[str]:
    """List the images of a class by name.

    The official data set also has a file ``198.spider/RENAME2`` and a folder ``056.dog/greg``,
    which are not images.
    """
    return sorted(n for n in os.listdir(folder) if n.endswith('.jpg'))


def split_images(names: Sequence[str], split: str, seed: int) -> list[str]:
    """Select the images of a split, 'train' or 'test', from the names of all images of one class.

    One fifth of the images, rounded down, is for testing: the images with the lowest SHA-256 of
    ``'<seed> <name>'``. Therefore the split depends only on the names and the seed, and is the same
    on every machine.
    """
    ranked = sorted(names, key=lambda n: hashlib.sha256(f'{seed} {n}'.encode()).digest())
    test = set(ranked[: len(names) // 5])
    return [n for n in names if (n in test) == (split == 'test')]


@DATASETS.register_module()
class Caltech256(BaseDataset):
    """`Caltech-256 <https://data.caltech.edu/records/nyy15-4j048>`_: 30,607 photos in 256 classes
    plus clutter, with at least 80 photos per class.

    The photos have different sizes, and some are gray. The official layout is::

        256_ObjectCategories
        ├── 001.ak47/*.jpg
        ├── ...
        ├── 256.toad/*.jpg
        └── 257.clutter/*.jpg

    The label is the number of the folder minus one. ``LoadImageFromFile`` gives gray and CMYK
    images three channels like the others.

    There is no official split. Here, :func:`split_images` selects one fifth of each class, rounded
    down, for testing. The selection is the same on every machine.

    Args:
        data_root (str): Folder of the data set. Defaults to 'data/256_ObjectCategories'.
        split (str): 'train' or 'test'. Defaults to 'train'.
        with_clutter (bool): Whether to include the last class, ``clutter``: 257 classes instead of
            256. Defaults to True.
        seed (int): Seed of the split. Defaults to 0.
        lazy_init (bool): Whether to list the images only when they are needed. The classes are read
            in any case. Defaults to False.
        **kwargs: Other arguments of :class:`mmpretrain.datasets.BaseDataset`. ``classes``, a list
            of names without their numbers, selects these classes and the order of their labels;
            ``with_clutter`` is ignored in this case.

    Raises:
        FileNotFoundError: If there is no such folder, or a class is missing from it.
        ValueError: If ``split`` is unknown, or ``data_root`` is an archive.
    """

    def __init__(
        self,
        data_root: str = 'data/256_ObjectCategories',
        split: str = 'train',
        with_clutter: bool = True,
        seed: int = 0,
        lazy_init: bool = False,
        **kwargs,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f'Caltech256 has no split {split!r}; choose one of {list(SPLITS)}')
        data_root = CALTECH_256.expect_folder(data_root)
        self.split = split
        self.seed = seed
        super().__init__(ann_file='', data_root=data_root, lazy_init=True, **kwargs)
        self.folders = read_classes(data_root)
        if self.CLASSES is None:
            total = NUM_CLASSES - (not with_clutter)
            classes = tuple(c for c in self.folders if with_clutter or c != CLUTTER)
            self._metainfo['classes'] = classes
            missing = find_missing(self.folders.values(), total)
            if not missing and len(classes) != total:
                found = f'{len(classes)} instead of {total} classes'
                raise CALTECH_256.incomplete(data_root, found)
        else:
            missing = [c for c in self.CLASSES if c not in self.folders]
        if missing:
            raise CALTECH_256.incomplete(data_root, f'there is no folder for {some(missing)}')
        if not lazy_init:
            self.full_init()

    def load_data_list(self) -> list[dict]:
        """List the images of the split with their labels."""
        data_list = []
        for label, name in enumerate(self.CLASSES):
            folder = osp.join(self.data_root, self.folders[name])
            images = find_images(folder)
            if not images:
                fault = f'no *.jpg in {self.folders[name]}'
                raise CALTECH_256.incomplete(self.data_root, fault)
            data_list += [
                dict(img_path=osp.join(folder, image), gt_label=label)
                for image in split_images(images, self.split, self.seed)
            ]
        return data_list

    def extra_repr(self) -> list[str]:
        """Extra lines of the printed description."""
        return [f'Split: \t{self.split}, seed {self.seed}']
