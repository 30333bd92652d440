"""Fixtures of all tests."""

import prkd_mm  # noqa: F401  # before a test imports mmrazor by itself, isort: skip
import project
import pytest
import toy


@pytest.fixture(scope='session')
def ckpt(tmp_path_factory) -> str:
    """The checkpoint of a trained toy teacher, for reading only."""
    return toy.save_teacher(tmp_path_factory.mktemp('ckpt') / 'teacher.pth')


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A new folder with the configs and tools, as current directory."""
    monkeypatch.chdir(project.link_checkout(tmp_path))
    return tmp_path
