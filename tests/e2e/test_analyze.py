"""Every command of tools/analyze.py on short runs of the quickstart."""

import csv
import json
import os
import runpy
import struct
from pathlib import Path

import pytest
import toy
from mmengine.runner import Runner
from project import DIGITS, TEACHER_DIGITS, link_checkout, type_command
from scipy.stats import ttest_rel

from prkd_mm.checkpoints import read
from prkd_mm.config import load_config

BATCH_SIZE = 'train_dataloader.batch_size'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A teacher, and two of its students with three checkpoints each."""
    folder = link_checkout(tmp_path_factory.mktemp('analyze'))
    before = os.getcwd()
    os.chdir(folder)
    try:
        for method, epochs in ((None, 8), ('kd', 3), ('prkd', 4)):
            options = {'train_cfg.max_epochs': epochs, 'log_level': 'WARNING'}
            if method:
                options.update(
                    {
                        'default_hooks.checkpoint.max_keep_ckpts': 3,
                        'default_hooks.tail_average.num_epochs': 2,
                        BATCH_SIZE: 8,  # three epochs of 64 would not leave the level of chance
                    }
                )
            cfg = load_config(DIGITS if method else TEACHER_DIGITS, method, options)
            with toy.quickly():
                Runner.from_cfg(cfg).train()
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def analyze(folder, monkeypatch, capsys):
    """Run ``tools/analyze.py`` in this process, since starting another takes longer."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv('COLUMNS', '100')

    def analyze(*arguments):
        monkeypatch.setattr('sys.argv', ['analyze.py', *arguments])
        capsys.readouterr()
        runpy.run_path('tools/analyze.py', run_name='__main__')
        return capsys.readouterr().out

    return analyze


def run(analyze, command, *arguments):
    """Run a study; return its output, and the numbers and tables that it wrote to ``out``."""
    printed = analyze(command, DIGITS, '--out', 'out', '--device', 'cpu', *arguments)
    written = list(Path('out').glob(f'{command}*'))
    for path in written:
        assert str(path) in printed
        if path.suffix == '.png':
            width, height = struct.unpack('>II', path.read_bytes()[16:24])
            assert width > 600 and height > 300
            assert path.with_suffix('.svg') in written
    drawn = {path.stem for path in written if path.suffix == '.png'}
    assert drawn == {
        command + part
        for part in dict(
            strength=[''],
            spread=[''],
            compare=['', '_classes', '_correlation'],
            landscape=['_curves', '_plane', '_sharpness', '_surface'],
        )[command]
    }
    tables = {
        path.stem: list(csv.DictReader(path.open(encoding='utf-8')))
        for path in written
        if path.suffix == '.csv'
    }
    return printed, json.loads(Path(f'out/{command}.json').read_text()), tables


def test_a_study_finds_the_data_sets_in_a_process_of_its_own(folder):
    shown = type_command(
        'tools/analyze.py',
        'spread',
        DIGITS,
        *('--methods', 'prkd', '--samples', '32', '--device', 'cpu', '--out', 'own'),
        cwd=folder,
    )
    assert 'own/spread.json' in shown


def test_strength_writes_the_numbers_of_the_losses(analyze):
    printed, numbers, tables = run(
        analyze, 'strength', '--methods', 'kd,prkd', '--samples', '140', '--taus', '4,1.6'
    )
    assert numbers['samples'] == 128  # whole batches of 64
    assert [row['loss'] for row in tables['strength']] == [
        'logit MSE / 2',
        'KL, τ = 4',
        'KL, τ = 1.6',
        'Cor inter, τ = 4',
        'Cor intra, τ = 4',
    ]
    schemes, along = numbers['schemes'], numbers['along']
    assert schemes['logit MSE / 2']['strength']['mean'] == pytest.approx(0.1)
    assert numbers['verdict'] in ' '.join(printed.split())
    # the strength of KD is constant: its weight times that of KL at τ = 4
    kd = 0.9 * schemes['KL, τ = 4']['strength']['mean']
    assert along['KD']['strength'] == pytest.approx([kd] * len(along['KD']['epochs']))
    assert along['PRKD']['strength'][0] == pytest.approx(
        0.9 * schemes['KL, τ = 4']['strength']['mean']
    )
    assert set(along['PRKD']['parts']) == {'KL', 'Cor inter'}
    assert list(along['KD']['gradients']) == ['1', '2', '3']


