"""Check an installation: list what is installed, what is wrong, and how to fix it."""

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import torch

from . import compat
from .checkpoints import resolve
from .cli import command_of
from .config import load_config
from .datasets.prepare.prepare import SOURCES
from .version import __version__

# The versions in requirements.txt, with which all tests run.
TESTED = {
    'mmengine': '0.10.7',
    'mmcv-lite': '2.1.0',
    'mmpretrain': '1.2.0',
    'mmrazor': '1.0.0',
    'torch': '2.13.0',
    'torchvision': '0.28.0',
    'numpy': '1.26.4',
    'opencv-python': '4.11.0.86',
    'setuptools': '81.0.0',
}
_EITHER = {'mmcv-lite': 'mmcv', 'opencv-python': 'opencv-python-headless'}
_CONFIGS = Path(__file__).parent / '.mim' / 'configs'


@dataclass
class Finding:
    """One line of the report."""

    text: str
    remedy: Optional[str] = None  # how to fix a problem, usually a command


def version_of(package: str) -> Optional[str]:
    """Installed version of a package, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def versions() -> Iterator[Finding]:
    """Installed versions, compared with the tested ones."""
    yield Finding(f'Python {platform.python_version()} (tested: 3.9 to 3.12)')
    for package, tested in TESTED.items():
        found = version_of(package)
        other = _EITHER.get(package, '')
        if found is None and other:
            package, found = other, version_of(other)
        if found is None:
            yield Finding(f'{package} is missing', f'pip install {package}=={tested}')
        elif found.partition('+')[0] == tested:
            yield Finding(f'{package} {found}')
        else:
            yield Finding(f'{package} {found} (tested: {tested})')


def conflicts() -> Iterator[Finding]:
    """Combinations of packages that do not work together."""
    if version_of('mmcv') and version_of('mmcv-lite'):
        yield Finding(
            'mmcv and mmcv-lite are both installed and overwrite each other',
            'pip uninstall -y mmcv mmcv-lite && pip install mmcv-lite==2.1.0',
        )
    try:
        importlib.import_module('cv2')
    except ImportError as error:
        yield Finding(
            f'OpenCV cannot be imported: {error}',
            'pip uninstall -y opencv-python && pip install opencv-python-headless==4.11.0.86',
        )
    if int((version_of('numpy') or '1').partition('.')[0]) > 1:
        yield Finding(
            'numpy 2: ColorJitter with a hue fails in mmcv 2.1',
            'pip install "numpy<2" "opencv-python<4.12"',
        )


def mim() -> Iterator[Finding]:
    """Whether OpenMMLab's ``mim`` finds this package."""
    package = Path(__file__).parent
    install = f'pip install --no-deps -e {shlex.quote(str(package.resolve().parent))}'
    try:
        installed = importlib.metadata.distribution('prkd_mm')
    except importlib.metadata.PackageNotFoundError:
        yield Finding('prkd_mm is used from a folder that is not installed', install)
        return
    names = (installed.read_text('top_level.txt') or '').split()
    if any(Path(str(installed.locate_file(name))).exists() for name in ['prkd_mm', *names[:1]]):
        yield Finding('mim finds prkd_mm')
    else:
        text = 'mim does not find prkd_mm, since an older setup.py installed it'
        # this is a problem only if mim is installed
        yield Finding(text, install if version_of('openmim') else None)


def patches() -> Iterator[Finding]:
    """The patches that were applied, each with its reason."""
    try:
        for name, reason in compat.describe().items():
            yield Finding(f'{name}: {reason}')
    except ImportError as error:
        yield Finding(f'none, since a package is missing: {error}')


def devices() -> Iterator[Finding]:
    """CPU cores and GPUs that PyTorch can use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    yield Finding(f'{cores} CPU cores, {torch.get_num_threads()} PyTorch threads')
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        memory = properties.total_memory / 2**30
        yield Finding(f'GPU {index}: {properties.name}, {memory:.0f} GiB')
    if not torch.cuda.is_available():
        yield Finding('no GPU that PyTorch can use; everything runs on the CPU')
    if torch.version.cuda is None and Path('/proc/driver/nvidia').exists():
        yield Finding(
            'this computer has an NVIDIA GPU, but PyTorch is a build for CPUs',
            'pip install --force-reinstall torch==2.13.0 torchvision==0.28.0 '
            '--index-url https://download.pytorch.org/whl/cu128',
        )


def data_sets() -> Iterator[Finding]:
    """The data sets of ``tools/prepare_data.py``, and whether they are in ``data``."""
    for name, source in SOURCES.items():
        folder = Path('data', source.folder)
        if folder.exists():
            yield Finding(f'{source.title} in {folder}')
        else:
            yield Finding(f'{source.title} is missing: {command_of("prepare_data.py")} {name}')


def teachers() -> Iterator[Finding]:
    """The trained teachers, in the work dirs of their configs."""
    missing = []
    for config in sorted([*_CONFIGS.glob('teachers/*.py'), *_CONFIGS.glob('quickstart/teach*.py')]):
        try:
            yield Finding(f'{config.stem}: {resolve(load_config(str(config)).work_dir)}')
        except FileNotFoundError:
            missing.append(f'configs/{config.relative_to(_CONFIGS)}')
    if missing:
        example = f'{command_of("train.py")} {missing[0]}'
        yield Finding(f'{len(missing)} not trained yet; for example: {example}')


SECTIONS = {
    'Versions': versions,
    'Conflicts': conflicts,
    'mim': mim,
    'Patches': patches,
    'Devices': devices,
    'Data sets': data_sets,
    'Teachers': teachers,
}


def main() -> int:
    """Print the report, and return the number of problems, which is the exit status."""
    print(f'prkd_mm {__version__} in {Path(__file__).parent}, Python {sys.executable}')
    problems = 0
    for title, check in SECTIONS.items():
        print(f'\n{title}')
        for finding in list(check()) or [Finding('none')]:
            print(f'  {"x" if finding.remedy else "-"} {finding.text}')
            if finding.remedy:
                problems += 1
                print(f'      fix: {finding.remedy}')
    print(f'\n{problems or "no"} problem{"s" if problems != 1 else ""}')
    return problems
