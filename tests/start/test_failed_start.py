"""A run that fails before its first iteration leaves the folder as it was."""

import contextlib
import functools
import os
import signal
from pathlib import Path

import project
import pytest
import torch
import toy
from mmpretrain.registry import MODELS
from torch import nn

from prkd_mm.config import load_config
from prkd_mm.start import failed_start
from prkd_mm.start.failed_start import has_trained, is_of_earlier_run, restored_after_failed_start
from prkd_mm.start.resume import find_resume_point

RUN = ('last_checkpoint', 'epoch_9.pth', 'iter_4.pth', 'best_top1_epoch_9.pth', 'student_avg.pth')
FAILURES = dict(
    setting=['train', project.DIGITS, '--cfg-options', 'train_cfg.max_epochs=0'],
    teacher=['train', project.DIGITS],
    loss=[
        'train', project.DIGITS, '--method', 'kd', '--cfg-options', 'model.teacher_ckpt=None',
        'model.distiller.distill_losses.loss_kl.tau=x',
    ],
    batch=['train', project.TEACHER_DIGITS, '--cfg-options', 'train_dataloader.batch_size=5000'],
    hook=[
        'train', project.TEACHER_DIGITS, '--cfg-options', 'custom_hooks.0.type=NoSuchHook',
    ],
    dataset=[
        'train', project.TEACHER_DIGITS, '--cfg-options', 'train_dataloader.dataset.type=NoSet',
    ],
    resume=['train', project.TEACHER_DIGITS, '--resume', 'no.pth'],
    tune=['tune', 'no.py'],
    tune_of_a_short_run=['tune', project.DIGITS, '--tail', '90'],
    classes=['train', project.TEACHER_DIGITS, '--cfg-options', 'model.head.num_classes=3'],
    test=['test', project.TEACHER_DIGITS, 'weights.pth'],
    test_without_data=[
        'test', project.TEACHER_DIGITS, 'teacher.pth', '--cfg-options',
        'test_dataloader.dataset.dataset.num_train=0',
    ],
    test_of_an_unknown_metric=[
        'test', project.TEACHER_DIGITS, 'teacher.pth', '--cfg-options',
        'test_evaluator.type=NoSuchMetric',
    ],
)  # fmt: skip


@functools.cache
def teacher() -> nn.Module:
    """The net of the config, untrained."""
    return MODELS.build(load_config(str(project.ROOT / project.TEACHER_DIGITS)).model)


def contents(folder) -> dict:
    """Content of each file, and None for each folder."""
    return {
        path.relative_to(folder): path.read_bytes() if path.is_file() else None
        for path in folder.rglob('*')
        if 'configs' not in path.parts and 'tools' not in path.parts
    }


@pytest.mark.parametrize('existing', [False, True])
@pytest.mark.parametrize('command', FAILURES.values(), ids=FAILURES)
def test_a_command_that_fails_leaves_nothing(checkout, command, existing):
    torch.save(dict(state_dict=dict(a=torch.ones(1))), 'weights.pth')
    torch.save(dict(state_dict=teacher().state_dict()), 'teacher.pth')
    if existing:
        for name in ('prkd_digits', 'teacher_digits', 'prkd_digits_kd'):
            folder = checkout / 'work_dirs' / name
            folder.mkdir(parents=True)
            (folder / f'{name}.py').write_text('a = 1')
            (folder / 'notes.txt').write_text('mine')
    before = contents(checkout)
    assert project.error_of(*command).startswith('error: ')
    assert contents(checkout) == before


@pytest.mark.parametrize('fails', [None, 'before', 'after'])
def test_an_earlier_run_is_moved_unless_the_new_one_fails_to_start(tmp_path, fails):
    folder = tmp_path / 'run'
    (folder / '20260102_030405').mkdir(parents=True)
    (folder / 'photos').mkdir()
    for name in (*RUN, 'notes.txt', 'photos/best_of_all.pth', 'run.py'):
        (folder / name).write_text('old')
    old = contents(folder)
    with pytest.raises(ValueError) if fails else contextlib.nullcontext():
        with restored_after_failed_start(folder, lambda: fails == 'after') as set_aside:
            (folder / 'run.py').write_text('new')
            assert set_aside() == tmp_path / 'run.1'
            (folder / 'epoch_9.pth').write_text('new')
            if fails:
                raise ValueError
    if fails == 'before':
        assert contents(folder) == old and not (tmp_path / 'run.1').exists()
        return
    moved = contents(tmp_path / 'run.1')
    assert moved == {Path(name): old[Path(name)] for name in (*RUN, 'run.py', '20260102_030405')}
    new = {str(path): content for path, content in contents(folder).items() if content}
    expected = {'notes.txt': b'old', 'photos/best_of_all.pth': b'old'}
    assert new == dict(expected, **{'run.py': b'new', 'epoch_9.pth': b'new'})


def test_checkpoints_with_the_names_of_the_config_are_moved(tmp_path):
    """A run resumes from them if the new one is killed before its first checkpoint."""
    folder, template = tmp_path / 'run', 'ckpt_{}.pth'
    folder.mkdir()
    for name in ('ckpt_10.pth', 'epoch_9.pth', 'ckpt_best.pth'):
        (folder / name).touch()
    assert is_of_earlier_run(folder / 'ckpt_10.pth', folder, template)
    with restored_after_failed_start(folder, template=template) as set_aside:
        set_aside()
    assert [path.name for path in folder.iterdir()] == ['ckpt_best.pth']
    assert find_resume_point(folder, template).path is None


