"""Real Tiny ImageNet files: ten classes of it, in the official layout."""

import os
import runpy
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
DATA = REPO.parent / 'shared' / 'data'
TOOL = str(REPO / 'tools' / 'prepare_data.py')


@pytest.fixture(scope='session')
def mini_zip():
    path = DATA / 'tiny-imagenet-mini.zip'
    if not path.is_file():
        pytest.skip(f'{path.name} is not in shared/data beside the checkout')
    return path


@pytest.fixture(scope='session')
def mini(mini_zip, tmp_path_factory):
    """The unpacked folder, for reading only."""
    target = tmp_path_factory.mktemp('mini')
    with zipfile.ZipFile(mini_zip) as f:
        f.extractall(target)
    return target / 'tiny-imagenet-mini'


@pytest.fixture
def copy(mini, tmp_path):
    """A copy of that folder, to be damaged: JPEGs are links, only removed."""

    def link_or_copy(source, path):
        (os.link if path.endswith('.JPEG') else shutil.copy)(source, path)

    return Path(shutil.copytree(mini, tmp_path / 'mini', copy_function=link_or_copy))


@pytest.fixture
def tool(monkeypatch, capsys, tmp_path):
    """Run ``prepare_data.py`` in this process: status, stdout, error."""

    def run(*args, dataset='tinyimagenet'):
        monkeypatch.setattr(
            sys, 'argv', [TOOL, dataset, '--root', str(tmp_path / 'data'), *map(str, args)]
        )
        capsys.readouterr()
        try:
            runpy.run_path(TOOL, run_name='__main__')
        except SystemExit as e:
            return 1, capsys.readouterr().out, str(e)
        return 0, capsys.readouterr().out, ''

    return run
