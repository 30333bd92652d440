import json
import statistics
from pathlib import Path

import pytest
from project import ROOT
from rich.console import Console

from prkd_mm.config import load_config
from prkd_mm.experiments.pool import Pool
from prkd_mm.experiments.run_options import TuningOptions
from prkd_mm.experiments.tune.tail_choice import tail_choices
from prkd_mm.experiments.tune.trials import (
    RANGES,
    Trial,
    finalists,
    parameters,
    settings,
    value_at,
    winner,
)
from prkd_mm.experiments.tune.tuning import Tuning
from prkd_mm.experiments.tune.tuning_report import average_over_seeds, write_search

DIGITS = str(ROOT / 'configs/quickstart/prkd_digits.py')


def config(method, options=()):
    return load_config(DIGITS, method, dict(option.split('=') for option in options))


@pytest.mark.parametrize(
    'method, names',
    [
        ('kd', {'tau', 'loss_weight'}),
        ('dist', {'tau', 'loss_weight'}),
        ('prkd_a', {'tau', 'loss_weight', 'tau_L'}),
        ('prkd_b', {'tau', 'loss_weight', 'cor_weight'}),
        ('prkd', {'tau', 'loss_weight', 'tau_L', 'cor_weight'}),
        ('logit', {'loss_weight'}),
    ],
)
def test_each_method_has_its_own_parameters(method, names):
    cfg = config(method)
    keys = parameters(cfg)
    assert set(keys) == names
    own, *others = found = settings(cfg, method, 9)
    assert len(found) == 9 and own.number == 0 and own.options == []
    assert own.values == {name: value_at(cfg, where[0]) for name, where in keys.items()}
    assert settings(cfg, method, 9) == found
    assert settings(cfg, method, 5) == found[:5]
    assert settings(cfg, method, 9, seed=1)[1:] != others
    for trial in others:
        assert set(trial.values) == names
        for name, value in trial.values.items():
            low, high, unit = RANGES[name]
            scale = dict(value=own.values[name], tau=trial.values.get('tau')).get(unit, 1)
            assert 0.94 * low * scale <= value <= 1.06 * high * scale
    if 'tau_L' in names:
        assert all(t.values['tau_L'] <= t.values['tau'] for t in others)


def test_the_options_set_the_values():
    trial = settings(config('prkd'), 'prkd', 3)[2]
    options = dict(option.split('=') for option in trial.options)
    cfg = load_config(DIGITS, 'prkd', {key: float(x) for key, x in options.items()})
    (hook,) = [hook for hook in cfg.custom_hooks if 'schedules' in hook]
    driven = {s.attr: (s.start, s.end) for s in hook.schedules}
    loss = cfg.model.distiller.distill_losses.loss_prkd
    assert loss.tau == trial.values['tau']
    assert loss.loss_weight == trial.values['loss_weight']
    assert driven == dict(
        tau=(trial.values['tau'], trial.values['tau_L']),
        kl_weight=(1.0, 0.0),
        cor_weight=(0.0, trial.values['cor_weight']),
    )


def test_the_student_alone_has_nothing_to_search():
    with pytest.raises(ValueError, match='0 distillation losses'):
        parameters(config('ce'))


def trials(*scores):
    return [
        Trial('kd', i, dict(tau=i + 1.0, loss_weight=1.0), [f'tau={i}'], list(score), list(score))
        for i, score in enumerate(scores)
    ]


def test_finalists_are_the_best_and_the_config_itself():
    found = trials([50.0], [53.0], [52.0], [49.0])
    assert [t.number for t in finalists(found, 2)] == [0, 1, 2]
    assert [t.number for t in finalists(trials([55.0], [52.0], [53.0]), 1)] == [
        0,
        2,  # one finalist in addition to the config, even if the config is the best
    ]
    assert winner(trials([50.0, 54.0], [53.0, 50.0])).number == 0


