"""Fixtures that all tests share."""

import copy
import functools
import gc
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import prkd_mm  # noqa: F401  # before a test imports mmrazor by itself, isort: skip
import project
import pytest
import toy
from mmengine.config import Config, utils
from mmengine.dataset import base_dataset
from mmengine.hub import hub


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what takes long: whole runs of tools, runs of several ranks, benchmarks."""
    for item in items:
        if 'e2e' in item.path.parts:
            item.add_marker('e2e')
        elif 'benchmarks' in item.path.parts:
            item.add_marker('bench')
        elif item.path.name == 'test_distributed.py':
            item.add_marker('slow')


def pytest_collection_finish() -> None:
    """Exclude the imported modules from garbage collection."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope='session', autouse=True)
def fast_mmengine():
    """Let MMEngine skip work that takes most of the time of small tests.

    It runs the garbage collector for each data set that it builds, parses all metafiles of a
    package for each config named by it, and reads the same configs again and again.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base_dataset, 'gc', SimpleNamespace(collect=lambda: 0))
        known = functools.cache(utils._get_cfg_metainfo)
        for module in (hub, utils):
            patch.setattr(module, '_get_cfg_metainfo', known)
        patch.setattr(Config, '_file2dict', read_once(Config._file2dict))
        yield


def read_once(read: Callable) -> Callable:
    """A function that reads config files, but each one of a package or of ``configs`` only once."""
    known = {}
    own = f'{project.ROOT / "configs"}{os.sep}'

    def file2dict(filename, *args, **kwargs):
        path = os.path.realpath(filename)
        if not path.startswith(own) and '.mim' not in Path(path).parts:
            return read(filename, *args, **kwargs)
        variables = (os.environ.get(name) for name in ('PRKD_METHOD', 'PRKD_CIFAR10'))
        key = (path, *variables, args, *kwargs.items())
        if key not in known:
            known[key] = read(filename, *args, **kwargs)
        return copy.deepcopy(known[key])

    return file2dict


@pytest.fixture(scope='session')
def ckpt(tmp_path_factory) -> str:
    """The checkpoint of a trained toy teacher, for reading only."""
    return toy.save_teacher(tmp_path_factory.mktemp('ckpt') / 'teacher.pth')


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A new folder with the configs and tools, as current directory."""
    monkeypatch.chdir(project.link_checkout(tmp_path))
    return tmp_path


@pytest.fixture(scope='session')
def mini(tmp_path_factory) -> Path:
    """Seventy images of Tiny ImageNet in the official layout, for reading only."""
    target = tmp_path_factory.mktemp('mini') / project.MINI.name
    return shutil.copytree(project.MINI, target)


@pytest.fixture(scope='session')
def mini_zip(mini, tmp_path_factory) -> Path:
    """An archive of these images."""
    target = tmp_path_factory.mktemp('archive') / mini.name
    return Path(shutil.make_archive(str(target), 'zip', mini.parent, mini.name))