def test_spread_agrees_with_the_logged_metrics(analyze):
    arguments = ['spread', '--methods', 'kd,prkd', '--cfg-options', f'{BATCH_SIZE}=8']
    printed, numbers, tables = run(analyze, *arguments)
    for name, work_dir in (('KD', 'prkd_digits_kd'), ('PRKD', 'prkd_digits')):
        found = numbers['runs'][name]
        average = read(f'work_dirs/{work_dir}/student_avg.pth')['meta']
        # compare with the metrics that the run logged
        assert found['by_number'][1]['top1'] == pytest.approx(
            average['metrics']['accuracy/top1'], abs=1e-4
        )
        assert found['by_number'][0]['top1'] == pytest.approx(
            average['raw_metrics']['accuracy/top1'], abs=1e-4
        )
    assert list(numbers['runs']['PRKD']['checkpoints']) == ['epoch 2', 'epoch 3', 'epoch 4']
    assert len(tables['spread_by_number']) == 6
    assert len(run(analyze, *arguments, '--tail', '2')[2]['spread_by_number']) == 4
    run(analyze, *arguments)
    before = Path('out/spread.svg').read_bytes()
    # the training images of the average depend on the seed of the run, which is 0
    assert run(analyze, *arguments, '--seed', '3')[1]['runs'] == numbers['runs']
    assert Path('out/spread.svg').read_bytes() == before


def test_compare_measures_all_nets(analyze):
    printed, numbers, tables = run(
        analyze,
        'compare',
        '--checkpoints',
        'work_dirs/prkd_digits/epoch_4.pth',
        'work_dirs/prkd_digits_kd/epoch_3.pth',
        '--samples',
        '200',
    )
    assert list(numbers['nets']) == ['teacher', 'epoch_4', 'epoch_3']
    assert numbers['samples'] == 200
    assert numbers['nets']['teacher']['top1'] == 100
    assert len(tables['compare_classes']) == 10


def test_a_student_named_teacher_raises(analyze, folder):
    named = folder / 'work_dirs/teacher.pth'
    named.symlink_to('prkd_digits/epoch_4.pth')
    try:
        with pytest.raises(SystemExit, match='rename the file'):
            analyze('compare', DIGITS, '--checkpoints', str(named))
    finally:
        named.unlink()


def test_landscape_draws_the_loss_around_a_student(analyze):
    printed, numbers, tables = run(
        analyze,
        'landscape',
        '--samples',
        '40',
        '--seeds',
        '2',
        '--grid',
        '3',
        '--probes',
        '2',
        '--bn-batches',
        '2',
    )
    sharpness = numbers['sharpness']['PRKD']
    assert [row['seed'] for row in sharpness] == [0, 1]
    center = [row for row in numbers['curves']['PRKD'] if row['a'] == 0]
    for row, at in zip(sharpness, center):
        assert row['worst_rise'] > 0 and row['top_eigenvalue'] > 0
        assert row['loss'] == pytest.approx(at['train_loss'], rel=1e-5)
    assert list(numbers['planes']['PRKD']['marks']) == ['epoch 2', 'epoch 3', 'epoch 4', 'mean']
    assert len(tables['landscape_plane']) == 9
    assert 'Sharpness of the train loss' in printed


def test_landscape_averages_over_trainings(analyze):
    small = ['--samples', '40', '--seeds', '1', '--grid', '2', '--probes', '2', '--bn-batches', '2']
    seed_1 = Path('work_dirs/prkd_digits_seed1')
    seed_1.symlink_to('prkd_digits_kd')  # another student of the same size
    try:
        printed, numbers, _ = run(analyze, 'landscape', '--trainings', '2', *small)
    finally:
        seed_1.unlink()
    alone = [
        run(analyze, 'landscape', '--methods', method, *small)[1]['sharpness'][name][0]
        for method, name in (('prkd', 'PRKD'), ('kd', 'KD'))
    ]
    both = numbers['sharpness']['PRKD']
    assert [row.pop('checkpoint') for row in both] == [
        'work_dirs/prkd_digits/epoch_4.pth',
        'work_dirs/prkd_digits_seed1/epoch_3.pth',
    ]
    assert both == [{k: x for k, x in row.items() if k != 'checkpoint'} for row in alone]
    assert 'over 2 trainings, with 1 draw each' in ' '.join(printed.split())


