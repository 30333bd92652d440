from pathlib import Path

import pytest
from project import DIGITS
from rich.console import Console

from prkd_mm import analysis
from prkd_mm.experiments import plan
from prkd_mm.experiments.analyses import analyze
from prkd_mm.experiments.comparison_report import protocol
from prkd_mm.experiments.figures import copy_schedule


@pytest.mark.parametrize(
    'methods, name, words',
    [
        (['ce'], 'strength', 'No strength figure: it needs a distilled student'),
        (['ce', 'kd'], 'spread', 'No spread figure: '),  # nothing has been trained
        (['kd'], 'compare', 'No compare figure: '),
    ],
)
def test_a_study_that_lacks_something_is_reported_and_skipped(
    checkout, tmp_path, methods, name, words
):
    console = Console(record=True, width=200)
    jobs = plan(DIGITS, methods)
    for job in jobs:
        job.note(finished=True)
    assert analyze(jobs, [name], tmp_path / 'out', console) == []
    assert words in console.export_text()


def test_seed_0_keeps_the_checkpoints_that_it_averages(checkout):

    def kept(*options):
        _, first, second = plan(DIGITS, ['kd'], options, seeds=2)
        return [job.cfg.default_hooks.checkpoint.max_keep_ckpts for job in (first, second)]

    assert kept() == [10, 2]
    assert kept('default_hooks.tail_average.num_epochs=5') == [5, 2]
    assert kept('default_hooks.tail_average.num_epochs=1') == [2, 2]
    assert kept('default_hooks.tail_average=None') == [2, 2]
    assert kept('default_hooks.checkpoint.max_keep_ckpts=3') == [3, 3]
    assert kept('default_hooks.checkpoint.max_keep_ckpts=20') == [20, 20]
    assert kept('default_hooks.checkpoint.max_keep_ckpts=-1') == [-1, -1]
    assert plan(DIGITS, ['kd'], ['default_hooks.checkpoint=None'])


def test_each_run_has_its_own_seed(checkout):
    Path('pair.py').write_text(f'_base_ = {DIGITS!r}\nrandomness = dict(_delete_=True)\n')
    for config in (DIGITS, 'pair.py'):
        assert [
            job.cfg.randomness.seed
            for job in plan(config, ['kd'], teacher_options=['randomness.seed=5'], seeds=2)
        ] == [5, 0, 1]
    with pytest.raises(ValueError, match='leave it out of the options'):
        plan(DIGITS, ['kd'], ['randomness.seed=1'])


def test_a_config_without_methods_can_have_figures(checkout, tmp_path):
    """Only the checkpoints are missing."""
    jobs = plan('configs/quickstart/teacher_digits.py', [], seeds=2)
    for job in jobs:
        job.note(finished=True)
    console = Console(record=True, width=200)
    names = ['spread', 'landscape', 'strength']
    assert analyze(jobs, names, tmp_path, console) == []
    printed = console.export_text()
    assert 'spread figure: ./work_dirs/teacher_digits has 0 of the checkp' in printed
    assert 'landscape figure: ' in printed and 'must be trained first' in printed
    assert 'strength figure: it needs a distilled student' in printed


def test_a_work_dir_of_another_experiment_is_not_analyzed(checkout, tmp_path):
    """Of a recorded run, which is not trained again."""
    recorded = plan(DIGITS, ['kd'])[-1]
    (other,) = plan(DIGITS, ['kd'], ['optim_wrapper.optimizer.lr=0.5'])[-1:]
    assert recorded.work_dir == other.work_dir
    other.note(finished=True)
    Path(other.work_dir, 'schedule.png').write_bytes(b'')
    console = Console(record=True, width=200)
    assert analyze([recorded], ['spread'], tmp_path, console) == []
    assert copy_schedule([recorded], tmp_path) == []
    assert console.export_text().strip() == (
        'Not in the studies, since only their records are here: KD'
    )
    assert copy_schedule([other], tmp_path) == [tmp_path / 'schedule.png']
    assert 'device' in protocol([other]) and 'device' not in protocol([other, recorded])


def test_the_landscapes_are_those_of_the_seeds_whose_work_dirs_are_here(
    checkout, tmp_path, monkeypatch
):
    def note(runs, report, options):
        found.update({run.title: run.repeats for run in runs})

    found = {}
    study = analysis.STUDIES['landscape']._replace(run=note)
    monkeypatch.setitem(analysis.STUDIES, 'landscape', study)
    jobs = plan(DIGITS, ['kd', 'prkd'], seeds=3)
    for job in jobs:
        if (job.method, job.seed) != ('prkd', 1):
            job.note(finished=True)
    assert analyze(jobs, ['landscape'], tmp_path, Console()) == []
    folder = './work_dirs/prkd_digits'
    assert {title: list(repeats) for title, repeats in found.items()} == {'KD': [1, 2], 'PRKD': [2]}
    assert [str(Path(path)) for path in found['PRKD'].values()] == [str(Path(f'{folder}_seed2'))]
