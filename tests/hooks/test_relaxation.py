"""Strength in the log of a run, and relax_to, against autograd on the run's own loss."""

import copy
import re
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
import toy
from mmengine.hooks import Hook
from mmengine.registry import MODELS
from torch.func import hessian, vmap

from prkd_mm.analysis.runs import Run
from prkd_mm.analysis.strength.along_run import RunLosses, solved_ends
from prkd_mm.evaluation import unwrap
from prkd_mm.hooks import LossScheduleHook
from prkd_mm.hooks.relaxation import (
    announce,
    course_of,
    losses_at,
    solve_relax_to,
    summary,
    warnings,
)
from prkd_mm.hooks.strength_log import LogitSample, known_losses
from prkd_mm.losses import PRKDLoss
from prkd_mm.schedules import Schedule
from prkd_mm.strength import StrengthMeter, largest_rebound

EPOCHS, LENGTH = 8, toy.TRAIN_SIZE // toy.BATCH_SIZE
CHECK = dict(type='TeacherCheckHook')


def teacher_of(path, sharpness=1.0):
    """Checkpoint of a teacher whose logits are scaled."""
    toy.save_teacher(path)
    checkpoint = torch.load(path, weights_only=False)
    for name in ('head.fc.weight', 'head.fc.bias'):
        checkpoint['state_dict'][name] = sharpness * checkpoint['state_dict'][name]
    torch.save(checkpoint, path)
    return str(path)


def schedule(relax_to=None, tau_end=1.0, **kwargs):
    cfg = toy.prkd_schedule(**kwargs)
    cfg['schedules'][0]['end'] = tau_end
    if relax_to is not None:
        cfg['schedules'][2] = dict(
            loss='loss_prkd', attr='cor_weight', start=0.0, relax_to=relax_to
        )
    return cfg


def config(ckpt, work_dir, *hooks, epochs=EPOCHS, distiller=None, **options):
    model = toy.distillation(ckpt, distiller=distiller)
    return toy.config(model, work_dir, *hooks, epochs=epochs, log_level='INFO', **options)


