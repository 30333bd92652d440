"""Accumulated gradients, mixed precision, EMA and compilation in a run with all hooks."""

from functools import partial

import pytest
import torch
import toy
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmpretrain.registry import MODELS

from prkd_mm.evaluation import unwrap

ATTRS = ('tau', 'kl_weight', 'cor_weight')


@MODELS.register_module()
class FixedNormBackbone(toy.ToyBackbone):
    """A net whose output for an image does not depend on the rest of the batch."""

    def train(self, mode=True):
        super().train(mode)
        self.bn1.eval()
        self.bn2.eval()
        return self


def config(ckpt, folder, *hooks, student=None, **options):
    cfg = toy.config(
        toy.distillation(ckpt, student),
        folder,
        toy.prkd_schedule(),
        dict(type='TailAverageHook', num_epochs=2, bn='average'),
        *hooks,
        log_level='INFO',
    )
    cfg.merge_from_dict(options)
    return cfg


def train(*args, **kwargs):
    return toy.train(config(*args, **kwargs))


def average(folder):
    return torch.load(folder / 'student_avg.pth', weights_only=False)['state_dict']


def schedule(folder):
    """Values of the schedule at the end of each epoch, by the log."""
    last = {line['epoch']: line for line in toy.logged(folder) if 'loss_prkd.tau' in line}
    return [[line[f'loss_prkd.{attr}'] for attr in ATTRS] for line in last.values()]


RELAXED = [[4.0, 1.0, 0.0], [2.5, 0.5, 0.5]]  # epochs 0 and 1 of 2, by the paper's formula


def resumes_to_the_same_bits(cfg, runner, folder):
    """The run goes on from its first checkpoint to the same student and average."""
    cfg.work_dir = str(folder / 'again')
    again = toy.resume(cfg, folder / 'epoch_1.pth')
    toy.assert_same(toy.student(again).state_dict(), toy.student(runner).state_dict())
    toy.assert_same(average(folder / 'again'), average(folder))


class TestAccumulatedGradients:
    """All losses are means over samples, so two halves of a batch equal the whole batch."""

    def run(self, ckpt, folder, batch_size, counts):
        student = toy.classifier()
        student['backbone']['type'] = 'mmpretrain.FixedNormBackbone'
        options = {
            'train_dataloader.batch_size': batch_size,
            'optim_wrapper.accumulative_counts': counts,
        }
        return toy.student(train(ckpt, folder, student=student, **options)).state_dict()

    def test_two_half_batches_equal_a_whole_batch(self, ckpt, tmp_path):
        whole = self.run(ckpt, tmp_path / 'whole', 8, 1)
        halves = self.run(ckpt, tmp_path / 'halves', 4, 2)
        torch.testing.assert_close(halves, whole, rtol=1e-4, atol=1e-5)
        folders = tmp_path / 'halves', tmp_path / 'whole'
        torch.testing.assert_close(*map(average, folders), rtol=1e-4, atol=1e-5)
        assert [schedule(folder) for folder in folders] == [RELAXED, RELAXED]
        # half batches that are not accumulated end elsewhere
        other = self.run(ckpt, tmp_path / 'small', 4, 1)
        with pytest.raises(AssertionError):
            torch.testing.assert_close(other, whole, rtol=1e-2, atol=1e-2)


@HOOKS.register_module()
class RecordLogits(Hook):
    """Keep the first logits of student and teacher."""

    def before_train(self, runner):
        model = unwrap(runner.model)
        RecordLogits.first = {}
        for name, net in (('student', model.architecture), ('teacher', model.teacher.net)):
            net.head.fc.register_forward_hook(partial(self._record, name))

    def _record(self, name, module, inputs, output):
        RecordLogits.first.setdefault(name, output.detach())


def test_bfloat16_follows_the_float32_run(ckpt, tmp_path, monkeypatch):
    # MMEngine refuses AMP without a GPU, although autocast supports CPUs
    module = 'mmengine.optim.optimizer.amp_optimizer_wrapper'
    monkeypatch.setattr(f'{module}.is_cuda_available', lambda: True)
    amp = {'optim_wrapper.type': 'AmpOptimWrapper', 'optim_wrapper.dtype': 'bfloat16'}
    cfg = config(ckpt, tmp_path / 'amp', dict(type='RecordLogits'), **amp)
    runner = toy.train(cfg)
    assert schedule(tmp_path / 'amp') == RELAXED

    logits = RecordLogits.first
    assert {value.dtype for value in logits.values()} == {torch.bfloat16}
    student, teacher = ((logits[name].double() / 4).log_softmax(1) for name in sorted(logits))
    kl = 16 * (teacher.exp() * (teacher - student)).sum(1).mean()  # of these logits, exactly
    first = toy.logged(tmp_path / 'amp')[0]['distill.loss_prkd']
    assert first == pytest.approx(float(kl), rel=1e-5)

    train(ckpt, tmp_path / 'plain')
    averages = [average(tmp_path / name) for name in ('amp', 'plain')]
    assert {value.dtype for value in averages[0].values()} <= {torch.float32, torch.int64}
    torch.testing.assert_close(*averages, rtol=0.02, atol=0.02)
    resumes_to_the_same_bits(cfg, runner, tmp_path / 'amp')


