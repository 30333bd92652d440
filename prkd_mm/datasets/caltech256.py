import hashlib
import os
import re
from collections.abc import Sequence
from os import path as osp

from mmpretrain.datasets import BaseDataset
from mmpretrain.registry import DATASETS

from .prepare.images import find_damaged
from .prepare.source import Source, some

NUM_CLASSES = 257  # of the official set, of which the last one is clutter
NUM_IMAGES = 30607
MIN_PER_CLASS = 80
CLUTTER = 'clutter'
SPLITS = ('train', 'test')


def read_classes(root: str) -> dict[str, str]:
    """Find the folders of the classes.

    Args:
        root (str): A folder in the official layout.

    Returns:
        dict: ``{class: folder}`` by the folders' numbers, such as
        ``{'ak47': '001.ak47', ...}``.
    """
    folders = sorted(
        e.name for e in os.scandir(root) if e.is_dir() and re.fullmatch(r'\d{3}\..+', e.name)
    )
    return {folder.partition('.')[2]: folder for folder in folders}


def find_missing(folders: Sequence[str], total: int) -> list[str]:
    """Find the numbers up to ``total`` that no folder has."""
    there = {folder[:3] for folder in folders}
    return [n for i in range(total) if (n := f'{i + 1:03d}') not in there]


def find_images(folder: str) -> list[str]:
    """List the images of a class by name.

    The official set also has ``198.spider/RENAME2``, a file, and
    ``056.dog/greg``, a folder: neither is an image.
    """
    return sorted(n for n in os.listdir(folder) if n.endswith('.jpg'))


def split_images(names: Sequence[str], split: str, seed: int) -> list[str]:
    """Take a split's share of the images of one class.

    A fifth of them, rounded down, is for testing: those whose SHA-256 of
    ``'<seed> <name>'`` are the lowest. So the split follows from the names
    and the seed, on every machine and without a random generator.

    Args:
        names (Sequence[str]): All images of the class.
        split (str): 'train' or 'test'.
        seed (int): The seed.

    Returns:
        list[str]: The images of the split, in the order given.
    """
    ranked = sorted(names, key=lambda n: hashlib.sha256(f'{seed} {n}'.encode()).digest())
    test = set(ranked[: len(names) // 5])
    return [n for n in names if (n in test) == (split == 'test')]


def check(root: str) -> tuple[list[str], list[str]]:
    """Compare a folder with the official set, and read every image.

    Args:
        root (str): The folder.

    Returns:
        tuple: A list of faults, and a list of what is not there, although
        the official set has it.
    """
    folders = read_classes(root).values()
    if not folders:
        return ['it has no class folders (001.ak47, ...)'], []
    images = {f: find_images(osp.join(root, f)) for f in folders}
    empty = [folder for folder, names in images.items() if not names]
    faults = [f'no *.jpg in {some(empty)}'] if empty else []
    if len(folders) > NUM_CLASSES:
        faults.append(f'{len(folders)} instead of {NUM_CLASSES} classes')
    faults += find_damaged([f'{root}/{f}/{name}' for f, names in images.items() for name in names])
    lacks = []
    missing = find_missing(folders, NUM_CLASSES)
    if missing:
        lacks.append(
            f'{NUM_CLASSES - len(missing)} of {NUM_CLASSES} classes '
            f'(there is no folder for {some(missing)})'
        )
    total = sum(map(len, images.values()))
    if total != NUM_IMAGES:
        lacks.append(f'{total:,} of {NUM_IMAGES:,} images')
        # they are numbered from 1 in each class
        gaps = [
            name
            for folder, names in images.items()
            for name in (f'{folder[:3]}_{i + 1:04d}.jpg' for i in range(len(names)))
            if name not in names
        ]
        few = [
            f'{folder} has {len(names)}'
            for folder, names in images.items()
            if 0 < len(names) < MIN_PER_CLASS
        ]
        lacks += [f'there is no {some(gaps)}'] if gaps else []
        lacks += [f'less than {MIN_PER_CLASS} a class: {some(few)}'] if few else []
    return faults, lacks


CALTECH_256 = Source(
    name='caltech256',
    title='Caltech-256',
    folder='256_ObjectCategories',
    url='https://data.caltech.edu/records/nyy15-4j048/files/256_ObjectCategories.tar',
    md5='67b4f42ca05d46448c6bb8ecd2220f6d',
    marker='???.*/???_????.jpg',
    check=check,
)


@DATASETS.register_module()
class Caltech256(BaseDataset):
    """`Caltech-256 <https://data.caltech.edu/records/nyy15-4j048>`_: 30,607
    photos of 256 classes and of clutter, at least 80 each, of any size, some
    of them grey, in its official layout::

        256_ObjectCategories
        ├── 001.ak47/*.jpg
        ├── ...
        ├── 256.toad/*.jpg
        └── 257.clutter/*.jpg

    The number less one is the label. ``LoadImageFromFile`` gives grey (and
    CMYK) images three channels like the others.

    There is no official split, and published ones are drawn anew in each
    project. Here a fifth of each class, rounded down, is for testing, chosen
    by :func:`split_images`: the same on every machine.

    Args:
        data_root (str): The folder. Defaults to 'data/256_ObjectCategories'.
        split (str): 'train' or 'test'. Defaults to 'train'.
        with_clutter (bool): Whether to take the class ``clutter``, the last
            one: 257 classes instead of 256. Defaults to True.
        seed (int): The seed of the split. Defaults to 0.
        lazy_init (bool): Whether to leave the images unlisted until they are
            needed. The classes are read in any case. Defaults to False.
        **kwargs: Other arguments of :class:`mmpretrain.datasets.BaseDataset`.
            With ``classes``, a list of names without their numbers, only
            these are taken, labelled in their order; ``with_clutter`` has no
            meaning then.

    Raises:
        FileNotFoundError: If there is no such folder, or a class is missing
            in it.
        ValueError: If there is no such split, or ``data_root`` is an archive.
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
            self._metainfo['classes'] = tuple(
                c for c in self.folders if with_clutter or c != CLUTTER
            )
            missing = find_missing(self.folders.values(), total)
            if not missing and len(self.CLASSES) != total:
                self._refuse(f'{len(self.CLASSES)} instead of {total} classes')
        else:
            missing = [c for c in self.CLASSES if c not in self.folders]
        if missing:
            self._refuse(f'there is no folder for {some(missing)}')
        if not lazy_init:
            self.full_init()

    def _refuse(self, fault: str) -> None:
        raise FileNotFoundError(
            f"Caltech-256 in '{osp.abspath(self.data_root)}' is not whole: "
            f'{fault}. {CALTECH_256.how_to_get}'
        )

    def load_data_list(self) -> list[dict]:
        """List the images of the split with their labels.

        Raises:
            FileNotFoundError: If a class has no images.
        """
        data_list = []
        for label, name in enumerate(self.CLASSES):
            folder = osp.join(self.data_root, self.folders[name])
            images = find_images(folder)
            if not images:
                self._refuse(f'no *.jpg in {self.folders[name]}')
            data_list += [
                dict(img_path=osp.join(folder, image), gt_label=label)
                for image in split_images(images, self.split, self.seed)
            ]
        return data_list

    def extra_repr(self) -> list[str]:
        """The extra lines of the printed description."""
        return [f'Split: \t{self.split}, seed {self.seed}']
