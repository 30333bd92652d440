"""Fixtures for the tests of the data sets."""

import os
import runpy
import shutil
import sys
from pathlib import Path

import pytest
from project import ROOT

TOOL = str(ROOT / 'tools/prepare_data.py')


@pytest.fixture
def copy(mini, tmp_path):
    """A copy of that folder, which tests may damage. JPEGs are hard links: remove, do not edit."""

    def link_or_copy(source, path):
        (os.link if path.endswith('.JPEG') else shutil.copy)(source, path)

    return Path(shutil.copytree(mini, tmp_path / 'mini', copy_function=link_or_copy))


@pytest.fixture
def tool(monkeypatch, capsys, tmp_path):
    """Run ``prepare_data.py`` in this process; returns exit status, stdout and error."""

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
