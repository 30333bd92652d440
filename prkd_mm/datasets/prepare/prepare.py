"""The logic of ``tools/prepare_data.py``."""

import os
import shutil
from collections.abc import Sequence
from glob import escape, iglob
from os import path as osp
from typing import Optional

from mmpretrain.datasets.utils import check_integrity

from ..caltech256 import CALTECH_256
from ..tinyimagenet import TINY_IMAGENET
from .cifar import CIFAR_10, CIFAR_100
from .fetch import copy_folder, download, unpack
from .source import Source

SOURCES = {source.name: source for source in (CALTECH_256, CIFAR_10, CIFAR_100, TINY_IMAGENET)}


def prepare(
    source: Source,
    archives: Sequence[str] = (),
    root: str = 'data',
    name: Optional[str] = None,
    partial: bool = False,
) -> None:
    """Put a data set into its folder, whole or not at all.

    The work is done in a hidden folder next to it, which gets its name only
    after the check.

    Args:
        source (Source): What is known of the data set.
        archives (Sequence[str]): Archives that together make the data set, or
            a folder with it. Defaults to (): download it.
        root (str): The folder that holds all data sets. Defaults to 'data'.
        name (str, optional): The folder to make in ``root``. Defaults to
            None, which means ``source.folder``.
        partial (bool): Whether to accept a part of the data set. Defaults to
            False.

    Raises:
        FileNotFoundError: If one of ``archives`` does not exist.
        ValueError: If the data are incomplete, damaged or unsafe.
        ConnectionError: If the download failed.
    """
    name = name or source.folder
    if name in ('.', '..') or osp.basename(name) != name:
        raise ValueError(f'the name must be that of a folder inside {root!r}, not {name!r}')
    target = osp.join(root, name)
    if osp.exists(target):
        _verify(
            source,
            target,
            target,
            partial,
            f"'{target}', which exists,",
            'remove it first, or choose another --name',
        )
        return
    _look_at(source, archives)
    os.makedirs(root, exist_ok=True)
    official = osp.join(root, osp.basename(source.url))
    missing = not archives and not check_integrity(official, source.md5)
    if missing:
        print(f'Downloading {source.url}', flush=True)
        download(source.url, official, source.md5)
    work = osp.join(root, f'.{name}.partial')
    shutil.rmtree(work, ignore_errors=True)  # of a run that was killed
    os.mkdir(work)
    try:
        for path in archives or [official]:
            (copy_folder if osp.isdir(path) else unpack)(path, work)
        top = _find_top(work, source.marker)
        _verify(
            source,
            top,
            target,
            partial,
            'what the sources hold',
            'name all archives of the set with --source',
        )
        os.replace(top, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if missing:  # not one that was here before: that is the user's
        os.remove(official)


def _look_at(source: Source, archives: Sequence[str]) -> None:
    for path in archives:
        if not osp.exists(path):
            raise FileNotFoundError(f"'{path}' does not exist")
        if osp.isdir(path) and not _has(path, source.marker):
            raise FileNotFoundError(
                f"the folder '{path}' is no {source.title}: there is no "
                f'{source.marker} in it; if it holds archives, name those'
            )


def _has(folder: str, marker: str) -> bool:
    return any(map(osp.isfile, iglob(osp.join(escape(folder), marker))))


def _find_top(work: str, marker: str) -> str:
    # archives have one folder at the top, or have been packed without it
    folders = [work, *(e.path for e in os.scandir(work) if e.is_dir())]
    tops = [f for f in folders if _has(f, marker)]
    if len(tops) > 1:
        names = ', '.join(sorted(osp.basename(f) for f in tops))
        raise ValueError(f'there is more than one data set: {names}')
    return tops[0] if tops else folders[-1]


def _verify(
    source: Source, folder: str, target: str, partial: bool, subject: str, advice: str
) -> None:
    faults, lacks = source.check(folder)
    if faults or (lacks and not partial):
        if not faults:
            advice += ' (--partial accepts fewer classes and images)'
        raise ValueError(
            f'{subject} is not the whole {source.title}: {"; ".join(faults + lacks)}; {advice}'
        )
    if lacks:
        print(f"'{target}' holds a part of {source.title}: {'; '.join(lacks)}")
    else:
        print(f"{source.title} is complete in '{target}'")