def test_the_report_shows_trials_and_choices(tmp_path):
    found = dict(kd=trials([50.0, 54.0], [53.0, 50.0], [40.0]))
    tails = dict(
        kd=average_over_seeds(
            [
                [dict(bn='latest', num_epochs=n, top1=top1 + n) for n in (1, 2)]
                for top1 in (50.0, 53.0)
            ]
        )
    )
    assert tails['kd'][1] == dict(bn='latest', num_epochs=2, top1=[52.0, 55.0])
    said = write_search(tmp_path, found, dict(kd=found['kd'][:2]), tails, dict(command='x'))
    averages = 'with the averaging options below: 53.50 ± 2.12 %'  # that of num_epochs=2
    assert f'KD: the config itself, 52.00 ± 2.83 %; {averages}\n' in said
    found['kd'][1].averaged[:] = 60.0, 53.0, 55.0  # seed 0 chose it
    found['kd'][0].averaged.append(54.0)
    assert 'better with 1 of the 2 seeds that were not used to choose' in write_search(
        tmp_path, found, dict(kd=found['kd'][:2]), {}, dict(command='x')
    )
    found['kd'][1].averaged[:] = 53.0, 50.0
    found['kd'][0].averaged.pop()
    write_search(tmp_path, found, dict(kd=found['kd'][:2]), tails, dict(command='x'))
    text = (tmp_path / 'tuning.md').read_text()
    std = statistics.stdev([53.0, 50.0])
    assert f'| trial 1 | 2 | 1 | 51.50 ± {std:.2f} |' in text
    assert '| **config** | 1 | 1 | 52.00' in text
    assert '| 2 | 53.50 |' in text
    for option in 'num_epochs=2', 'bn=latest':
        assert f'default_hooks.tail_average.{option}' in said
    assert (tmp_path / 'tuning.png').stat().st_size > 5000


@pytest.mark.parametrize('kept', [(78, 79), (78, 80)])
def test_averages_of_other_epochs_than_the_last_are_not_compared(tmp_path, kept):
    cfg = load_config(DIGITS, work_dir=str(tmp_path))
    for epoch in kept:
        (tmp_path / f'epoch_{epoch}.pth').touch()
    words = f'epochs {kept[0]}, {kept[1]}, but needs those of the last 2 of 80 epochs'
    with pytest.raises(ValueError, match=words):
        tail_choices(cfg)


