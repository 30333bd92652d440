"""The hook logs the same as MMEngine's own, at lower cost."""

import re
from types import SimpleNamespace

import pytest
import torch
import toy
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.runner import LogProcessor

from prkd_mm.hooks import LeanRuntimeInfoHook

LENGTH = toy.TRAIN_SIZE // toy.BATCH_SIZE
OF_THE_CLOCK = ('time', 'data_time')
CUSTOM = [
    dict(data_src='loss', method_name='mean', window_size='global'),
    dict(data_src='student.loss', method_name='max', window_size=6),
    dict(data_src='lr', method_name='mean', window_size=5, log_name='mean_step'),
]
NOT_WITHOUT_EPOCHS = [
    dict(data_src='loss', method_name='min', log_name='lowest_loss'),
    dict(data_src='distill.loss_prkd', method_name='mean', window_size='epoch'),
]


def config(work_dir, ckpt, *hooks, lean=True, by_epoch=True, **options):
    if lean:
        options['default_hooks.runtime_info'] = dict(type='LeanRuntimeInfoHook')
    return toy.config(
        toy.distillation(ckpt), work_dir, toy.prkd_schedule(), *hooks, by_epoch=by_epoch, **options
    )


def scalars(work_dir):
    return [
        {k: v for k, v in line.items() if k.split('/')[-1] not in OF_THE_CLOCK}
        for line in toy.logged(work_dir)
    ]


def histories(checkpoint):
    """Histories of training in a checkpoint, without the times."""
    hub = torch.load(checkpoint, weights_only=False)['message_hub']
    return {
        key: [x.tolist() for x in history.data]
        for key, history in hub['log_scalars'].items()
        if key.startswith('train/') and key[6:] not in OF_THE_CLOCK
    }


@pytest.mark.parametrize('by_epoch', [True, False])
@pytest.mark.parametrize(
    'options',
    [
        dict(),
        {'default_hooks.logger.interval': 3},
        {'default_hooks.logger.interval': 3, 'default_hooks.logger.ignore_last': False},
        {'default_hooks.logger.interval': 100},
        {
            'default_hooks.logger.interval': 2,
            'log_processor.window_size': 1,
            'log_processor.log_with_hierarchy': True,
        },
        {
            'default_hooks.logger.interval': 2,
            'log_processor.window_size': 3,
            'log_processor.custom_cfg': CUSTOM,
        },
        {
            'default_hooks.logger.interval': LENGTH,
            'log_processor.window_size': 1,
            'log_processor.custom_cfg': [],
        },
    ],
    ids=str,
)
def test_scalars_equal_those_of_mmengine(ckpt, tmp_path, by_epoch, options):
    if by_epoch and 'log_processor.custom_cfg' in options:
        custom = options['log_processor.custom_cfg'] + NOT_WITHOUT_EPOCHS
        options = {**options, 'log_processor.custom_cfg': custom}
    logs, texts = [], []
    for lean in (True, False):
        folder = tmp_path / str(lean)
        toy.train(
            config(
                folder, ckpt, lean=lean, by_epoch=by_epoch, epochs=3, log_level='INFO', **options
            )
        )
        logs.append(scalars(folder))
        texts.append(re.findall(r'\((?:train|val)\).*?\]  | loss.*', toy.log_text(folder)))
    assert logs[0] == logs[1]
    assert texts[0] == texts[1] and texts[0]
    assert len(logs[0]) >= 3


class TestResume:
    @pytest.mark.parametrize('by_epoch', [True, False])
    def test_a_resumed_run_ends_with_the_same_histories(self, ckpt, tmp_path, by_epoch):
        """In an iteration-based run, the checkpoint is between two log lines."""
        options = {
            'by_epoch': by_epoch,
            'epochs': 3,
            'default_hooks.logger.interval': 3,
            'log_processor.window_size': 4,
            'default_hooks.checkpoint.interval': 1 if by_epoch else 4,
        }
        straight, half, rest = (tmp_path / name for name in ('straight', 'half', 'rest'))
        toy.train(config(straight, ckpt, **options))
        with pytest.raises(toy.Killed):
            toy.train(
                config(half, ckpt, dict(type='KillHook', iteration=2 * LENGTH + 1), **options)
            )
        done, last = ('epoch_2', 'epoch_3') if by_epoch else ('iter_8', 'iter_12')
        toy.resume(config(rest, ckpt, **options), half / f'{done}.pth')
        one, two = (histories(x / f'{last}.pth') for x in (straight, rest))
        assert one == two
        lines = scalars(rest)
        assert len(lines) >= 2 and lines == scalars(straight)[-len(lines) :]

    def test_a_checkpoint_contains_all_values(self, ckpt, tmp_path):
        found = []
        for lean in (True, False):
            toy.train(
                config(
                    tmp_path / str(lean),
                    ckpt,
                    lean=lean,
                    by_epoch=False,
                    **{'default_hooks.logger.interval': 100},
                )
            )
            found.append(histories(tmp_path / str(lean) / 'iter_8.pth'))
        assert found[0] == found[1]
        assert len(found[0]['train/loss'][0]) == 8

    def test_a_run_without_the_hook_can_be_resumed(self, ckpt, tmp_path):
        toy.train(config(tmp_path / 'a', ckpt, lean=False, epochs=3))
        runner = toy.resume(
            config(tmp_path / 'b', ckpt, epochs=4, **{'log_processor.window_size': 2}),
            tmp_path / 'a/epoch_3.pth',
        )
        assert len(runner.message_hub.get_scalar('train/loss').data[0]) == 2


