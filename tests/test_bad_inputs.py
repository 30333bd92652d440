"""Bad inputs and the error messages for them.

Each row has a pattern of the message. No test here may train or build a net.
"""

import sys
from pathlib import Path

import project
import pytest
import torch
from mmrazor.registry import MODELS

from prkd_mm import cli
from prkd_mm.checkpoints import load_strictly, read, resolve
from prkd_mm.config import load_config
from prkd_mm.hooks import LossScheduleHook, TailAverageHook, TeacherCheckHook
from prkd_mm.launch import processes_of
from prkd_mm.resume import find_resume_point, read_for_resume

ROOT = Path(project.ROOT)
DIGITS = str(ROOT / 'configs/quickstart/prkd_digits.py')
TEACHER = str(ROOT / 'configs/quickstart/teacher_digits.py')

TYPOS = [
    ('modle.teacher_ckpt', "has no 'modle'; did you mean 'model'?"),
    ('batchsize', "did you mean 'train_dataloader.batch_size'?"),
    ('batch_size', "did you mean 'train_dataloader.batch_size'?"),
    ('lr', "did you mean 'optim_wrapper.optimizer.lr'?"),
    ('max_epochs', "did you mean 'train_cfg.max_epochs'?"),
    ('trian_cfg.max_epochs', "did you mean 'train_cfg'?"),
    ('train_cfg.max_epoch', "train_cfg has no 'max_epoch'; did you mean 'max_epochs'?"),
    ('train_cfg.val_intervall', "did you mean 'val_interval'?"),
    ('model.teacher_cktp', "model has no 'teacher_cktp'; did you mean 'teacher_ckpt'?"),
    ('model.architectur.backbone.depth', "did you mean 'architecture'?"),
    ('model.architecture.backbone.dept', "did you mean 'depth'?"),
    ('model.distiller.distill_losses.los_prkd.tau', "did you mean 'loss_prkd'?"),
    ('model.distiller.distill_losses.loss_prkd.taus', "did you mean 'tau'?"),
    ('model.distiller.distill_losses.loss_prkd.cor_wieght', "did you mean 'cor_weight'?"),
    ('optim_wraper.optimizer.lr', "did you mean 'optim_wrapper'?"),
    ('optim_wrapper.optimzer.lr', "did you mean 'optimizer'?"),
    ('optim_wrapper.optimizer.momentun', "did you mean 'momentum'?"),
    ('optim_wrapper.optimizer.learning_rate', 'known are .*lr'),
    ('default_hooks.tail_averag.num_epochs', "did you mean 'tail_average'?"),
    ('default_hooks.tail_average.num_epoch', "did you mean 'num_epochs'?"),
    ('default_hooks.loger.interval', "did you mean 'logger'?"),
    ('default_hooks.checkpoint.max_keep_ckpt', "did you mean 'max_keep_ckpts'?"),
    ('default_hooks.new_one.interval', "default_hooks has no 'new_one'"),
    ('train_dataloader.batchsize', "did you mean 'batch_size'?"),
    ('train_dataloader.num_worker', "did you mean 'num_workers'?"),
    ('val_dataloader.batch', "did you mean 'batch_size'?"),
    ('randomness.sed', "did you mean 'seed'?"),
    ('custom_hooks.7.min_top1', 'is a list of 2; give a position from 0 to 1'),
    ('custom_hooks.first.min_top1', "got 'first'"),
    ('custom_hooks.0.min_top', "did you mean 'min_top1'?"),
    ('custom_hooks.1.schedules.0.strat', "did you mean 'start'?"),
    ('log_level.x', "log_level is 'INFO', which has no 'x'"),
]


@pytest.mark.parametrize('key, words', TYPOS, ids=[key for key, _ in TYPOS])
def test_misspelled_setting(key, words):
    with pytest.raises(ValueError, match=f'--cfg-options {key}: .*{words}'):
        load_config(DIGITS, options={key: 1})


SETTINGS = [
    ('train_cfg.max_epochs', 0, 'whole number, at least 1; got 0'),
    ('train_cfg.max_epochs', 2.5, 'whole number, at least 1; got 2.5'),
    ('train_cfg.max_epochs', 'many', "got 'many'"),
    ('train_cfg.val_interval', 0, 'val_interval must be .* at least 1; got 0'),
    ('train_dataloader.batch_size', 0, 'batch_size must be .* at least 1; got 0'),
    ('train_dataloader.batch_size', True, 'got True'),
    ('val_dataloader.batch_size', -4, 'val_dataloader.batch_size .* got -4'),
    ('train_dataloader.num_workers', -1, 'at least 0; got -1'),
    ('optim_wrapper.optimizer.lr', -0.1, 'finite number, above 0; got -0.1'),
    ('optim_wrapper.optimizer.lr', 0, 'above 0; got 0'),
    ('optim_wrapper.optimizer.lr', 'fast', "got 'fast'"),
    ('optim_wrapper.optimizer.lr', float('nan'), 'got nan'),
    ('optim_wrapper.optimizer.weight_decay', -1, 'at least 0; got -1'),
    ('randomness.seed', 'x', "whole number, at least 0; got 'x'"),
    ('work_dir', 3, 'name of a folder, got 3'),
    ('work_dir', str(ROOT / 'README.md'), 'is a file, not a folder'),
]