class TestTuning:
    """Options that are rejected before any training."""

    @pytest.fixture(autouse=True)
    def _in_a_checkout(self, checkout):
        pass

    def tuning(self, config='configs/quickstart/prkd_digits.py', **kwargs):
        options = TuningOptions(config, Path('out'), methods=['kd', 'prkd'], **kwargs)
        return Tuning(options, 'no/train.py', Console(quiet=True))

    @pytest.mark.parametrize(
        'kwargs, words',
        [
            (dict(tail=1), 'from 2 to 80, the epochs of a run; got 1'),
            (dict(tail=81), 'from 2 to 80.*; got 81'),
            (
                dict(cfg_options=['default_hooks.tail_average=None']),
                'needs a default_hooks.tail_average',
            ),
            (dict(cfg_options=['default_hooks.tail_average.evaluate=False']), 'that is evaluated'),
            (
                dict(cfg_options=['default_hooks.checkpoint.interval=2']),
                'set default_hooks.checkpoint.interval=1',
            ),
            (dict(cfg_options=['randomness.seed=3']), 'leave it out'),
            (
                dict(cfg_options=['model.teacher_ckpt=best.pth']),
                'leave out model.teacher_ckpt=best.pth',
            ),
        ],
    )
    def test_options_that_would_fail_after_training_are_refused(self, kwargs, words):
        with pytest.raises(ValueError, match=words):
            self.tuning(**kwargs)
        assert not Path('work_dirs').exists()

    def test_views_of_other_data_sets_are_refused(self):
        Path('pair.py').write_text(
            f'_base_ = {DIGITS!r}\ntrain_dataloader = dict(dataset=dict(_delete_=True, '
            "type='Digits', split='train', pipeline=[dict(type='PackInputs')]))\n"
        )
        with pytest.raises(ValueError, match='images must be PackedImages or ImageViews'):
            self.tuning('pair.py', store_views=2)

    @pytest.mark.parametrize('lost', ['accuracy/top1', 'student_avg/accuracy/top1'])
    def test_a_trial_without_a_validation_after_the_last_epoch_is_an_error(self, lost, monkeypatch):
        tuning = self.tuning(store_views=0)
        trial = tuning.found['kd'][1]
        (job,) = tuning.jobs_of(trial, 1)
        log = job.work_dir / '1/vis_data/scalars.json'
        log.parent.mkdir(parents=True)
        rows = [
            {'accuracy/top1': 50.0, 'student_avg/accuracy/top1': 60.0, 'step': epoch}
            for epoch in (79, 80)
        ]
        del rows[1][lost]
        log.write_text(''.join(json.dumps(row) + '\n' for row in rows))
        monkeypatch.setattr(Pool, 'run', lambda *_: None)
        with pytest.raises(ValueError, match='after the last epoch, 80'):
            tuning._run([trial], 1)
        assert trial.last == trial.averaged == []

    def test_overrides_of_the_data_come_before_the_split(self):
        key = 'train_dataloader.dataset.dataset.indices'
        tuning = self.tuning(
            cfg_options=[f'{key}=100', 'optim_wrapper.optimizer.lr=0.5'],
            teacher_options=[f'{key}=200'],
        )
        (job,) = tuning.jobs_of(tuning.found['kd'][1], 1)
        split = job.cfg.train_dataloader.dataset.dataset
        assert split.type == 'held_out_split' and split.dataset.indices == 100
        assert job.cfg.optim_wrapper.optimizer.lr == 0.5
        teacher = load_config(str(tuning.teacher))
        assert teacher.train_dataloader.dataset.dataset.dataset.indices == 200

    @pytest.mark.slow
    def test_each_run_has_its_own_work_dir(self):
        Path('pair.py').write_text(
            "_base_ = 'configs/quickstart/prkd_digits.py'\nwork_dir = 'work_dirs/mine'\n"
        )
        tuning = self.tuning('pair.py')
        jobs = [
            job
            for found in tuning.found.values()
            for trial in found
            for job in tuning.jobs_of(trial, 3)
        ]
        assert len({job.work_dir for job in jobs}) == len(jobs) == 48
        assert Path('work_dirs/mine') not in {job.work_dir for job in jobs}

    def test_the_protocol_mentions_an_existing_teacher(self):
        Path('pair.py').write_text(
            "_base_ = 'configs/quickstart/prkd_digits.py'\nmodel = dict(teacher_config=None)\n"
        )
        assert 'may have seen' in self.tuning('pair.py').about_the_teacher()


def test_values_without_a_schedule_end_are_not_searched(tmp_path):
    path = tmp_path / 'pair.py'
    path.write_text(
        f'_base_ = {DIGITS!r}\ndefault_hooks = dict(logger=None)\n'
        "custom_hooks = [dict(type='LossScheduleHook', schedules=[dict("
        "loss='loss_prkd', attr='tau', start=4., shape='constant')])]\n"
    )
    assert set(parameters(load_config(str(path)))) == {'tau', 'loss_weight'}


def test_schedules_among_the_default_hooks_are_found(tmp_path):
    path = tmp_path / 'pair.py'
    path.write_text(
        f'_base_ = {DIGITS!r}\ncustom_hooks = []\ndefault_hooks = dict('
        "s=dict(type='LossScheduleHook', schedules=[dict(loss='loss_prkd', "
        "attr='tau', start=4., end=1.), dict(loss='loss_prkd', attr='cor_weight', "
        'start=0., end=1.)]))\n'
    )
    assert parameters(load_config(str(path)))['tau'] == [
        'model.distiller.distill_losses.loss_prkd.tau',
        'default_hooks.s.schedules.0.start',
    ]