def test_an_interrupted_start_is_not_continued(tmp_path):
    (tmp_path / 'epoch_9.pth').write_text('old')
    with pytest.raises(SystemExit, match='before anything was computed; nothing changed'):
        with restored_after_failed_start(tmp_path) as set_aside:
            set_aside()
            raise KeyboardInterrupt
    assert (tmp_path / 'epoch_9.pth').read_text() == 'old'


def test_weights_in_the_folder_of_the_new_run_are_refused(checkout):
    folder = checkout / 'work_dirs/teacher_digits'
    folder.mkdir(parents=True)
    torch.save(dict(state_dict=teacher().state_dict()), folder / 'epoch_9.pth')
    (folder / 'last_checkpoint').write_text('epoch_9.pth')
    before = contents(checkout)
    weights = 'load_from=work_dirs/teacher_digits/epoch_9.pth'
    text = project.error_of('train', project.TEACHER_DIGITS, '--cfg-options', weights)
    assert 'belongs to the earlier run in the work dir of the new one' in text
    for path in ('work_dirs/teacher_digits', 'work_dirs/teacher_digits/epoch_9.pth'):
        options = ['--work-dir', 'work_dirs/teacher_digits', '--cfg-options']
        text = project.error_of('train', project.DIGITS, *options, f'model.teacher_ckpt={path}')
        assert 'set another --work-dir' in text
    assert contents(checkout) == before


@pytest.mark.e2e
def test_a_second_run_does_not_mix_with_the_first(checkout):
    command = ['tools/train.py', project.TEACHER_DIGITS, '--cfg-options']
    project.type_command(*command, 'train_cfg.max_epochs=2', cwd=checkout)
    text = project.type_command(*command, 'train_cfg.max_epochs=1', cwd=checkout)
    assert "the earlier run in './work_dirs/teacher_digits' is now in" in text
    assert len(list(checkout.glob('work_dirs/teacher_digits/2*'))) == 1
    first, second = (checkout / f'work_dirs/teacher_digits{end}' for end in ('.1', ''))
    assert sorted(path.name for path in first.glob('epoch_*')) == ['epoch_1.pth', 'epoch_2.pth']
    assert [path.name for path in second.glob('epoch_*')] == ['epoch_1.pth']


def test_new_files_of_others_are_kept_after_a_failed_start(tmp_path):
    """Other programs may write into the same folder, and a store of logits took long to fill."""
    others = {'prkd_digits', 'analysis', 'test', 'export', 'teacher_8_views', 'notes.txt', 'a.pth'}
    with pytest.raises(ValueError):
        with restored_after_failed_start(tmp_path):
            for name in {*others, '20260102_030405', 'run.py', 'schedule.png'}:
                file = tmp_path / name / 'scalars.json' if '.' not in name else tmp_path / name
                file.parent.mkdir(exist_ok=True)
                file.touch()
            raise ValueError
    assert {path.name for path in tmp_path.iterdir()} == others
    assert (tmp_path / 'prkd_digits/scalars.json').exists()


def test_a_finished_run_that_resumes_has_computed_something(tmp_path):
    """An interrupt after its average was written must not remove it."""
    cfg = toy.config(toy.classifier(), tmp_path)
    assert not has_trained(toy.start(cfg))
    finished = toy.train(cfg)
    resumed = toy.resume(cfg, tmp_path / 'epoch_2.pth')
    assert resumed.iter == finished.iter and has_trained(resumed, first=finished.iter)


def test_files_of_a_run_that_has_computed_something_are_kept(tmp_path):
    with pytest.raises(ValueError):
        with restored_after_failed_start(tmp_path, has_started=lambda: True):
            (tmp_path / 'run.log').write_text('')
            raise ValueError
    assert (tmp_path / 'run.log').exists()


@pytest.mark.parametrize(
    'path, moved',
    [
        ('run', True),
        ('run/', True),
        ('run/epoch_9.pth', True),
        ('other/../run/best_accuracy_top1_epoch_9.pth', True),
        ('run/export/student.onnx', True),
        ('run/teacher/epoch_9.pth', False),
        ('run/weights.pth', False),
        ('run.1/epoch_9.pth', False),
        ('epoch_9.pth', False),
    ],
)
def test_only_what_a_new_run_moves_belongs_to_the_earlier_one(tmp_path, path, moved):
    assert is_of_earlier_run(f'{tmp_path}/{path}', tmp_path / 'run') is moved


def test_a_link_and_its_file_belong_to_the_earlier_run_if_one_of_them_is_moved(tmp_path):
    (tmp_path / 'run').mkdir()
    for link, file in (('run/epoch_9.pth', 'a.pth'), ('b.pth', 'run/epoch_8.pth')):
        (tmp_path / file).write_text('')
        (tmp_path / link).symlink_to(tmp_path / file)
        assert is_of_earlier_run(tmp_path / link, tmp_path / 'run')
    assert not is_of_earlier_run(tmp_path / 'a.pth', tmp_path / 'run')


def test_a_signal_does_not_end_the_restoring(tmp_path, monkeypatch):
    """A launcher sends SIGTERM to all processes when one of them has failed."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    restore = failed_start._restore

    def restore_while_terminated(*args):
        os.kill(os.getpid(), signal.SIGTERM)
        restore(*args)

    monkeypatch.setattr(failed_start, '_restore', restore_while_terminated)
    try:
        with pytest.raises(ValueError, match='no teacher'), restored_after_failed_start(tmp_path):
            (tmp_path / 'schedule.png').touch()
            raise ValueError('no teacher')
        assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not list(tmp_path.iterdir())
