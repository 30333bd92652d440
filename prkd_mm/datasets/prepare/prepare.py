"""Implementation of ``tools/prepare_data.py``."""

import os
import shutil
from collections.abc import Sequence
from glob import escape, iglob
from os import path as osp
from typing import Optional

from mmpretrain.datasets.utils import check_integrity

from .checks import CHECKS
from .fetch import copy_folder, download
from .source import SOURCES, Source
from .unpack import NOTHING, unpack

__all__ = ['SOURCES', 'prepare']


def prepare(
    source: Source,
    archives: Sequence[str] = (),
    root: str = 'data',
    name: Optional[str] = None,
    partial: bool = False,
) -> None:
    """Create the folder of a data set, either complete or not at all.

    The files are unpacked and checked in a hidden folder next to it. This folder is renamed when it
    is complete.

    Args:
        source: Origin of the data set.
        archives: Archives that together contain the data set, or a folder that contains it. If
            empty, the official archive is downloaded.
        root: Folder of all data sets.
        name: Name of the new folder inside ``root``. None means ``source.folder``.
        partial: Whether to accept an incomplete data set.

    Raises:
        FileNotFoundError: If one of ``archives`` does not exist.
        ValueError: If the data is incomplete, damaged or unsafe.
        ConnectionError: If the download fails.
        OSError: If the disk has too little free space.
    """
    name = name or source.folder
    if name in ('.', '..') or osp.basename(name) != name:
        raise ValueError(f'--name must be the name of a folder inside {root!r}, got {name!r}')
    target = osp.join(root, name)
    if osp.exists(target):
        advice = 'remove it first, or choose another --name'
        _verify(source, target, target, partial, f"'{target}', which exists,", advice)
        return
    _check_sources(source, archives)
    is_new = not osp.exists(root)
    os.makedirs(root, exist_ok=True)
    try:
        _obtain(source, archives, target, partial)
    finally:
        if is_new and not os.listdir(root):
            os.rmdir(root)


def _obtain(source: Source, archives: Sequence[str], target: str, partial: bool) -> None:
    if archives:
        _assemble(source, archives, target, partial)
        return
    root = osp.dirname(target)
    official = osp.join(root, osp.basename(source.url))
    existed = check_integrity(official, source.md5)
    if not existed:
        print(f'Downloading {source.url}', flush=True)
        download(source.url, official, source.md5)
    _assemble(source, [official], target, partial)
    if not existed:  # otherwise it belongs to the user
        os.remove(official)


def _assemble(source: Source, archives: Sequence[str], target: str, partial: bool) -> None:
    """Unpack and check the sources in a hidden folder, and rename it to ``target``."""
    root, name = osp.split(target)
    work = osp.join(root, f'.{name}.partial')
    shutil.rmtree(work, ignore_errors=True)  # left by a run that was killed
    os.mkdir(work)
    try:
        unpacked = NOTHING
        for path in archives:
            if osp.isdir(path):
                copy_folder(path, work)
            else:
                unpacked = unpack(path, work, source, unpacked)
        top = _find_top(work, source.marker)
        subject, advice = 'the content of the sources', 'pass all archives of the set with --source'
        _verify(source, top, target, partial, subject, advice)
        os.replace(top, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _check_sources(source: Source, archives: Sequence[str]) -> None:
    for path in archives:
        if not osp.exists(path):
            raise FileNotFoundError(f"'{path}' does not exist")
        if osp.isdir(path) and not _has(path, source.marker):
            raise FileNotFoundError(
                f"the folder '{path}' does not contain {source.title}: there is no "
                f'{source.marker} in it; if it contains archives, pass those'
            )


def _has(folder: str, marker: str) -> bool:
    return any(map(osp.isfile, iglob(osp.join(escape(folder), marker))))


def _find_top(work: str, marker: str) -> str:
    # archives may contain the top folder or only its content
    folders = [work, *(e.path for e in os.scandir(work) if e.is_dir())]
    tops = [f for f in folders if _has(f, marker)]
    if len(tops) > 1:
        names = ', '.join(sorted(osp.basename(f) for f in tops))
        raise ValueError(f'there is more than one data set: {names}')
    return tops[0] if tops else folders[-1]


def _verify(
    source: Source, folder: str, target: str, partial: bool, subject: str, advice: str
) -> None:
    faults, missing = CHECKS[source.name](folder)
    if faults or (missing and not partial):
        if not faults:
            advice += ' (--partial accepts fewer classes and images)'
        raise ValueError(
            f'{subject} is not the complete {source.title}: {"; ".join(faults + missing)}; {advice}'
        )
    if missing:
        print(f"'{target}' contains a part of {source.title}: {'; '.join(missing)}")
    else:
        print(f"{source.title} is complete in '{target}'")