def test_the_landscapes_of_several_trainings_are_compared(analyze):
    small = ['--samples', '40', '--seeds', '1', '--grid', '2', '--probes', '2', '--bn-batches', '2']
    seconds = {Path('work_dirs/prkd_digits_kd_seed1'): 'prkd_digits'}
    seconds[Path('work_dirs/prkd_digits_seed1')] = 'prkd_digits_kd'
    try:
        for link, target in seconds.items():
            link.symlink_to(target)
        methods = ['--methods', 'kd,prkd', '--trainings', '2']
        printed, numbers, _ = run(analyze, 'landscape', *methods, *small)
    finally:
        for link in seconds:
            link.unlink()
    kd, prkd = (
        [row['normalized_trace'] for row in numbers['sharpness'][name]] for name in ('KD', 'PRKD')
    )
    low, high = ttest_rel(prkd, kd).confidence_interval(0.95)
    (line,) = (row for row in printed.splitlines() if 'PRKD − KD: normalized trace' in row)
    assert f'{low:+.3g} to {high:+.3g}' in line and 'cannot tell' in line


def test_two_runs_of_one_method_are_distinguished(analyze, folder):
    twin = folder / 'work_dirs/twin'
    twin.symlink_to('prkd_digits')
    try:
        _, numbers, _ = run(
            analyze,
            'spread',
            '--methods',
            'prkd,prkd',
            '--work-dirs',
            'work_dirs/prkd_digits/',
            'work_dirs/twin',
            '--samples',
            '40',
        )
    finally:
        twin.unlink()
    first, second = numbers['runs'].values()
    assert list(numbers['runs']) == ['PRKD (prkd_digits)', 'PRKD (twin)']
    assert first['by_number'] == second['by_number']


def test_a_loss_that_cannot_be_followed_is_reported_and_skipped(analyze):
    name = 'model.distiller.distill_losses.loss_kl.reduction'
    printed, numbers, _ = run(
        analyze, 'strength', '--methods', 'kd', '--samples', '64', '--cfg-options', f'{name}=sum'
    )
    assert numbers['along'] == {} and len(numbers['schemes']) == 7
    assert 'KD over its epochs: the strength of KLDivergence' in printed
    # the student alone has no teacher, and is skipped silently
    assert list(run(analyze, 'strength', '--methods', 'kd,ce', '--samples', '64')[1]['along']) == [
        'KD'
    ]


@pytest.mark.parametrize(
    'arguments, words',
    [
        (['spread', DIGITS, '--methods', 'kd,kd'], '--work-dirs with different names'),
        (['landscape', DIGITS, '--trainings', '2'], 'prkd_digits_seed1'),
        (['landscape', DIGITS, '--trainings', '0'], 'at least 1, got 0'),
        (['spread', DIGITS, '--tail', '0'], '--tail must be at least 2, got 0'),
        (['spread', DIGITS, '--method', 'dist'], 'max_keep_ckpts=10'),
        (['compare', TEACHER_DIGITS], 'has none'),
        (
            ['strength', DIGITS, '--methods', 'kd,prkd', '--checkpoints', 'configs'],
            'remove one of the two options',
        ),
        (['landscape', DIGITS, '--methods', 'dist'], 'must be trained first'),
    ],
)
def test_errors_name_a_remedy(analyze, arguments, words):
    with pytest.raises(SystemExit, match=f'error: .*{words}'):
        analyze(*arguments)


def test_the_help_lists_all_commands(folder):
    printed = type_command('tools/analyze.py', '--help', cwd=folder)
    for command in ('strength', 'landscape', 'spread', 'compare'):
        assert command in printed


@pytest.mark.parametrize('command', ['strength', 'landscape', 'spread', 'compare'])
def test_the_help_of_a_command_lists_its_options(analyze, command, capsys):
    with pytest.raises(SystemExit):
        analyze(command, '--help')
    printed = capsys.readouterr().out
    assert '--samples' in printed and '--checkpoints' in printed