class Autograd(Hook):
    """Strength by epoch, computed by autograd from the loss and teacher of the run."""

    priority = 'VERY_LOW'

    def __init__(self, loss='loss_prkd'):
        self.loss, self.found = loss, {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter % LENGTH:
            return
        model = unwrap(runner.model)
        loss = copy.deepcopy(model.distiller.distill_losses[self.loss])
        with torch.no_grad():
            inputs = [model.data_preprocessor(x, False)['inputs'] for x in runner.val_dataloader]
            z = torch.cat([model.teacher.logits(x) for x in inputs]).double()
        hessians = vmap(hessian(lambda x, row: loss(x[None], row[None])))(z, z)
        traces = hessians.diagonal(dim1=1, dim2=2).sum().item()
        self.found[runner.iter // LENGTH + 1] = traces / z.numel()


def run(cfg, probe=None):
    runner = toy.start(cfg)
    if probe is not None:
        runner.register_hook(probe)
    with toy.quickly():
        runner.train()
    return runner


def logged(work_dir, key='loss_prkd.strength'):
    """Logged values by 1-based epoch."""
    return {line['epoch']: line[key] for line in toy.logged(work_dir) if key in line}


@pytest.mark.parametrize('by_epoch', [True, False])
@pytest.mark.parametrize('relax_to', [None, 0.25])
def test_the_logged_strength_is_that_of_the_runs_own_loss_and_teacher(tmp_path, relax_to, by_epoch):
    probe = Autograd()
    cfg = config(
        teacher_of(tmp_path / 't.pth'), tmp_path, schedule(relax_to, by_epoch=by_epoch), CHECK
    )
    run(cfg, probe)
    assert logged(tmp_path) == pytest.approx(probe.found, rel=1e-4)
    assert len(set(probe.found.values())) == EPOCHS


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
    runner = run(config(ckpt, tmp_path, CHECK, schedule(0.25), by_epoch=False))
    found, _ = runner.message_hub.get_scalar('train/loss_prkd.strength').data
    assert len(found) == EPOCHS
    assert found[-1] / found[0] == pytest.approx(0.25, rel=1e-3)


def test_relax_to_is_reached_with_other_shapes_and_a_start_above_0(tmp_path):
    cfg = schedule(0.5, by_epoch=False)
    cfg['schedules'][2].update(start=0.1, shape='cosine')
    probe = Autograd()
    run(config(teacher_of(tmp_path / 't.pth'), tmp_path, CHECK, cfg), probe)
    # the last epoch begins LENGTH - 1 iterations before the last iteration
    assert 0.45 < list(probe.found.values())[-1] / probe.found[1] < 0.6


def test_a_resumed_run_does_not_solve_again(tmp_path, monkeypatch):
    ckpt = teacher_of(tmp_path / 't.pth')
    whole = run(config(ckpt, tmp_path / 'whole', CHECK, schedule(0.25)))
    with pytest.raises(toy.Killed):
        kill = dict(type='KillHook', epoch=3)
        run(config(ckpt, tmp_path / 'cut', CHECK, schedule(0.25), kill))
    monkeypatch.setattr(
        'prkd_mm.hooks.relaxation.solve_relax_to', lambda *_: pytest.fail('solved again')
    )
    last = (tmp_path / 'cut/last_checkpoint').read_text()
    rest = toy.resume(config(ckpt, tmp_path / 'rest', CHECK, schedule(0.25)), last)
    toy.assert_same(toy.student(whole).state_dict(), toy.student(rest).state_dict())
    strengths = logged(tmp_path / 'whole')
    assert logged(tmp_path / 'rest') == {epoch: strengths[epoch] for epoch in range(4, 9)}


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
    assert logged(tmp_path, 'loss_kl.strength') == pytest.approx(probe.found, rel=1e-4)
    line = f'loss_kl: supervision {probe.found[1]:#.2g} during the whole run'
    before, after = toy.log_text(tmp_path).split(line)
    assert 'Epoch(train)' not in before and 'Epoch(train)' in after


def test_losses_on_features_have_no_strength():
    kl = dict(type='mmrazor.KLDivergence', tau=3.0)
    cfg = toy.logits_distiller(loss_kl=kl, loss_feature=kl)
    recorders = dict(cfg['student_recorders'], feature=dict(type='ModuleOutputs', source='neck'))
    cfg.update(student_recorders=recorders, teacher_recorders=recorders)
    cfg['loss_forward_mappings'] = dict(
        cfg['loss_forward_mappings'],
        loss_feature=dict(
            preds_S=dict(from_student=True, recorder='feature'),
            preds_T=dict(from_student=False, recorder='feature'),
        ),
    )
    distiller = MODELS.build(dict(cfg, _scope_='mmrazor'))
    runner = SimpleNamespace(model=SimpleNamespace(distiller=distiller))
    assert list(known_losses(runner)) == ['loss_kl']


def test_without_a_teacher_check_the_strength_is_unknown(tmp_path):
    run(config(teacher_of(tmp_path / 't.pth'), tmp_path, schedule(), epochs=1))
    assert toy.log_text(tmp_path).count('strength of the supervision is unknown') == 1
    assert not logged(tmp_path)


def test_a_long_schedule_costs_few_evaluations_before_the_first_batch():
    hook = LossScheduleHook(schedule()['schedules'])
    hook.set_length(240)
    hook.losses = dict(loss_prkd=PRKDLoss())
    generator = torch.Generator().manual_seed(0)
    meter = StrengthMeter(3 * torch.randn(32, 10, generator=generator))
    exact = [meter.total(losses_at([hook], epoch)['loss_prkd']) for epoch in range(240)]
    with mock.patch.object(meter, 'terms', wraps=meter.terms) as terms:
        course = course_of([hook], 240, 1, meter)
    assert terms.call_count <= 60
    assert course.iterations == list(range(240))
    assert len(course.values['loss_prkd.tau']) == 240
    found = course.totals['loss_prkd']
    assert (found[0], found[-1]) == (exact[0], exact[-1])
    assert found == pytest.approx(exact, rel=2e-3)
    parts = zip(course.terms['loss_prkd: KL'], course.terms['loss_prkd: Cor'])
    assert found == pytest.approx([kl + cor for kl, cor in parts], rel=1e-9)


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


def test_two_classes_get_a_warning_because_cor_has_no_gradient(tmp_path):
    z = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    hook = LossScheduleHook(schedule()['schedules'])
    hook.set_length(8)
    hook.losses = dict(loss_prkd=PRKDLoss())
    course = course_of([hook], 8, 1, StrengthMeter(z))
    found = mock.Mock()
    announce(course, [hook], found)
    said = ' '.join(call.args[0] for call in found.warning.call_args_list)
    assert 'Cor has no strength for this teacher (as with two classes' in said
    # its gradient with respect to the student's logits, too
    preds_S = torch.randn(64, 2, requires_grad=True, dtype=torch.double)
    PRKDLoss(kl_weight=0.0, cor_weight=1.0)(preds_S, z.double()).backward()
    assert preds_S.grad.abs().max() < 1e-9


def test_a_large_solved_weight_gets_a_warning():
    # a sharp teacher at ten classes: Cor constrains the student hardly
    generator = torch.Generator().manual_seed(0)
    z = 15 * torch.eye(10)[torch.randint(10, (64,), generator=generator)]
    hook = LossScheduleHook(schedule(2.0)['schedules'])
    hook.set_length(240)
    hook.losses = dict(loss_prkd=PRKDLoss())
    meter = StrengthMeter(z)
    solve_relax_to(hook.schedules['loss_prkd', 'cor_weight'], [hook], 239, meter)
    found = mock.Mock()
    announce(course_of([hook], 240, 1, meter), [hook], found)
    said = ' '.join(call.args[0] for call in found.warning.call_args_list)
    end = hook.schedules['loss_prkd', 'cor_weight'].end
    assert end > 20 and f'cor_weight ends at {end:.3g}' in said and 'Raise tau_cor' in said


class TestSentences:
    def test_the_summary_describes_the_change(self):
        assert summary('a', [0.04, 0.083]) == (
            'a: supervision 0.040 → 0.083: it tightens 2.1 times'
        )
        assert summary('a', [1, 1.03]).endswith('it tightens 1.03 times')
        assert summary('a', [0.04, 0.01]).endswith('it relaxes to 0.25 of its initial strength')
        assert summary('a', [0.04, 0.04]).endswith('it ends as strong as it begins')
        assert summary('a', [0, 0.04]).endswith('it tightens from 0')

    PRKD = [
        Schedule('a', 'tau', 4, 1),
        Schedule('a', 'kl_weight', 1, 0),
        Schedule('a', 'cor_weight', 0, 1),
    ]

    def test_a_schedule_that_is_meant_to_relax_and_tightens_gets_a_warning(self):
        (text,) = warnings('a', [0.04, 0.05, 0.083], self.PRKD)
        assert 'meant to relax' in text and 'tightens it 2.1 times' in text
        assert 'relax_to=0.25' in text
        assert not warnings('a', [0.04, 0.02], self.PRKD)
        # without a schedule of cor_weight, there is none to replace
        (text,) = warnings('a', [0.04, 0.083], [Schedule('a', 'tau', 4, 1)])
        assert 'relax_to' not in text and 'scale_by_tau2=True' in text
        # a warm-up is not meant to relax
        assert not warnings('a', [0.04, 0.083], [Schedule('a', 'loss_weight', 0, 1)])

    @pytest.mark.parametrize(
        'course, words',
        [
            ([4, 3, 2, 1], []),
            ([4, 1, 1.05], []),
            ([4, 1, 1.2], ['falls and climbs back by a factor of 1.2']),
            ([1, 0.5, 2], ['falls and climbs back by a factor of 2']),
            ([4, 5, 1], ['reaches 5.0, 1.2 times the larger end']),
            ([4, 4.2, 1], ['reaches 4.2, 1.05 times the larger end']),
            ([1, 3, 2], ['reaches 3.0, 1.5 times the larger end']),
            ([4, 1, 5, 2], ['times the larger end', 'climbs back by a factor of 4']),
            ([4, 0, 2], ['climbs back from 0, because']),
        ],
        ids=str,
    )
    def test_a_strength_that_is_not_monotonic_gets_a_warning(self, course, words):
        relax_to = course[-1] / course[0]
        schedules = [*self.PRKD[:2], Schedule('a', 'cor_weight', 0, relax_to=relax_to)]
        found = warnings('a', course, schedules)
        assert len(found) == len(words)
        assert all(word in text for word, text in zip(words, found))


class TestErrors:
    @pytest.mark.parametrize(
        'changed, match',
        [
            (dict(relax_to=0), 'relax_to=0; it must be a finite number above 0'),
            (dict(relax_to=-0.5), 'relax_to=-0.5; it must be'),
            (dict(relax_to='0.25'), "relax_to='0.25'; it must be"),
            (dict(relax_to=True), 'relax_to=True; it must be'),
            (dict(relax_to=float('inf')), 'relax_to=inf; it must be'),
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


@pytest.mark.parametrize('total, kept', [(40, 40), (1024, 1024), (5000, 1000), (10000, 1000)])
def test_kept_logits_are_spread_evenly(total, kept):
    sample = LogitSample(total)
    rows = torch.arange(total, dtype=torch.float32)[:, None].expand(-1, 4)
    for batch in rows.split(96):
        sample.add(batch)
    found = sample.gather()[:, 0].sort().values
    assert len(found) == kept
    assert len(set(found.diff().tolist())) == 1
    assert not re.search('nan', str(found))