def test_float16_with_a_loss_scaler_skips_steps_that_overflow(ckpt, tmp_path, monkeypatch):
    """The schedule and the average follow the epochs; a resumed run has the same scale."""
    module = 'mmengine.optim.optimizer.amp_optimizer_wrapper'
    monkeypatch.setattr(f'{module}.is_cuda_available', lambda: True)
    monkeypatch.setattr(f'{module}.GradScaler', partial(torch.amp.GradScaler, 'cpu'))
    # MMEngine's own accepts only bfloat16 on CPUs
    monkeypatch.setattr('mmengine.runner.amp.autocast', partial(torch.autocast, 'cpu'))
    amp = {
        'optim_wrapper.type': 'AmpOptimWrapper',
        'optim_wrapper.dtype': 'float16',
        'optim_wrapper.loss_scale': dict(init_scale=2.0**24, growth_interval=4),
    }
    cfg = config(ckpt, tmp_path / 'amp', dict(type='RecordLogits'), **amp)
    runner = toy.train(cfg)
    assert {value.dtype for value in RecordLogits.first.values()} == {torch.float16}
    assert schedule(tmp_path / 'amp') == RELAXED
    scaler = runner.optim_wrapper.loss_scaler.state_dict()
    assert 2 <= scaler['scale'] < 2.0**24  # halved after each overflow
    train(ckpt, tmp_path / 'plain')
    averages = [average(tmp_path / name) for name in ('amp', 'plain')]
    assert {value.dtype for value in averages[0].values()} <= {torch.float32, torch.int64}
    assert all(torch.isfinite(value).all() for value in averages[0].values())
    resumes_to_the_same_bits(cfg, runner, tmp_path / 'amp')


def test_an_ema_does_not_change_the_tail_average(ckpt, tmp_path):
    """The tail averages the raw students; the metrics without a prefix are those of the EMA."""
    cfg = config(ckpt, tmp_path / 'ema', dict(type='EMAHook', momentum=0.02))
    ema, plain = toy.train(cfg), train(ckpt, tmp_path / 'plain')
    toy.assert_same(average(tmp_path / 'ema'), average(tmp_path / 'plain'))
    assert schedule(tmp_path / 'ema') == RELAXED

    checkpoint = torch.load(tmp_path / 'ema/epoch_2.pth', weights_only=False)
    keys = {*checkpoint['state_dict'], *checkpoint['ema_state_dict']}
    assert not any('teacher' in key for key in keys)
    raw = plain.val_loop.run()['accuracy/top1']
    plain.load_checkpoint(str(tmp_path / 'ema/epoch_2.pth'))  # its state_dict is the EMA
    averaged = plain.val_loop.run()['accuracy/top1']
    lines = [line for line in toy.logged(tmp_path / 'ema') if 'accuracy/top1' in line]
    assert lines[-1]['accuracy/top1'] == averaged != raw
    meta = torch.load(tmp_path / 'ema/student_avg.pth', weights_only=False)['meta']
    assert meta['raw_metrics']['accuracy/top1'] == raw
    assert f'(last epoch alone: {raw:.4f})' in toy.log_text(tmp_path / 'ema')
    resumes_to_the_same_bits(cfg, ema, tmp_path / 'ema')


def test_compiled_backbones_give_the_same_run(ckpt, tmp_path):
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    cfg = config(ckpt, tmp_path / 'compiled', dict(type='CompileHook', backend=backend))
    runners = toy.train(cfg), train(ckpt, tmp_path / 'plain')
    assert graphs
    toy.assert_same(*(dict(toy.student(runner).state_dict()) for runner in runners))
    toy.assert_same(average(tmp_path / 'compiled'), average(tmp_path / 'plain'))
    assert schedule(tmp_path / 'compiled') == RELAXED
    resumes_to_the_same_bits(cfg, runners[0], tmp_path / 'compiled')
