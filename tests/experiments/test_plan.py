"""Comparisons that are interrupted, or that find checkpoints of earlier runs."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from project import DIGITS, ROOT
from rich.console import Console

from prkd_mm.config import load_config
from prkd_mm.experiments import Job, plan, rows_of, run_all
from prkd_mm.experiments.job import TrainingFailed
from prkd_mm.experiments.pool import Pool


def name(checkout):
    """Name of its comparison, which no other process has in its command line."""
    return f'{checkout.parent.name}_{checkout.name}'


def running(checkout):
    """Processes of the comparison in this checkout that are alive: itself and its runs."""
    found = subprocess.run(
        ['pgrep', '-f', name(checkout)], stdout=subprocess.PIPE, text=True
    ).stdout
    return found.split()


@pytest.mark.slow
def test_a_terminated_comparison_ends_all_runs_and_starts_none(checkout):
    """SIGTERM acts like Ctrl-C, which Python itself turns into the same exception."""
    process = subprocess.Popen(
        [
            sys.executable,
            ROOT / 'tools/reproduce.py',
            DIGITS,
            '--methods',
            'ce,kd,prkd',
            '--teacher-options',
            f'experiment_name={name(checkout)}',
        ],
        stdout=subprocess.PIPE,
        text=True,
        cwd=checkout,
    )
    for line in process.stdout:
        if 'tools/train.py' in line:
            break
    deadline = time.monotonic() + 60
    while not list(checkout.glob('work_dirs/*/.lock')):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    assert len(running(checkout)) > 1
    process.terminate()
    rest = process.communicate(timeout=60)[0]
    assert process.returncode == 1 and '$ python' not in rest
    while running(checkout) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not running(checkout)


def test_a_teacher_trained_by_hand_is_not_trained_again(checkout):
    job, *_ = plan(DIGITS, ['kd'])
    job.work_dir.mkdir(parents=True)
    torch.save(dict(meta=dict(epoch=40), state_dict={}), job.work_dir / 'epoch_40.pth')
    (job.work_dir / 'last_checkpoint').write_text('epoch_40.pth')
    said = []
    job.run('no/train.py', lambda state, *_: said.append(state))
    assert said == ['found a finished checkpoint']
    (row,) = rows_of([job.record()])  # it has no log
    assert row.cells()[1] == '–'


@pytest.mark.parametrize('lr', [None, 0.3])
def test_other_settings_of_a_teacher_trained_by_hand_are_named(checkout, lr):
    options = {'optim_wrapper.optimizer.lr': lr} if lr else {}
    cfg = load_config('configs/quickstart/teacher_digits.py', options=options)
    own = load_config('configs/quickstart/teacher_digits.py').optim_wrapper.optimizer.lr
    job, *_ = plan(DIGITS, ['kd'])
    job.work_dir.mkdir(parents=True)
    meta = dict(epoch=40, cfg=cfg.pretty_text)
    torch.save(dict(meta=meta, state_dict={}), job.work_dir / 'epoch_40.pth')
    (job.work_dir / 'last_checkpoint').write_text('epoch_40.pth')
    said = []
    job.run('no/train.py', lambda state, *_: said.append(state))
    changed = f'; optim_wrapper.optimizer.lr was 0.3 and is now {own}' if lr else ''
    assert said == [f'found a finished checkpoint{changed}']


@pytest.mark.parametrize('logged, last', [(60, 60.0), (59, None)])
def test_a_teacher_trained_for_more_epochs_has_the_top1_of_its_checkpoint(checkout, logged, last):
    """Its config has 40 epochs; the log, 60 or 59."""
    job, *_ = plan(DIGITS, ['kd'])
    log = job.work_dir / '1/vis_data/scalars.json'
    log.parent.mkdir(parents=True)
    rows = [{'accuracy/top1': float(epoch), 'step': epoch} for epoch in range(1, logged + 1)]
    log.write_text(''.join(json.dumps(row) + '\n' for row in rows))
    torch.save(dict(meta=dict(epoch=60), state_dict={}), job.work_dir / 'epoch_60.pth')
    (job.work_dir / 'last_checkpoint').write_text('epoch_60.pth')
    job.run('no/train.py', lambda *_: None)
    assert job.record().last == last


def test_an_interrupted_teacher_is_resumed(checkout):
    job, *_ = plan(DIGITS, ['kd'])
    job.work_dir.mkdir(parents=True)
    torch.save(dict(meta=dict(epoch=1), state_dict={}), job.work_dir / 'epoch_1.pth')
    (job.work_dir / 'last_checkpoint').write_text('epoch_1.pth')
    echo = checkout / 'train.py'
    echo.write_text('import sys; print(sys.argv); sys.exit(3)')
    with pytest.raises(RuntimeError, match='--resume'):
        job.run(str(echo), lambda *_: None)


def test_a_config_without_epochs_is_refused(checkout):
    cfg = load_config(str(ROOT / 'configs/quickstart/teacher_digits.py'))
    cfg.train_cfg = dict(by_epoch=False, max_iters=3)
    cfg.dump('iterations.py')
    with pytest.raises(ValueError, match='not trained by epochs'):
        plan('iterations.py', ['kd'])


def test_each_method_has_a_work_dir_of_its_own(checkout):
    Path('mine.py').write_text(f"_base_ = '{ROOT / DIGITS}'\nwork_dir = 'runs/mine/'")
    jobs = plan('mine.py', ['ce', 'kd', 'prkd'], seeds=2)[1:]
    folders = [str(job.work_dir) for job in jobs]
    first = ['runs/mine_ce', 'runs/mine_kd', 'runs/mine']
    assert folders == first + [f'{folder}_seed1' for folder in first]
    with pytest.raises(ValueError, match='set work_dir in the config, or leave it out'):
        plan(DIGITS, ['ce', 'kd'], ['work_dir=here'])


def test_the_folder_of_a_run_in_progress_is_not_renamed(checkout):
    job = Job('KD', [DIGITS, '--method', 'kd', '--cfg-options', 'optim_wrapper.optimizer.lr=0.3'])
    first = Job('KD', [DIGITS, '--method', 'kd'])
    first.note(seconds=1.0)
    code = (
        'import sys, time; from prkd_mm.start.folder_lock import lock_folder\n'
        'with lock_folder(sys.argv[1]): print(1, flush=True); time.sleep(60)'
    )
    command = [sys.executable, '-c', code, str(job.work_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as running_job:
        running_job.stdout.readline()
        with pytest.raises(ValueError, match='another run is writing into'):
            job.run('no/train.py', lambda *_: None)
        assert first.notes() and not list(checkout.glob('work_dirs/*.1'))
        running_job.kill()


def test_default_hooks_can_be_left_out(checkout):
    off = dict(default_hooks=dict(tail_average=None, channels_last=None, logger=None))
    Path('off.py').write_text(f"_base_ = '{ROOT / DIGITS}'\ndefault_hooks = {off['default_hooks']}")
    hooks = load_config('off.py').default_hooks
    assert 'tail_average' not in hooks and 'channels_last' not in hooks
    assert hooks.logger is None  # MMEngine accepts None for its own hooks
    assert Job('x', ['off.py']).cfg.default_hooks == hooks


def test_a_config_with_a_single_method_has_one_run_per_seed_and_no_choice(checkout):
    own = load_config(DIGITS, 'prkd')
    own.pop('method')
    own.dump('my_prkd.py')
    with pytest.raises(ValueError, match='the method of my_prkd.py cannot be changed'):
        plan('my_prkd.py', ['kd', 'prkd'])
    jobs = plan('my_prkd.py', seeds=2)
    assert [job.name for job in jobs] == ['my_prkd', 'my_prkd']
    assert [job.name for job in plan('configs/quickstart/teacher_digits.py')] == ['alone']
    assert [job.method for job in plan(DIGITS)] == [None, 'ce', 'kd', 'prkd']


def test_a_net_without_a_scope_is_counted_in_the_default_scope_of_its_config(checkout):
    (checkout / 'net.py').write_text(
        "default_scope = 'mmpretrain'\ntrain_cfg = dict(max_epochs=1)\n"
        "val_dataloader = dict(dataset=dict(type='MNIST'))\nval_evaluator = dict(type='Accuracy')\n"
        "model = dict(type='ImageClassifier', backbone=dict(type='LeNet5', num_classes=10))\n"
    )
    (job,) = plan('net.py', [])
    assert job.num_parameters() == 61706  # LeNet-5, with the output layer of ten digits


def test_a_config_without_validation_is_refused(checkout):
    (checkout / 'a.py').write_text(f"_base_ = '{DIGITS}'\nval_dataloader = None\n")
    with pytest.raises(ValueError, match="'a.py' has no val_dataloader and val_evaluator"):
        plan('a.py', ['kd'])


def test_other_classes_than_the_teachers_are_found_before_it_is_trained(checkout):
    with pytest.raises(ValueError, match='the teacher has 10 classes and the student 7'):
        plan(DIGITS, ['kd'], ['model.architecture.head.num_classes=7'])


def test_an_error_in_the_options_of_the_teacher_names_them(checkout):
    message = '--teacher-options train_cfg.max_epoch: .* did you mean .max_epochs.'
    with pytest.raises(ValueError, match=message):
        plan(DIGITS, ['kd'], teacher_options=['train_cfg.max_epoch=3'])


FAILING = """
import sys
from pathlib import Path
Path('tried.txt').open('a').write(sys.argv[3] + ' ')
print('a list of hooks\\n' * 9 + 'error: the loss is NaN\\nlower the learning rate')
sys.exit(1)
"""


def test_a_failed_run_is_the_last_one_and_only_its_error_is_shown(checkout):
    (checkout / 'train.py').write_text(FAILING)
    jobs = plan(DIGITS, ['ce', 'kd', 'prkd'])[1:]
    with pytest.raises(TrainingFailed) as failed:
        Pool('train.py', Console(quiet=True)).run(jobs)
    assert (checkout / 'tried.txt').read_text().split() == ['ce']
    assert str(failed.value).endswith(
        'status 1:\nerror: the loss is NaN\nlower the learning rate\n'
    )


def test_a_method_can_be_any_file_next_to_the_others(checkout):
    """Its name is its title, and a misspelled one is an error."""
    os.unlink('configs')
    shutil.copytree(ROOT / 'configs', 'configs')
    Path('configs/_base_/methods/mine.py').write_text("_base_ = './kd.py'\nmethod = 'mine'\n")
    (teacher, *students) = plan(DIGITS, ['kd', 'mine'])
    assert [job.name for job in students] == ['KD', 'mine']
    assert students[1].work_dir.name == 'prkd_digits_mine'
    with pytest.raises(FileNotFoundError, match="no method 'mind' .*_base_/methods/mind.py"):
        plan(DIGITS, ['mind'])


def test_a_student_alone_under_another_name_needs_no_teacher(folder):
    os.unlink('configs')
    shutil.copytree(ROOT / 'configs', 'configs')
    Path('configs/_base_/methods/alone.py').write_text("_base_ = './ce.py'\nmethod = 'alone'\n")
    teacher, kd, alone = plan(DIGITS, ['kd', 'alone'], store_views=8)
    assert '--store-views' in kd.arguments and '--store-views' not in alone.arguments
    settings = alone.settings
    alone.teacher = None
    assert alone.settings == settings
    alone.teacher = teacher
    run_all([teacher, alone], 'train.py', Console(quiet=True))
    assert Path('trained.txt').read_text().split() == ['prkd_digits_alone']
