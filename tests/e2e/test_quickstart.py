"""`make train`, with two epochs for each student and eight for the teacher."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from project import DIGITS, ROOT
from scipy.stats import ttest_rel

LOGGED = 'default_hooks.logger.interval=5'
# small batches: 64 steps, after which a student is better than chance
SHORT = ['train_cfg.max_epochs=2', 'train_dataloader.batch_size=8', LOGGED]
RUNS = {'student alone': 'prkd_digits_ce', 'KD': 'prkd_digits_kd', 'PRKD': 'prkd_digits'}
SHORT_TEACHER = ['train_cfg.max_epochs=8', LOGGED]  # with fewer it is no better than chance


def run(folder: Path, *command: str) -> str:
    """What a command prints."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        text=True,
        check=True,
        env=dict(os.environ, COLUMNS='100'),
        stdout=subprocess.PIPE,
    ).stdout


def reproduce(folder: Path, *options: str, epochs_averaged: int = 1) -> str:
    for name in ('configs', 'tools'):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    return run(
        folder,
        'tools/reproduce.py',
        DIGITS,
        '--figures',
        'strength,spread',
        '--store-views',
        '0',
        *([] if '--seeds' in options else ['--seeds', '1']),
        *options,
        '--cfg-options',
        *SHORT,
        f'default_hooks.tail_average.num_epochs={epochs_averaged}',
        '--teacher-options',
        *SHORT_TEACHER,
    )


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('quickstart')


@pytest.fixture(scope='module')
def first(folder):
    return reproduce(folder)


def results_of(report: Path) -> dict:
    return json.loads((report / 'results.json').read_text())


def logged(folder: Path, run: str, key: str) -> float:
    (file,) = (folder / 'work_dirs' / run).glob('*/vis_data/scalars.json')
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return [row[key] for row in rows if key in row][-1]


def test_the_table_shows_what_the_runs_logged(folder, first):
    number = r' *\+?(-?[\d.]+|–)│'
    rows = re.findall(rf'^([a-zA-Z, ]+?) *│{number}{number}{number}', first, re.MULTILINE)
    raw, average = 'accuracy/top1', 'student_avg/accuracy/top1'
    (teacher, top1, *none), *students = rows
    assert teacher == 'teacher' and none == ['–', '–']
    assert float(top1) == pytest.approx(logged(folder, 'teacher_digits', raw), abs=0.005)
    assert [name for name, *_ in students] == list(RUNS)
    assert 'Teacher: live teacher' in first
    for name, *shown in students:
        last, averaged = (logged(folder, RUNS[name], key) for key in (raw, average))
        assert [float(text) for text in shown] == pytest.approx(
            [last, averaged, averaged - last], abs=0.005
        )


def test_progress_and_commands_are_visible(first):
    assert '$ python tools/train.py configs/quickstart/teacher' in first
    assert re.search(r'KD: epoch 2/2 +loss \d', first)


def test_the_report_is_one_page_that_opens_offline(folder, first):
    report = folder / 'results/prkd_digits'
    page = (report / 'report.html').read_text()
    assert re.findall('<h2>(.*?)</h2>', page) == [
        'Top-1',
        'Strength of the supervision',
        'Spread of the last students',
        'Paired differences',
        'Paired differences in the last epoch',
        'Accuracy',
        'Schedule',
        'Strength',
        'Spread',
    ]
    summaries = ['How to read the tables', 'Protocol', 'Commands']
    assert re.findall('<summary>(.*?)</summary>', page) == summaries
    assert results_of(report)['finding'] in page
    assert page.count('src="data:image/png;base64,') == 4
    assert (report / 'strength.json').exists()
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    results = results_of(report)
    assert [row['name'] for row in results['rows']] == ['teacher', 'student alone', 'KD', 'PRKD']
    for row in results['rows']:  # each number is in the page and the table
        for text in (page, (report / 'results.md').read_text()):
            assert f'{row["last"][0]:.2f}' in text
        assert row['best'][0] >= row['last'][0]
    assert results['protocol']['epochs'] == '2'


