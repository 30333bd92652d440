import math
import struct

import pytest
import torch
import toy
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, DefaultScope

from prkd_mm.evaluation import unwrap
from prkd_mm.hooks import LossScheduleHook

EPOCHS, LENGTH = 4, toy.TRAIN_SIZE // toy.BATCH_SIZE


ATTRS = ('tau', 'kl_weight', 'cor_weight')


class Probe(Hook):
    """Record the attributes of a loss after each iteration."""

    priority = 'VERY_LOW'

    def __init__(self, loss='loss_prkd', attrs=ATTRS):
        self.loss, self.attrs = loss, attrs
        self.seen = {}  # values by epoch and iteration of the whole run

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        loss = unwrap(runner.model).distiller.distill_losses[self.loss]
        self.seen[runner.iter // LENGTH, runner.iter] = tuple(
            getattr(loss, attr) for attr in self.attrs
        )


def run(cfg, probe, **kwargs):
    runner = toy.start(cfg)
    runner.register_hook(probe)
    with toy.quickly(**kwargs):
        runner.train()
    return runner


def prkd(r):
    """tau, kl_weight and cor_weight by the formulas of the method."""
    return 4.0 - (4.0 - 1.0) * r, 1.0 - r, r


def assert_follows(probe, work_dir, progress, iterations):
    """Check that the values in use and the logged values follow the formula."""
    assert sorted(i for _, i in probe.seen) == list(iterations)
    for (epoch, iteration), values in probe.seen.items():
        assert values == pytest.approx(prkd(progress(epoch, iteration)), abs=1e-12)
    lines = [line for line in toy.logged(work_dir) if 'iter' in line]
    assert [line['iter'] - 1 for line in lines] == list(iterations)
    for line in lines:
        iteration = line['iter'] - 1
        assert [line[f'loss_prkd.{attr}'] for attr in ATTRS] == pytest.approx(
            prkd(progress(iteration // LENGTH, iteration)), abs=1e-12
        )


PROGRESS = {
    True: lambda epoch, iteration: epoch / EPOCHS,
    False: lambda epoch, iteration: iteration / (EPOCHS * LENGTH),
}


@pytest.mark.parametrize('accumulate', [1, 3])
@pytest.mark.parametrize('epoch_based_run', [True, False])
@pytest.mark.parametrize('by_epoch', [True, False])
class TestFormula:
    def config(self, ckpt, tmp_path, by_epoch, epoch_based_run, accumulate, *hooks, **options):
        return toy.config(
            toy.distillation(ckpt),
            tmp_path,
            toy.prkd_schedule(by_epoch=by_epoch),
            *hooks,
            epochs=EPOCHS,
            by_epoch=epoch_based_run,
            **{'optim_wrapper.accumulative_counts': accumulate},
            **options,
        )

    def test_values_follow_the_formula_during_a_run(
        self, ckpt, tmp_path, by_epoch, epoch_based_run, accumulate
    ):
        probe = Probe()
        run(self.config(ckpt, tmp_path, by_epoch, epoch_based_run, accumulate), probe)
        assert_follows(probe, tmp_path, PROGRESS[by_epoch], range(EPOCHS * LENGTH))

    def test_values_follow_the_formula_after_a_resume(
        self, ckpt, tmp_path, by_epoch, epoch_based_run, accumulate
    ):
        # an iteration-based run stops within an epoch
        done = 2 * LENGTH if epoch_based_run else 6
        kill = (
            dict(type='KillHook', epoch=2)
            if epoch_based_run
            else dict(type='KillHook', iteration=done + 1)
        )
        args = by_epoch, epoch_based_run, accumulate
        options = {} if epoch_based_run else {'default_hooks.checkpoint.interval': 3}
        with pytest.raises(toy.Killed):
            run(self.config(ckpt, tmp_path / 'a', *args, kill, **options), Probe())
        last = (tmp_path / 'a/last_checkpoint').read_text()
        probe, rest = Probe(), self.config(ckpt, tmp_path / 'b', *args)
        rest.merge_from_dict(dict(resume=True, load_from=last))
        run(rest, probe)
        assert_follows(probe, tmp_path / 'b', PROGRESS[by_epoch], range(done, EPOCHS * LENGTH))


def test_a_run_may_end_within_an_epoch(ckpt, tmp_path):
    probe = Probe()
    run(
        toy.config(
            toy.distillation(ckpt), tmp_path, toy.prkd_schedule(), epochs=2.5, by_epoch=False
        ),
        probe,
    )
    assert_follows(probe, tmp_path, lambda epoch, _: epoch / 2.5, range(10))


@pytest.mark.parametrize('by_epoch, begin, end', [(True, 1, 3), (True, 0, 2), (False, 3, 13)])
def test_values_follow_the_formula_within_a_window(ckpt, tmp_path, by_epoch, begin, end):

    def progress(epoch, iteration):
        position = epoch if by_epoch else iteration
        return min(1, max(0, (position - begin) / (end - begin)))

    probe = Probe()
    run(
        toy.config(
            toy.distillation(ckpt),
            tmp_path,
            toy.prkd_schedule(by_epoch=by_epoch, begin=begin, end=end),
            epochs=EPOCHS,
        ),
        probe,
    )
    assert_follows(probe, tmp_path, progress, range(EPOCHS * LENGTH))


def test_each_attribute_can_have_its_own_shape(ckpt, tmp_path):
    """One run uses all four shapes, each for another attribute."""
    probe = Probe(attrs=('tau', 'tau_cor', 'kl_weight', 'loss_weight'))
    run(
        toy.config(
            toy.distillation(ckpt),
            tmp_path,
            dict(
                type='LossScheduleHook',
                schedules=[
                    dict(loss='loss_prkd', attr='tau', start=5, end=1),
                    dict(loss='loss_prkd', attr='tau_cor', start=4, end=2, shape='cosine'),
                    dict(loss='loss_prkd', attr='kl_weight', start=1, end=0.5, shape='step'),
                    dict(loss='loss_prkd', attr='loss_weight', start=0.9, shape='constant'),
                ],
            ),
            epochs=EPOCHS,
        ),
        probe,
    )
    cosine = [3 + math.cos(math.pi * e / 4) for e in range(4)]
    expected = list(zip([5, 4, 3, 2], cosine, [1, 1, 0.5, 0.5], [0.9] * 4))
    for (epoch, _), values in probe.seen.items():
        assert values == pytest.approx(expected[epoch], abs=1e-12)


def test_losses_of_mmrazor_can_be_scheduled(ckpt, tmp_path):
    probe = Probe('loss_kl', ['tau'])
    distiller = toy.logits_distiller(loss_kl=dict(type='mmrazor.KLDivergence'))
    run(
        toy.config(
            toy.distillation(ckpt, distiller=distiller),
            tmp_path,
            dict(
                type='LossScheduleHook',
                schedules=[dict(loss='loss_kl', attr='tau', start=4.0, end=1.0)],
            ),
        ),
        probe,
    )
    assert sorted(set(probe.seen.values())) == [(2.5,), (4.0,)]


def test_two_hooks_can_change_one_loss(ckpt, tmp_path):
    """One hook follows the epochs, the other the iterations."""
    probe = Probe(attrs=('tau', 'kl_weight'))
    hooks = [
        dict(
            type='LossScheduleHook',
            by_epoch=by_epoch,
            schedules=[dict(loss='loss_prkd', attr=attr, start=1.0, end=0.5)],
        )
        for attr, by_epoch in (('tau', True), ('kl_weight', False))
    ]
    runner = run(toy.config(toy.distillation(ckpt), tmp_path, *hooks), probe)
    logged = runner.message_hub.get_scalar('train/loss_prkd.kl').data[0]
    assert len(logged) == 2 * LENGTH  # not one line per hook
    for (epoch, iteration), values in probe.seen.items():
        assert values == pytest.approx((1 - 0.5 * epoch / 2, 1 - 0.5 * iteration / 8), abs=1e-12)


@pytest.fixture(scope='module')
def work_dir(tmp_path_factory):
    """Work dir of a run with all its logs."""
    path = tmp_path_factory.mktemp('log')
    ckpt = toy.save_teacher(path / 'teacher.pth')
    model = toy.distillation(ckpt)
    model['distiller']['distill_losses']['loss_prkd']['loss_weight'] = 0.5
    run(
        toy.config(
            model, path, toy.prkd_schedule(), log_level='INFO', **{'log_processor.window_size': 1}
        ),
        Probe(),
        draw=True,
    )
    return path


class TestLog:
    def test_terms_are_unweighted(self, work_dir):
        lines = [line for line in toy.logged(work_dir) if 'iter' in line]
        assert len(lines) == 2 * LENGTH
        for line in lines:
            kl, cor = line['loss_prkd.kl'], line['loss_prkd.cor']
            assert kl > 0 and cor > 0
            assert line['distill.loss_prkd'] == pytest.approx(
                0.5 * (line['loss_prkd.kl_weight'] * kl + line['loss_prkd.cor_weight'] * cor),
                rel=1e-5,
            )

    def test_the_text_log_contains_the_terms(self, work_dir):
        text = toy.log_text(work_dir)
        assert 'loss_prkd.tau: 2.5000' in text and 'loss_prkd.cor: ' in text

    def test_logged_values_are_not_added_to_the_total_loss(self, work_dir):
        for line in toy.logged(work_dir):
            if 'iter' in line:
                assert line['loss'] == pytest.approx(
                    line['student.loss'] + line['distill.loss_prkd']
                )

    def test_the_schedule_is_plotted(self, work_dir):
        picture = (work_dir / 'schedule.png').read_bytes()
        assert picture.startswith(b'\x89PNG')
        width, height = struct.unpack('>II', picture[16:24])
        assert width > 400 and height > 300


@pytest.mark.parametrize('scope', ['mmengine', 'mmpretrain', 'mmrazor'])
def test_the_hook_is_found_from_every_scope(scope):
    with DefaultScope.overwrite_default_scope(scope):
        hook = HOOKS.build(toy.prkd_schedule())
    assert isinstance(hook, LossScheduleHook)


@pytest.mark.slow
def test_a_compiled_run_equals_an_eager_run(ckpt, tmp_path):
    """Compiled code must use each new value of the schedule."""
    torch._dynamo.reset()
    runners = [
        run(
            toy.config(
                toy.distillation(ckpt), tmp_path / name, toy.prkd_schedule(), epochs=4, **options
            ),
            Probe(),
        )
        for name, options in (('eager', {}), ('compiled', dict(compile=dict(backend='eager'))))
    ]
    one, two = (dict(toy.student(r).state_dict()) for r in runners)
    torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)
    logs = [
        [line['distill.loss_prkd'] for line in toy.logged(tmp_path / name) if 'iter' in line]
        for name in ('eager', 'compiled')
    ]
    assert logs[0] == pytest.approx(logs[1], rel=1e-3)