@pytest.mark.parametrize('key, value, words', SETTINGS)
def test_impossible_setting(key, value, words):
    with pytest.raises(ValueError, match=words):
        load_config(DIGITS, options={key: value})


@pytest.mark.parametrize(
    'key, value',
    [
        ('train_dataloader.drop_last', False),
        ('train_dataloader.prefetch_factor', 2),
        ('optim_wrapper.accumulative_counts', 2),
        ('optim_wrapper.clip_grad.max_norm', 5),
        ('optim_wrapper.optimizer.nesterov', True),
        ('model.distiller.distill_losses.loss_prkd.inter_weight', 2.0),
        ('model.architecture.backbone.with_cp', True),
        ('default_hooks.checkpoint.save_best', 'auto'),
        ('default_hooks.tail_average', None),
        ('randomness.deterministic', True),
        ('log_processor.window_size', 5),
        ('env_cfg.dist_cfg.backend', 'gloo'),
        ('load_from', 'a.pth'),
    ],
)
def test_new_settings_that_a_class_accepts(key, value):
    assert load_config(DIGITS, options={key: value})


def test_a_new_hook_with_its_type_is_accepted():
    options = {'default_hooks.ema.type': 'EMAHook', 'default_hooks.ema.momentum': 0.1}
    assert load_config(DIGITS, options=options).default_hooks.ema.momentum == 0.1


CONFIGS = [
    (lambda folder: load_config('no.py'), FileNotFoundError, "no config 'no.py'"),
    (lambda folder: load_config(str(folder)), FileNotFoundError, 'no config'),
    (
        lambda folder: load_config(DIGITS, 'prdk'),
        FileNotFoundError,
        "no method 'prdk'.*did you mean 'prkd'",
    ),
    (lambda folder: load_config(TEACHER, 'kd'), ValueError, 'does not let the method be chosen'),
    (
        lambda folder: processes_of('pytorch'),
        ValueError,
        'needs the environment variable .*dist_train.sh',
    ),
    (
        lambda folder: processes_of('slurm'),
        ValueError,
        'needs the environment variable SLURM_PROCID',
    ),
]


@pytest.mark.parametrize('call, error, words', CONFIGS)
def test_bad_config_method_or_launcher(tmp_path, monkeypatch, call, error, words):
    for name in ('RANK', 'WORLD_SIZE', 'SLURM_PROCID', 'SLURM_NTASKS'):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(error, match=words):
        call(tmp_path)


def loss(**arguments):
    return MODELS.build(dict(type='mmrazor.PRKDLoss', **arguments))


def schedule(**arguments):
    values = dict(dict(loss='loss_prkd', attr='tau', start=4.0, end=1.0), **arguments)
    return LossScheduleHook([values])


ARGUMENTS = [
    (lambda: loss(tau=0), 'tau'),
    (lambda: loss(tau=-1.0), 'tau'),
    (lambda: loss(tau=float('nan')), 'tau'),
    (lambda: loss(tau='hot'), 'tau'),
    (lambda: loss(tau_cor=0), 'tau_cor'),
    (lambda: loss(kl_weight=-1), 'kl_weight'),
    (lambda: loss(cor_weight='x'), 'cor_weight'),
    (lambda: loss(loss_weight=-2), 'loss_weight'),
    (lambda: schedule(shape='spiral'), "shape 'spiral'; choose one of"),
    (lambda: schedule(start='x'), "start='x'"),
    (lambda: schedule(end=float('inf')), 'must be finite'),
    (lambda: schedule(start=None), 'start=None'),
    (lambda: LossScheduleHook([]), 'schedules is empty'),
    (lambda: TailAverageHook(num_epochs=0), 'num_epochs must be a whole number, at least 1'),
    (lambda: TailAverageHook(num_epochs=True), 'got True'),
    (lambda: TailAverageHook(num_epochs=2.0), r'got 2\.0'),
    (lambda: TailAverageHook(interval=0), 'interval must be'),
    (lambda: TailAverageHook(bn='best'), "bn must be one of .* got 'best'"),
    (lambda: TailAverageHook(bn_batches=-1), 'bn_batches must be'),
    (lambda: TailAverageHook(evaluate='maybe'), "evaluate must be True or False, got 'maybe'"),
    (lambda: TailAverageHook(filename='no/such/folder.pth'), 'without a folder'),
    (lambda: TailAverageHook(filename=''), 'without a folder'),
    (lambda: TeacherCheckHook(min_top1=101), r'min_top1 must be in \[0, 100\], got 101'),
    (lambda: TeacherCheckHook(min_top1=-1), 'got -1'),
]


@pytest.mark.parametrize('call, words', ARGUMENTS)
def test_bad_argument_of_a_class(call, words):
    with pytest.raises((ValueError, TypeError), match=words):
        call()