def test_the_distance_of_the_last_students_is_that_of_their_checkpoints(folder, first):
    for row, run in zip(results_of(folder / 'results/prkd_digits')['rows'][1:], RUNS.values()):
        one, other = (
            torch.cat(
                [
                    weight.flatten()
                    for name, weight in torch.load(path)['state_dict'].items()
                    if name.startswith('architecture.') and name.endswith(('weight', 'bias'))
                ]
            )
            for path in (folder / 'work_dirs' / run / f'epoch_{n}.pth' for n in (1, 2))
        )
        ((distance, norm),) = row['step']
        assert distance == pytest.approx((one - other).norm().item(), rel=1e-5) and distance > 0
        assert norm == pytest.approx(((one + other) / 2).norm().item(), rel=1e-5)


def test_two_seeds_can_run_at_the_same_time(folder, first):
    """Seed 0 is already trained; the runs of seed 1 train at the same time."""
    said = reproduce(
        folder, '--seeds', '2', '--jobs', '2', '--methods', 'kd,prkd', '--out', 'results/seeds'
    )
    assert len(re.findall(r': already finished$', said, re.M)) == 3
    results = results_of(folder / 'results/seeds')
    kd, prkd = results['rows'][1:]
    for row, run in ((kd, 'prkd_digits_kd'), (prkd, 'prkd_digits')):
        assert row['last'] == [
            logged(folder, name, 'accuracy/top1') for name in (run, f'{run}_seed1')
        ]
        assert row['last'][0] != row['last'][1]
    (pair, *_) = results['differences']
    assert (pair['better'], pair['worse']) == ('PRKD', 'KD')
    paired = [a - b for a, b in zip(prkd['averaged'], kd['averaged'])]
    interval = ttest_rel(prkd['averaged'], kd['averaged']).confidence_interval(0.95)
    assert pair['values'] == pytest.approx(paired)
    assert pair['interval'] == pytest.approx([interval.low, interval.high])
    assert f'{interval.low:+.2f} to {interval.high:+.2f}' in said


def test_finished_runs_are_kept_and_changed_runs_are_repeated(folder, first):
    work_dirs = folder / 'work_dirs'
    teacher = (work_dirs / 'teacher_digits/epoch_8.pth').stat().st_mtime_ns
    assert 'already finished' in reproduce(folder)
    changed = reproduce(folder, epochs_averaged=2)
    assert (work_dirs / 'prkd_digits.1/student_avg.pth').exists()  # kept
    assert re.search(r'PRKD: epoch 2/2', changed)
    assert teacher == (work_dirs / 'teacher_digits/epoch_8.pth').stat().st_mtime_ns


def test_a_student_can_be_trained_on_stored_logits(folder, first):
    """Run `cache_teacher.py` twice, then train without a teacher."""
    logits = 'work_dirs/teacher_digits_2_views'
    for _ in range(2):
        said = run(folder, 'tools/cache_teacher.py', DIGITS, '--views', '2')
        assert 'Logits of 2 views of 256 images, all 10 classes: 0.0102 MB' in said
        assert f'--cfg-options model.teacher_logits={logits}' in said
    said = run(
        folder,
        'tools/train.py',
        DIGITS,
        '--work-dir',
        'stored',
        '--cfg-options',
        f'model.teacher_logits={logits}',
        *SHORT,
        'default_hooks.tail_average.num_epochs=1',
    )
    top1 = logged(folder, 'teacher_digits', 'accuracy/top1')
    assert f'Teacher, when its logits were stored: accuracy/top1: {top1:.4f}' in said
    assert (folder / 'stored/student_avg.pth').exists()
    with pytest.raises(subprocess.CalledProcessError):  # another number of views
        run(folder, 'tools/cache_teacher.py', DIGITS, '--views', '3', '--out', logits)


def test_a_failing_run_ends_with_an_error(folder, first):
    with pytest.raises(subprocess.CalledProcessError) as error:  # averages more than it trains
        reproduce(folder, '--methods', 'dist', epochs_averaged=3)
    assert error.value.returncode == 1
