import os
from collections import Counter
from os import path as osp
from typing import Optional, TypeVar

from mmengine.fileio import list_from_file
from mmpretrain.datasets import BaseDataset
from mmpretrain.registry import DATASETS

from ..checks.number_checks import check_whole_number
from .prepare.source import TINY_IMAGENET, some

ANNOTATIONS = 'val/val_annotations.txt'
PER_CLASS = dict(train=500, val=50)  # images of the official set
SPLITS = (*PER_CLASS, 'train+val')
NUM_CLASSES = 200

Samples = list[tuple[str, int]]  # path, label
Found = TypeVar('Found')


def read_classes(root: str) -> tuple[dict[str, str], list[str]]:
    """Read the classes of a folder in the official layout.

    Returns:
        tuple: ``{wnid: class name}`` in the order of ``wnids.txt``, and a list of faults.
    """
    missing = [
        f'{name} is missing'
        for name in ('wnids.txt', 'words.txt')
        if not osp.isfile(osp.join(root, name))
    ]
    if missing:
        return {}, missing
    wnids = [w for w in list_from_file(osp.join(root, 'wnids.txt')) if w]
    words = dict(line.partition('\t')[::2] for line in list_from_file(osp.join(root, 'words.txt')))
    nameless = [w for w in wnids if not words.get(w)]
    faults = [f'words.txt does not name {some(nameless)}'] if nameless else []
    return {w: words.get(w, w) for w in wnids}, faults


def find_images(root: str, split: str, wnids: list[str]) -> tuple[Samples, list[str]]:
    """Find the images of a split, 'train' or 'val', and their labels, the indices of ``wnids``.

    Returns:
        tuple: ``[(path, label), ...]``, sorted by label and file name for ``train`` and in the
        order of the annotations for ``val``; and a list of faults.
    """
    find = {'train': _find_train, 'val': _find_val}[split]
    return find(root, wnids)


def _jpegs(folder: str) -> list[str]:
    # listing a folder is much faster than a stat call per image
    if not osp.isdir(folder):
        return []
    return sorted(n for n in os.listdir(folder) if n.endswith('.JPEG'))


def _find_train(root: str, wnids: list[str]) -> tuple[Samples, list[str]]:
    samples, empty = [], []
    for label, wnid in enumerate(wnids):
        folder = osp.join(root, 'train', wnid, 'images')
        names = _jpegs(folder)
        samples += [(f'{folder}/{name}', label) for name in names]
        if not names:
            empty.append(wnid)
    return samples, [f'no *.JPEG in train/<class>/images of {some(empty)}'] if empty else []


def _find_val(root: str, wnids: list[str]) -> tuple[Samples, list[str]]:
    if not osp.isfile(osp.join(root, ANNOTATIONS)):
        return [], [f'{ANNOTATIONS} is missing']
    lines = list_from_file(osp.join(root, ANNOTATIONS))
    # name, class, box; an incomplete line gives the class '', which is unknown
    rows = [(line + '\t').split('\t')[:2] for line in lines if line]
    labels = {wnid: label for label, wnid in enumerate(wnids)}
    folder = osp.join(root, 'val', 'images')
    present = set(_jpegs(folder))
    absent = [name for name, _ in rows if name not in present]
    extra = sorted(present.difference(name for name, _ in rows))
    unknown = [f'{name} ({wnid!r})' for name, wnid in rows if wnid not in labels]
    faults = [
        (absent, f'{ANNOTATIONS} lists images that are missing'),
        (extra, f'{ANNOTATIONS} does not list these images'),
        (unknown, f'{ANNOTATIONS} gives classes not in wnids.txt'),
    ]
    samples = [(f'{folder}/{name}', labels.get(wnid, -1)) for name, wnid in rows]
    return samples, [f'{what}: {some(which)}' for which, what in faults if which]


