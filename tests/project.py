"""Paths of this project, and a helper that runs its commands."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from unittest import mock

import prkd_mm  # noqa: F401  isort: skip  # before mmpretrain, which it patches
import pytest
from mmengine.logging import MessageHub, MMLogger
from mmengine.visualization import Visualizer
from mmpretrain.visualization import UniversalVisualizer

from prkd_mm import cli

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / 'tests/data'
MINI = DATA / 'tiny-imagenet-mini'  # see the README next to it

# Relative to a checkout, as in a command. The digits need no download.
DIGITS = 'configs/quickstart/prkd_digits.py'
TEACHER_DIGITS = 'configs/quickstart/teacher_digits.py'


def link_checkout(folder: Path) -> Path:
    """Link the configs and tools into a folder, and return it."""
    for name in ('configs', 'tools'):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    return folder


def type_command(*command: str, cwd: Path = ROOT, fails: bool = False, **variables: str) -> str:
    """Run Python with a command line in a new process.

    Args:
        command: Script, or ``-m`` and a module, and its arguments.
        cwd: The folder to run it in.
        fails: Whether the command must fail; otherwise it must succeed.
        variables: Environment variables to set.

    Returns:
        Its output, including errors.
    """
    path = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env=dict(os.environ, PYTHONPATH=path, **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert (done.returncode != 0) == fails, done.stdout
    return done.stdout


def tool(name: str) -> ModuleType:
    """Import a script of ``tools/``."""
    spec = importlib.util.spec_from_file_location(f'tool_{name}', ROOT / f'tools/{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def error_of(name: str, *arguments: str) -> str:
    """The error message of a tool that is run in this process, in the current folder."""
    # two runs that start in the same second have the same name, and would share these
    for shared in (MMLogger, MessageHub, Visualizer, UniversalVisualizer):
        shared._instance_dict.clear()
    with mock.patch.object(sys, 'argv', [f'{name}.py', *arguments]):
        with pytest.raises(SystemExit) as end:
            cli.run(tool(name).main)
    return str(end.value)
