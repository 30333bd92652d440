"""`make train`, cut to two epochs a run."""
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONFIG = 'configs/quickstart/prkd_digits.py'
SHORT = ['train_cfg.max_epochs=2', 'default_hooks.logger.interval=5']


def reproduce(folder: Path, epochs_averaged: int = 1) -> str:
    for name in ('configs', 'tools'):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    return subprocess.run([
        sys.executable, 'tools/reproduce.py', CONFIG, '--cfg-options', *SHORT,
        f'default_hooks.tail_average.num_epochs={epochs_averaged}',
        '--teacher-options', *SHORT
    ], cwd=folder, env=dict(os.environ, COLUMNS='100'), text=True, check=True,
                          stdout=subprocess.PIPE).stdout


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('quickstart')


@pytest.fixture(scope='module')
def first(folder):
    return reproduce(folder)


def logged(folder: Path, run: str, key: str) -> float:
    file, = (folder / 'work_dirs' / run).glob('*/vis_data/scalars.json')
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return [row[key] for row in rows if key in row][-1]


def test_the_table_shows_what_the_runs_logged(folder, first):
    rows = dict(
        re.findall(r'│ ([a-zA-Z, ]+?) +│ +([\d.]+) │ +[\d,]+ │', first))
    raw, average = 'accuracy/top1', 'student_avg/accuracy/top1'
    assert {name: float(value) for name, value in rows.items()} == {
        name: pytest.approx(logged(folder, run, key), abs=0.005)
        for name, run, key in [
            ('teacher', 'teacher_digits', raw),
            ('student alone', 'prkd_digits_ce', raw),
            ('student, KD', 'prkd_digits_kd', raw),
            ('student, PRKD', 'prkd_digits', raw),
            ('student, PRKD, averaged', 'prkd_digits', average),
        ]
    }


def test_progress_and_commands_are_visible(first):
    assert '$ python tools/train.py configs/quickstart/teacher' in first
    assert re.search(r'student, KD: epoch 2/2 +loss \d', first)


def test_figures(folder, first):
    for name in ('comparison.png', 'schedule.png', 'comparison.json'):
        assert (folder / 'work_dirs/prkd_digits' / name).stat().st_size > 0


def test_finished_runs_stay_and_changed_ones_run_again(folder, first):
    work_dirs = folder / 'work_dirs'
    teacher = (work_dirs / 'teacher_digits/epoch_2.pth').stat().st_mtime_ns
    assert 'done before' in reproduce(folder)
    changed = reproduce(folder, epochs_averaged=2)
    assert (work_dirs / 'prkd_digits.1/student_avg.pth').exists()  # kept
    assert re.search(r'student, PRKD: epoch 2/2', changed)
    assert teacher == (work_dirs /
                       'teacher_digits/epoch_2.pth').stat().st_mtime_ns


def test_a_failing_run_shows_what_it_said(tmp_path):
    with pytest.raises(subprocess.CalledProcessError) as error:
        reproduce(tmp_path, epochs_averaged=3)
    assert error.value.returncode == 1