@DATASETS.register_module()
class TinyImageNet(BaseDataset):
    """`Tiny ImageNet <http://cs231n.stanford.edu/tiny-imagenet-200.zip>`_: 200 classes of ImageNet
    at 64x64, with 500 training and 50 validation images each. The official layout is::

        tiny-imagenet-200
        ├── wnids.txt                     the classes, in label order
        ├── words.txt                     their names
        ├── train/<wnid>/images/*.JPEG
        └── val
            ├── images/*.JPEG
            └── val_annotations.txt       the class of each image

    About 2 % of the images are gray; ``LoadImageFromFile`` gives them three channels like the
    others. The test split has no labels and is not used.

    Args:
        data_root (str): Folder of the data set. Defaults to 'data/tiny-imagenet-200'.
        split (str): 'train', 'val', or 'train+val': the training images followed by the validation
            images. Defaults to 'train'.
        samples_per_class (int, optional): Upper limit of images per class: the first by file name
            (compared as strings) in 'train', the first annotated in 'val'. Defaults to None, which
            means all.
        skip_per_class (int): Training images of each class to leave out before
            ``samples_per_class`` counts. With ``split='train+val'`` this makes a large test set of
            images that a run with ``samples_per_class=skip_per_class`` has not seen. Validation
            images are not skipped. Defaults to 0.
        num_classes (int, optional): Number of classes to use, in the order of ``wnids.txt``, which
            is not sorted. Defaults to None, which means all.
        first_class (int): Index in ``wnids.txt`` of the first class to use; it gets label 0.
            Defaults to 0.
        lazy_init (bool): Whether to list the images only when they are needed. The classes are read
            in any case. Defaults to False.
        **kwargs: Other arguments of :class:`mmpretrain.datasets.BaseDataset`.

    Raises:
        FileNotFoundError: If there is no such folder, or a part of the data set is missing from it.
        ValueError: If ``split`` or one of the subset options is invalid, or ``data_root`` is an
            archive.
    """

    def __init__(
        self,
        data_root: str = 'data/tiny-imagenet-200',
        split: str = 'train',
        samples_per_class: Optional[int] = None,
        skip_per_class: int = 0,
        num_classes: Optional[int] = None,
        first_class: int = 0,
        lazy_init: bool = False,
        **kwargs,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f'TinyImageNet has no split {split!r}; choose one of {list(SPLITS)}')
        check_whole_number('skip_per_class', skip_per_class, 0)
        check_whole_number('first_class', first_class, 0)
        check_whole_number('samples_per_class', samples_per_class, optional=True)
        check_whole_number('num_classes', num_classes, optional=True)
        data_root = TINY_IMAGENET.expect_folder(data_root)
        self.split = split
        self.samples_per_class = samples_per_class
        self.skip_per_class = skip_per_class
        classes = _expect_complete(data_root, read_classes(data_root))
        self._wnids = list(classes)
        used = self._wnids[first_class:][:num_classes]
        if len(used) < (num_classes or 1):
            raise ValueError(
                f'first_class={first_class} leaves {len(used)} of the {len(classes)} classes in '
                f"'{osp.abspath(data_root)}', but num_classes={num_classes}"
            )
        super().__init__(
            ann_file=ANNOTATIONS if split == 'val' else '',
            data_root=data_root,
            data_prefix='val/images' if split == 'val' else 'train',
            lazy_init=True,
            **kwargs,
        )
        self._metainfo.setdefault('classes', tuple(classes[wnid] for wnid in used))
        self._metainfo['wnids'] = tuple(used)
        if not lazy_init:
            self.full_init()

    def load_data_list(self) -> list[dict]:
        """List the images of the split with their labels."""
        used = {wnid: label for label, wnid in enumerate(self._metainfo['wnids'])}
        samples = []
        for split in self.split.split('+'):
            skip = self.skip_per_class if split == 'train' else 0
            most = self.samples_per_class
            seen: Counter[str] = Counter()
            for path, index in _expect_complete(
                self.data_root, find_images(self.data_root, split, self._wnids)
            ):
                wnid = self._wnids[index]
                seen[wnid] += 1
                if wnid in used and skip < seen[wnid] <= (skip + most if most else seen[wnid]):
                    samples.append(dict(img_path=path, gt_label=used[wnid]))
        return samples


def _expect_complete(root: str, result: tuple[Found, list[str]]) -> Found:
    found, faults = result
    if faults:
        raise TINY_IMAGENET.incomplete(root, '; '.join(faults))
    return found