class TestHistories:
    def test_the_length_of_histories_is_bounded(self, ckpt, tmp_path):
        """The limit is the window or, between two log lines, the interval."""
        runner = toy.train(
            config(
                tmp_path,
                ckpt,
                epochs=6,
                **{
                    'default_hooks.logger.interval': 2,
                    'log_processor.window_size': 3,
                    'log_processor.custom_cfg': CUSTOM,
                    'val_dataloader.batch_size': 4,
                },
            )
        )
        lengths = {
            key: len(history.data[0]) for key, history in runner.message_hub.log_scalars.items()
        }
        for name in ('loss', 'student.loss', 'lr'):  # in custom_cfg
            assert lengths.pop(f'train/{name}') == 6 * LENGTH
        for name in ('time', 'data_time'):  # the log shows their mean over an epoch
            assert lengths.pop(f'val/{name}') == 40 // 4 + 1
        assert max(n for key, n in lengths.items() if key.startswith('train/')) <= 3

    def test_the_cost_of_a_value_is_the_same_after_300000(self):
        hub = MessageHub.get_instance('many')
        hub.update_scalar('train/loss', 0.0)
        hub.get_scalar('train/loss').__init__(range(300000), [1] * 300000)
        runner = SimpleNamespace(
            message_hub=hub,
            log_processor=LogProcessor(),
            val_loop=None,
            train_loop=None,
            train_dataloader=range(300000),
            hooks=[],
        )
        hook = LeanRuntimeInfoHook()
        hook._intervals = [1]
        copied = []
        for i in range(3):
            copied.append(len(hub.get_scalar('train/loss').data[0]))
            hook.after_train_iter(runner, i, None, dict(loss=float(i)))
        assert copied == [300000, 300001, 10]
        assert hub.get_scalar('train/loss').data[0][-3:].tolist() == [0, 1, 2]


class Watch(Hook):
    """Count the calls that wait for a device during the iterations."""

    priority = 'VERY_LOW'

    def __init__(self, monkeypatch):
        self.patch = monkeypatch
        self.counts, self.outputs = [], []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.counts.append(0)
        for name in ('item', 'tolist', '__float__'):
            self.patch.setattr(torch.Tensor, name, self.counted(getattr(torch.Tensor, name)))

    def counted(self, function):

        def call(tensor):
            self.counts[-1] += 1
            return function(tensor)

        return call

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.patch.undo()
        self.outputs.append(outputs)


@pytest.mark.parametrize(
    'lean, expected',
    [
        (True, [0, 0, 1, 1] * 2),  # interval 3, and the end of an epoch
        (False, [5, 5, 5, 5] * 2),
    ],
)
def test_the_device_is_synchronized_once_per_log_line(ckpt, tmp_path, monkeypatch, lean, expected):
    """Each iteration has three losses and the two terms of PRKDLoss."""
    watch = Watch(monkeypatch)
    runner = toy.start(config(tmp_path, ckpt, lean=lean, **{'default_hooks.logger.interval': 3}))
    runner.register_hook(watch)
    with toy.quickly():
        runner.train()
    assert watch.counts == expected
    for outputs in watch.outputs:  # other hooks receive unchanged outputs
        assert isinstance(outputs['loss'], torch.Tensor)


def test_pending_values_keep_no_graph_in_memory():
    hook = LeanRuntimeInfoHook()
    hook._intervals = [100]
    runner = SimpleNamespace(train_dataloader=range(1000))
    loss = torch.ones((), requires_grad=True) * 2
    hook.after_train_iter(runner, 0, None, dict(loss=loss))
    hook.after_train_iter(runner, 1, None, None)
    ((key, (value,)),) = hook._pending.items()
    assert (key, value.item(), value.grad_fn) == ('train/loss', 2, None)


def test_numbers_of_all_types_are_recorded():
    values = (
        torch.tensor(0.1),
        3,
        torch.tensor(7),
        0.5,
        torch.tensor([0.1], dtype=torch.float64),
        torch.tensor(0.3),
    )
    runner = SimpleNamespace(
        message_hub=MessageHub.get_instance('kinds'),
        val_loop=None,
        log_processor=LogProcessor(),
        train_loop=None,
        train_dataloader=range(9),
        hooks=[],
    )
    hook = LeanRuntimeInfoHook()
    hook._intervals = [1]
    hook.after_train_iter(runner, 0, None, {str(i): value for i, value in enumerate(values)})
    found = [runner.message_hub.get_scalar(f'train/{i}').current() for i in range(6)]
    assert found == [torch.tensor(0.1).item(), 3, 7, 0.5, 0.1, torch.tensor(0.3).item()]


def test_a_second_runtime_info_hook_is_an_error(ckpt, tmp_path):
    with pytest.raises(
        ValueError,
        match=r'another RuntimeInfoHook.*replace it .*: default_hooks=dict\(runtime_info=',
    ):
        toy.train(config(tmp_path, ckpt, dict(type='LeanRuntimeInfoHook'), lean=False))


def test_a_training_set_smaller_than_a_batch_is_an_error(tmp_path):
    options = {'train_dataloader.batch_size': 99, 'train_dataloader.drop_last': True}
    hook = {'default_hooks.runtime_info': dict(type='LeanRuntimeInfoHook')}
    cfg = toy.config(toy.classifier(), tmp_path, **options, **hook)
    with pytest.raises(ValueError, match='has 32 images, which do not fill one batch; lower'):
        toy.train(cfg)


def test_the_batches_of_several_processes_may_be_too_large_together(monkeypatch):
    runner = SimpleNamespace(train_dataloader=FewImages(), hooks=[])
    monkeypatch.setattr('prkd_mm.hooks.lean_runtime_info_hook.get_world_size', lambda: 8)
    with pytest.raises(ValueError, match='do not fill one batch for each of 8 processes; lower'):
        LeanRuntimeInfoHook().before_train(runner)


class FewImages:
    """A loader without batches."""

    dataset = range(32)

    def __len__(self):
        return 0
