"""Strength in the log of a run, and relax_to, against autograd on the run's own loss."""

import copy
from unittest import mock

import pytest
import torch
import toy
from mmengine.hooks import Hook
from relaxed import (
    CHECK,
    EPOCHS,
    LENGTH,
    config,
    logged,
    run,
    schedule,
    teacher_of,
    with_loss_on_features,
)
from torch.func import hessian, vmap

from prkd_mm.analysis.runs import Run
from prkd_mm.analysis.strength.along_run import RunLosses, solved_ends
from prkd_mm.evaluation import unwrap
from prkd_mm.hooks import LossScheduleHook, TeacherCheckHook
from prkd_mm.hooks.strength_log import known_losses
from prkd_mm.schedules import Schedule
from prkd_mm.strength import StrengthMeter, largest_rebound


class Autograd(Hook):
    """Strength by 1-based iteration, by autograd from the loss and teacher of the run."""

    priority = 'VERY_LOW'

    def __init__(self, loss='loss_prkd'):
        self.loss, self.found = loss, {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        model = unwrap(runner.model)
        loss = copy.deepcopy(model.distiller.distill_losses[self.loss])
        with torch.no_grad():
            inputs = [model.data_preprocessor(x, False)['inputs'] for x in runner.val_dataloader]
            z = torch.cat([model.teacher.logits(x) for x in inputs]).double()
        hessians = vmap(hessian(lambda x, row: loss(x[None], row[None])))(z, z)
        traces = hessians.diagonal(dim1=1, dim2=2).sum().item()
        self.found[runner.iter + 1] = traces / z.numel()


@pytest.mark.parametrize('by_epoch', [True, False])
@pytest.mark.parametrize('relax_to', [None, 0.25])
def test_the_logged_strength_is_that_of_the_runs_own_loss_and_teacher(tmp_path, relax_to, by_epoch):
    probe = Autograd()
    cfg = config(
        teacher_of(tmp_path / 't.pth'), tmp_path, schedule(relax_to, by_epoch=by_epoch), CHECK
    )
    cfg.default_hooks.logger.interval = 3  # not the first iteration of an epoch, nor the last
    run(cfg, probe)
    found = logged(tmp_path, by='step')
    assert list(found) == [0, *range(3, EPOCHS * LENGTH, LENGTH)]
    assert found == pytest.approx({step: probe.found[max(step, 1)] for step in found}, rel=1e-4)
    assert len(set(probe.found.values())) == (EPOCHS if by_epoch else EPOCHS * LENGTH)


@pytest.mark.parametrize('relax_to', [1 / 16, 0.25, 1, 2.5])
@pytest.mark.parametrize('sharpness', [0.3, 1.0])
def test_relax_to_is_reached_in_the_last_epoch(tmp_path, sharpness, relax_to):
    ckpt = teacher_of(tmp_path / 't.pth', sharpness)
    run(config(ckpt, tmp_path, CHECK, schedule(relax_to), epochs=12))
    found = list(logged(tmp_path).values())
    assert len(found) == 12
    assert found[-1] / found[0] == pytest.approx(relax_to, rel=1e-3)
    assert max(found) <= 1.001 * max(found[0], found[-1])
    text = toy.log_text(tmp_path)
    if relax_to == 2.5:
        assert 'it tightens 2.5 times' in text
    if relax_to == 0.25:
        assert 'it relaxes to 0.25 of its initial strength' in text
    assert 'tightens it' not in text
    regular = (sharpness, relax_to) != (1.0, 1)  # otherwise KL vanishes before Cor has grown
    assert (largest_rebound(found) <= 1.1) == regular == ('in between' not in text)


def test_relax_to_is_reached_in_an_iteration_based_run(tmp_path):
    ckpt = teacher_of(tmp_path / 't.pth')
    cfg = config(ckpt, tmp_path, CHECK, schedule(0.25), by_epoch=False)
    cfg.default_hooks.logger.interval = 1000
    runner = run(cfg)
    found, _ = runner.message_hub.get_scalar('train/loss_prkd.strength').data
    # at the beginning of each epoch, in the last iteration, and where the logger writes
    assert len(found) == EPOCHS + 2
    assert found[-1] / found[0] == pytest.approx(0.25, rel=1e-3)


def test_relax_to_is_reached_with_other_shapes_and_a_start_above_0(tmp_path):
    cfg = schedule(0.5, by_epoch=False)
    cfg['schedules'][2].update(start=0.1, shape='cosine')
    probe = Autograd()
    run(config(teacher_of(tmp_path / 't.pth'), tmp_path, CHECK, cfg), probe)
    assert probe.found[EPOCHS * LENGTH] / probe.found[1] == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize('by_epoch', [True, False])
def test_a_resumed_run_does_not_solve_again(tmp_path, monkeypatch, by_epoch):
    ckpt = teacher_of(tmp_path / 't.pth')
    relaxed = schedule(0.25, by_epoch=by_epoch)
    whole = run(config(ckpt, tmp_path / 'whole', CHECK, relaxed))
    with pytest.raises(toy.Killed):
        kill = dict(type='KillHook', epoch=3)
        run(config(ckpt, tmp_path / 'cut', CHECK, relaxed, kill))
    monkeypatch.setattr(
        'prkd_mm.hooks.relaxation.solve_relax_to', lambda *_: pytest.fail('solved again')
    )
    last = (tmp_path / 'cut/last_checkpoint').read_text()
    rest = toy.resume(config(ckpt, tmp_path / 'rest', CHECK, relaxed), last)
    toy.assert_same(toy.student(whole).state_dict(), toy.student(rest).state_dict())
    strengths = logged(tmp_path / 'whole')
    assert logged(tmp_path / 'rest') == {epoch: strengths[epoch] for epoch in range(4, 9)}


class Compare(Hook):
    """In every iteration, the logged strength and that of the loss with its current values."""

    priority = 'VERY_LOW'

    def __init__(self):
        self.pairs = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        (check,) = (hook for hook in runner.hooks if isinstance(hook, TeacherCheckHook))
        now = check.meter.total(known_losses(runner)['loss_prkd'])
        logged = runner.message_hub.get_scalar('train/loss_prkd.strength').current()
        self.pairs.append((logged, now))


def test_the_strength_is_current_after_a_resume_within_an_epoch(tmp_path):
    ckpt = teacher_of(tmp_path / 't.pth')
    within = LENGTH + LENGTH // 2
    options = {
        'default_hooks.checkpoint.by_epoch': False,
        'default_hooks.checkpoint.interval': within,
        'default_hooks.logger.interval': 1000,
    }
    with pytest.raises(toy.Killed):
        kill = dict(type='KillHook', iteration=within + 1)
        run(config(ckpt, tmp_path / 'cut', CHECK, schedule(0.25), kill, **options))
    cfg = config(ckpt, tmp_path / 'rest', CHECK, schedule(0.25), **options)
    cfg.merge_from_dict(dict(resume=True, load_from=str(tmp_path / f'cut/iter_{within}.pth')))
    probe = Compare()
    run(cfg, probe)
    assert len(probe.pairs) == (EPOCHS - 1) * LENGTH  # MMEngine repeats the second epoch
    found, expected = zip(*probe.pairs)
    assert found == expected and len(set(found)) == EPOCHS - 1


def test_a_new_run_from_a_checkpoint_solves_for_its_own_teacher(tmp_path):
    run(config(teacher_of(tmp_path / 't.pth'), tmp_path / 'a', CHECK, schedule(0.25), epochs=4))
    cfg = config(teacher_of(tmp_path / 'u.pth', 0.3), tmp_path / 'b', CHECK, schedule(0.25))
    cfg.load_from = str(tmp_path / 'a/epoch_4.pth')
    run(cfg)
    found = logged(tmp_path / 'b')
    assert found[EPOCHS] / found[1] == pytest.approx(0.25, rel=1e-3)


def test_the_analysis_of_a_run_uses_the_end_that_the_run_solved(tmp_path):
    cfg = config(teacher_of(tmp_path / 't.pth', 0.3), tmp_path / 'a', CHECK, schedule(0.25))
    hook = next(
        hook for hook in run(cfg).hooks if isinstance(hook, LossScheduleHook) and hook.schedules
    )
    end = hook.schedules['loss_prkd', 'cor_weight'].end
    found = solved_ends(Run('PRKD', cfg))
    assert found == {'loss_prkd.cor_weight': end}
    meter = StrengthMeter(torch.randn(64, 10, generator=torch.Generator().manual_seed(0)))
    ends = [
        RunLosses(cfg, meter, solved).hooks[0].schedules['loss_prkd', 'cor_weight'].end
        for solved in (found, None)
    ]
    assert ends[0] == end != ends[1]
    cfg.work_dir = str(tmp_path / 'b')
    assert solved_ends(Run('PRKD', cfg)) == {}


def test_the_strength_is_logged_even_without_a_schedule(tmp_path):
    distiller = toy.logits_distiller(loss_kl=dict(type='mmrazor.KLDivergence', tau=3.0))
    probe = Autograd('loss_kl')
    run(
        config(teacher_of(tmp_path / 't.pth'), tmp_path, CHECK, epochs=2, distiller=distiller),
        probe,
    )
    found = logged(tmp_path, 'loss_kl.strength', by='step')
    assert found == pytest.approx(probe.found, rel=1e-4)
    line = f'loss_kl: supervision {probe.found[1]:#.2g} during the whole run (40 validation images)'
    before, after = toy.log_text(tmp_path).split(line)
    assert 'Epoch(train)' not in before and 'Epoch(train)' in after


def test_the_figure_of_the_schedules_shows_the_logged_strength(tmp_path):
    runner = toy.start(config(teacher_of(tmp_path / 't.pth'), tmp_path, CHECK, schedule(0.25)))
    drawn = mock.patch('prkd_mm.hooks.loss_schedule_hook.plot_schedules')
    with toy.quickly(draw=True), drawn as plot:
        runner.train()
    epochs, values, path, totals, terms = plot.call_args.args
    assert epochs == list(range(EPOCHS + 1)) and path == f'{tmp_path}/schedule.png'
    assert totals == dict(loss_prkd=pytest.approx(list(logged(tmp_path).values()), rel=1e-6))
    assert set(terms) == {'loss_prkd: KL', 'loss_prkd: Cor'}
    parts = [sum(pair) for pair in zip(*terms.values())]
    assert parts == pytest.approx(totals['loss_prkd'], rel=1e-9)


def test_a_sharp_teacher_gets_a_warning_about_the_final_temperature(tmp_path):
    ckpt = teacher_of(tmp_path / 't.pth', 10.0)
    run(config(ckpt, tmp_path, CHECK, schedule(0.9), epochs=12))
    text = toy.log_text(tmp_path)
    found = list(logged(tmp_path).values())
    assert f'climbs back by a factor of {found[-1] / min(found):.2g}' in text
    assert found[-1] / min(found) > 1.1
    assert 'raise the final temperature τ_L, the end of the schedule of tau (now 1)' in text
    assert 'the larger end' not in text


def test_a_run_of_two_epochs_reaches_the_target_beyond_its_end(tmp_path):
    ckpt = teacher_of(tmp_path / 't.pth', 0.3)
    run(config(ckpt, tmp_path, CHECK, schedule(0.25), epochs=2))
    first, last = logged(tmp_path).values()
    text = toy.log_text(tmp_path)
    assert 'relax_to=0.25 would be reached at r = 1' in text
    assert f'ends at {last / first:.2g} of its initial strength, not at relax_to=0.25' in text


def test_a_resumed_run_of_another_length_says_that_it_misses_the_target(tmp_path):
    ckpt = teacher_of(tmp_path / 't.pth', 0.3)
    run(config(ckpt, tmp_path / 'a', CHECK, schedule(0.25), epochs=4))
    assert 'not at relax_to' not in toy.log_text(tmp_path / 'a')
    last = (tmp_path / 'a/last_checkpoint').read_text()
    toy.resume(config(ckpt, tmp_path / 'b', CHECK, schedule(0.25), epochs=12), last)
    text = toy.log_text(tmp_path / 'b')
    assert 'not at relax_to=0.25' in text and 'a resumed run of another length' in text


class TestErrors:
    @pytest.mark.parametrize(
        'changed, match',
        [
            (dict(relax_to=0), 'relax_to=0; it must be a number above 0 and at most 1000'),
            (dict(relax_to=-0.5), 'relax_to=-0.5; it must be'),
            (dict(relax_to='0.25'), "relax_to='0.25'; it must be"),
            (dict(relax_to=True), 'relax_to=True; it must be'),
            (dict(relax_to=float('inf')), 'relax_to=inf; it must be'),
            (dict(relax_to=1e9), 'relax_to=1000000000.0; it must be'),
            (dict(end=1.0), 'both end=1.0 and relax_to=0.25'),
            (dict(attr='tau', start=4.0), 'loss_prkd.tau .* belongs to the schedule of cor_weight'),
            (dict(shape='constant'), "belongs to .* a shape other than 'constant'"),
        ],
        ids=str,
    )
    def test_a_malformed_schedule_is_an_error(self, changed, match):
        with pytest.raises(ValueError, match=match):
            Schedule(
                **dict(dict(loss='loss_prkd', attr='cor_weight', start=0, relax_to=0.25), **changed)
            )

    def raises(self, cfg, match):
        probe = Autograd()
        with pytest.raises(ValueError, match=match):
            run(cfg, probe)
        assert not probe.found

    def test_relax_to_without_logits_of_the_teacher_is_an_error(self, tmp_path):
        ckpt = teacher_of(tmp_path / 't.pth')
        self.raises(
            config(ckpt, tmp_path, schedule(0.25)),
            r'cor_weight: relax_to=0.25 needs logits .*TeacherCheckHook',
        )

    def test_a_target_out_of_reach_is_an_error(self, tmp_path):
        cfg = schedule(0.25)
        cfg['schedules'][1]['end'] = 1.0  # end of kl_weight
        self.raises(
            config(teacher_of(tmp_path / 't.pth', 0.3), tmp_path, CHECK, cfg),
            'cannot be reached, .* the other terms alone keep',
        )

    def test_a_target_for_a_loss_on_features_is_an_error(self, tmp_path):
        distiller = with_loss_on_features(
            loss_kl=dict(type='mmrazor.KLDivergence'), loss_feature=dict(type='mmrazor.PRKDLoss')
        )
        relaxed = dict(loss='loss_feature', attr='cor_weight', start=0.0, relax_to=0.25)
        hook = dict(type='LossScheduleHook', schedules=[relaxed])
        ckpt = teacher_of(tmp_path / 't.pth')
        self.raises(
            config(ckpt, tmp_path, CHECK, hook, distiller=distiller),
            'cor_weight: relax_to needs a loss on the logits, but loss_feature compares features',
        )

    def test_an_initial_strength_of_0_is_an_error(self, tmp_path):
        cfg = schedule(0.25)
        cfg['schedules'][1]['start'] = 0.0
        self.raises(
            config(teacher_of(tmp_path / 't.pth'), tmp_path, CHECK, cfg),
            'cannot be reached, .*initial strength of the loss is 0',
        )

    def test_a_correlation_without_strength_is_an_error(self, tmp_path):
        model = toy.logits_distiller(loss_prkd=dict(type='mmrazor.PRKDLoss', inter_weight=0.0))
        self.raises(
            config(
                teacher_of(tmp_path / 't.pth'), tmp_path, CHECK, schedule(0.25), distiller=model
            ),
            'the correlation has no strength',
        )
