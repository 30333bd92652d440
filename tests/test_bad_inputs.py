"""Bad inputs and the error messages for them.

Each row has a pattern of the message. No test here may train or build a net.
"""

import sys
from pathlib import Path

import project
import pytest
import test_bad_configs as bad
import torch
from mmrazor.registry import MODELS

from prkd_mm import cli
from prkd_mm.checkpoints import load_strictly, read, resolve
from prkd_mm.deploy.student import load_student
from prkd_mm.hooks import LossScheduleHook, TailAverageHook, TeacherCheckHook
from prkd_mm.start.resume import find_resume_point, read_for_resume

ROOT = Path(project.ROOT)
DIGITS = str(ROOT / 'configs/quickstart/prkd_digits.py')
TEACHER = str(ROOT / 'configs/quickstart/teacher_digits.py')
README = str(ROOT / 'README.md')


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
    (lambda: LossScheduleHook(3), 'schedules must be a list, got 3'),
    (lambda: LossScheduleHook([3]), 'a schedule has the keys loss, .* got 3'),
    (lambda: TailAverageHook(num_epochs=0), 'num_epochs must be a whole number, at least 1'),
    (lambda: TailAverageHook(num_epochs=True), 'got True'),
    (lambda: TailAverageHook(num_epochs=2.0), r'got 2\.0'),
    (lambda: TailAverageHook(interval=0), 'interval must be'),
    (lambda: TailAverageHook(bn='best'), "bn must be one of .* got 'best'"),
    (lambda: TailAverageHook(bn_batches=-1), 'bn_batches must be'),
    (lambda: TailAverageHook(evaluate='maybe'), "evaluate must be True or False, got 'maybe'"),
    (lambda: LossScheduleHook([1], by_epoch='maybe'), "by_epoch must be .* got 'maybe'"),
    (lambda: TeacherCheckHook(min_top1=101), r'min_top1 must be in \[0, 100\], got 101'),
    (lambda: TeacherCheckHook(min_top1=-1), 'got -1'),
    (lambda: TeacherCheckHook(min_top1='abc'), "got 'abc'"),
    (lambda: schedule(begin=3), "a schedule has the keys loss, .* got .*'begin': 3"),
    (lambda: LossScheduleHook([dict(loss='loss_prkd', attr='tau')]), 'start are required'),
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
    ('reproduce', ['a.py', '--figures', 'foo'], 'foo'),
    ('tune', ['a.py', '--trials', '0'], 'at least 1'),
    ('tune', ['a.py', '--seeds', '0'], 'at least 1'),
    ('tune', ['a.py', '--held-out', '1'], 'at least 2'),
    ('tune', ['a.py', '--methods', 'ce'], 'ce'),
    ('analyze', ['strenght', 'a.py'], "invalid choice: 'strenght'"),
    ('analyze', ['strength', 'a.py', '--samples', '-5'], 'at least 1'),
    ('analyze', ['strength', 'a.py', '--batch-size', '0'], 'at least 1'),
    ('analyze', ['strength', 'a.py', '--taus', '0'], 'above 0'),
    ('analyze', ['strength', 'a.py', '--seed', '-1'], '--seed: must be a whole number, at least 0'),
    ('analyze', ['strength', 'a.py', '--taus', 'x'], 'taus'),
    ('analyze', ['landscape', 'a.py', '--grid', '0'], 'at least'),
    ('analyze', ['landscape', 'a.py', '--span', '0'], 'above 0'),
    ('analyze', ['compare', 'a.py', '--bins', '0'], 'at least 1'),
    ('analyze', ['spread', 'a.py', '--split', 'tests'], "invalid choice: 'tests'"),
    ('prepare_data', ['imagenette'], "invalid choice: 'imagenette'"),
    ('cache_teacher', ['a.py', '--views', '0'], 'at least 1'),
    ('cache_teacher', ['a.py', '--views', '2', '--batch-size', '0'], 'at least 1'),
    ('cache_teacher', ['a.py', '--views', '2', '--topk', '-1'], 'at least 0'),
    ('cache_teacher', ['a.py', '--views', '2', '--out', README], 'is a file, not a folder'),
    ('analyze', ['strength', 'a.py', '--out', README], 'is a file, not a folder'),
    ('reproduce', ['a.py', '--out', f'{README}/a'], 'is a file, not a folder'),
    ('reproduce', ['--records', README], 'is a file, not a folder'),
    ('reproduce', ['--records', 'a', '--records', 'b', 'a.py'], 'only without a config'),
    ('reproduce', ['a.py', '--out', '/proc/a/b'], "cannot write into '/proc'"),
    ('reproduce', ['a.py', '--teacher-options', 'a'], 'teacher-options: expected KEY=VALUE, got'),
    ('tune', ['a.py', '--cfg-options', 'a=1', '=2'], "cfg-options: expected KEY=VALUE, got '=2'"),
    ('tune', ['a.py', '--out', README], 'is a file, not a folder'),
    ('export_student', ['a.pth', '--out', README], 'is a file, not a folder'),
    ('average_checkpoints', ['a.py', 'a.pth', '--out', 'no/a.pth'], "there is no folder 'no'"),
    ('average_checkpoints', ['a.py', 'a.pth', '--out', str(ROOT)], 'give the name of a file'),
    ('browse_dataset', ['a.py', '--out', 'no/a.png'], "there is no folder 'no'"),
    ('browse_dataset', ['a.py', '--number', '9999'], 'at least 1 and at most 100'),
    ('browse_dataset', ['a.py', '--epochs', '101'], "at most 100; got '101'"),
    ('browse_dataset', ['a.py', '--out', 'a.txt'], 'the name of a picture ends with .png'),
    ('predict', ['a.png', '--student', 'a.pth', '--json', 'no/a'], "there is no folder 'no'"),
    ('predict', ['a.png', '--student', 'a.pth', '--sheet', 'a'], 'ends with .png'),
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
    (read, saved(dict(state_dict='text')), 'its state_dict is a str, not a dict'),
    (read, saved(torch.nn.Linear(1, 1)), 'was refused'),
    (read_for_resume, saved(dict(state_dict={})), 'no meta, optimizer, message_hub.*load_from='),
    (read, saved(dict(meta=None)), 'its meta is a NoneType, not a dict'),
    (load_student, saved(dict(meta=dict(cfg='a = open(0)'))), 'calls open.*set it with --config'),
    (load_student, saved(dict(meta=dict(cfg='a = 1'))), 'contains cannot be used.*--config'),
    (resolve, lambda folder: '~/surely/not/there.pth', 'no checkpoint'),
    (
        lambda path: load_strictly(torch.nn.Linear(2, 2), read(path), 'The file'),
        saved(torch.nn.Linear(3, 2).state_dict()),
        r'with a different shape: weight: \(2, 3\) in the file, \(2, 2\) in the model',
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
    of_configs = (bad.TYPOS, bad.SETTINGS, bad.CONFIGS, bad.BAD_CONFIGS, bad.UNKNOWN_TYPES)
    assert sum(map(len, (*of_configs, ARGUMENTS, COMMANDS, CHECKPOINTS))) >= 80