COMMANDS = [
    ('train', [], 'config'),
    ('train', ['a.py', '--launcher', 'x'], "invalid choice: 'x'"),
    ('train', ['a.py', '--cfg-options', 'max_epochs'], "expected KEY=VALUE, got 'max_epochs'"),
    ('train', ['a.py', '--cfg-options', 'a=[1'], 'brackets'),
    ('train', ['a.py', '--cfg-options', '=1'], 'expected KEY=VALUE'),
    ('train', ['a.py', '--epochs', '3'], 'unrecognized arguments: --epochs'),
    ('test', ['a.py'], 'checkpoint'),
    ('reproduce', ['a.py', '--seeds', '0'], 'at least 1'),
    ('reproduce', ['a.py', '--jobs', '-1'], 'at least 1'),
    ('reproduce', ['a.py', '--jobs', 'x'], 'jobs'),
    ('reproduce', ['a.py', '--methods', 'kd,foo'], 'foo'),
    ('reproduce', ['a.py', '--figures', 'foo'], 'foo'),
    ('tune', ['a.py', '--trials', '0'], 'at least 1'),
    ('tune', ['a.py', '--seeds', '0'], 'at least 1'),
    ('tune', ['a.py', '--held-out', '1'], 'at least 2'),
    ('tune', ['a.py', '--methods', 'ce'], 'ce'),
    ('analyze', ['strenght', 'a.py'], "invalid choice: 'strenght'"),
    ('analyze', ['strength', 'a.py', '--samples', '-5'], 'at least 1'),
    ('analyze', ['strength', 'a.py', '--batch-size', '0'], 'at least 1'),
    ('analyze', ['strength', 'a.py', '--taus', '0'], 'above 0'),
    ('analyze', ['strength', 'a.py', '--taus', 'x'], 'taus'),
    ('analyze', ['landscape', 'a.py', '--grid', '0'], 'at least'),
    ('analyze', ['landscape', 'a.py', '--span', '0'], 'above 0'),
    ('analyze', ['compare', 'a.py', '--bins', '0'], 'at least 1'),
    ('analyze', ['spread', 'a.py', '--split', 'tests'], "invalid choice: 'tests'"),
    ('prepare_data', ['imagenette'], "invalid choice: 'imagenette'"),
    ('cache_teacher', ['a.py', '--views', '0'], 'at least 1'),
    ('cache_teacher', ['a.py', '--views', '2', '--batch-size', '0'], 'at least 1'),
    ('cache_teacher', ['a.py', '--views', '2', '--topk', '-1'], 'at least 0'),
]


@pytest.mark.parametrize('name, arguments, words', COMMANDS)
def test_bad_command_line(name, arguments, words, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', [name, *arguments])
    with pytest.raises(SystemExit) as end:
        project.tool(name).parse_args()
    assert end.value.code == 2
    assert words in capsys.readouterr().err


def saved(content):
    def write(folder):
        torch.save(content, folder / 'a.pth')
        return str(folder / 'a.pth')

    return write


def raw(content):
    def write(folder):
        (folder / 'a.pth').write_bytes(content)
        return str(folder / 'a.pth')

    return write


CHECKPOINTS = [
    (read, lambda folder: str(folder / 'no.pth'), 'no checkpoint'),
    (read, str, 'no checkpoint in the work dir'),
    (read, raw(b''), '0 bytes. is damaged'),
    (read, raw(b'text'), 'not a checkpoint'),
    (read, raw(b'PK\x03\x04half a zip'), 'damaged, cut short'),
    (read, saved([1, 2]), 'holds a list, not a dict'),
    (read, saved(torch.nn.Linear(1, 1)), 'was refused'),
    (read_for_resume, saved(dict(state_dict={})), 'no meta, optimizer, message_hub.*load_from='),
    (resolve, lambda folder: '~/surely/not/there.pth', 'no checkpoint'),
    (
        lambda path: load_strictly(torch.nn.Linear(2, 2), read(path), 'The file'),
        saved(torch.nn.Linear(3, 2).state_dict()),
        r'of another shape: weight: \(2, 3\) in the file, \(2, 2\) in the model',
    ),
    (
        lambda path: load_strictly(torch.nn.Linear(2, 2), read(path), 'The file'),
        saved(dict(a=torch.ones(1))),
        '2 missing: weight, bias.*1 unexpected: a',
    ),
    (
        lambda path: find_resume_point(
            Path(path).rename(Path(path).with_name('epoch_1.pth')).parent
        ),
        raw(b'half'),
        'no checkpoint .* can be read: .*epoch_1.pth',
    ),
]


@pytest.mark.parametrize('function, write, words', CHECKPOINTS)
def test_bad_checkpoint(tmp_path, function, write, words):
    path = write(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=f'(?s){words}') as error:
        function(path)
    text = cli.explain(error.value)
    assert 'weights_only=False' not in text and 'Traceback' not in text


def test_the_tables_have_at_least_80_rows():
    tables = (TYPOS, SETTINGS, CONFIGS, ARGUMENTS, COMMANDS, CHECKPOINTS)
    assert sum(map(len, tables)) >= 80
