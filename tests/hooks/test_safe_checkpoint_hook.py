import errno
import os

import pytest
import torch
import toy
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from prkd_mm import files
from prkd_mm.hooks import SafeCheckpointHook
from prkd_mm.scalars import validated_steps


def config(work_dir, *hooks, epochs=3, by_epoch=True, **checkpoint):
    interval = 1 if by_epoch else toy.TRAIN_SIZE // toy.BATCH_SIZE
    return toy.config(
        toy.classifier(preprocessor=dict(mean=[127.5] * 3, std=[60.0] * 3)),
        work_dir,
        dict(type='TailAverageHook', num_epochs=2),
        *hooks,
        epochs=epochs,
        by_epoch=by_epoch,
        **{
            'default_hooks.checkpoint': dict(
                type='SafeCheckpointHook', by_epoch=by_epoch, interval=interval, **checkpoint
            ),
            'default_hooks.runtime_info': dict(type='LeanRuntimeInfoHook'),
        },
    )


def load(path):
    return torch.load(path, weights_only=False)


def rows(*work_dirs):
    """Validation rows by epoch; no epoch may occur twice."""
    found = [row for folder in work_dirs for row in toy.logged(folder) if 'lr' not in row]
    assert len({row['step'] for row in found}) == len(found)
    times = ('time', 'data_time')
    return {row['step']: {k: v for k, v in row.items() if k not in times} for row in found}


@HOOKS.register_module()
class KillInValidation(Hook):
    """Stop a run at the start of the validation of an epoch (iteration)."""

    priority = 'LOWEST'

    def __init__(self, step):
        self.step = step

    def before_val_epoch(self, runner):
        if self.step in (runner.epoch, runner.iter):
            raise toy.Killed


@HOOKS.register_module()
class Break(Hook):
    """Make a weight or the learning rate nan before an iteration."""

    def __init__(self, iteration, what='weight'):
        self.iteration, self.what = iteration, what

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.iteration:
            if self.what == 'weight':
                next(runner.model.parameters()).data.fill_(float('nan'))
            else:
                runner.optim_wrapper.param_groups[0]['lr'] = float('nan')


@HOOKS.register_module()
class NotePositions(Hook):
    """Record epoch and iteration during validation."""

    def __init__(self):
        self.positions = []

    def before_val_epoch(self, runner):
        hub = runner.message_hub
        self.positions.append((hub.get_info('epoch'), hub.get_info('iter'), runner.epoch))


class TestMissedValidation:
    def test_the_validation_has_the_position_of_an_uninterrupted_run(self, tmp_path):
        def positions(runner):
            (hook,) = (hook for hook in runner.hooks if isinstance(hook, NotePositions))
            return hook.positions

        note = dict(type='NotePositions')
        straight = positions(toy.train(config(tmp_path / 'straight', note)))
        with pytest.raises(toy.Killed):
            toy.train(config(tmp_path / 'cut', dict(type='KillInValidation', step=2)))
        resumed = toy.resume(config(tmp_path / 'cut', note), tmp_path / 'cut/epoch_2.pth')
        assert positions(resumed) == straight[1:] == [(1, 7, 2), (2, 11, 3)]

    @pytest.mark.parametrize('killed_in', [1, 2, 3])
    def test_a_resumed_run_validates_the_epoch_of_the_killed_run(self, tmp_path, killed_in):
        straight, cut = tmp_path / 'straight', tmp_path / 'cut'
        toy.train(config(straight))
        with pytest.raises(toy.Killed):
            toy.train(config(cut, dict(type='KillInValidation', step=killed_in)))
        assert killed_in not in validated_steps(cut)
        toy.resume(config(cut), cut / f'epoch_{killed_in}.pth')
        assert rows(cut) == rows(straight) and list(rows(straight)) == [1, 2, 3]
        for name in ('epoch_3.pth', 'student_avg.pth'):
            one, other = load(straight / name), load(cut / name)
            toy.assert_same(one['state_dict'], other['state_dict'])
        assert one['meta']['metrics'] == other['meta']['metrics']
        assert one['meta']['raw_metrics'] == other['meta']['raw_metrics']

    def test_an_iteration_based_run_validates_too(self, tmp_path):
        options = {'default_hooks.logger.log_metric_by_epoch': False}
        cfg = config(tmp_path, dict(type='KillInValidation', step=8), by_epoch=False)
        cfg.merge_from_dict(options)
        with pytest.raises(toy.Killed):
            toy.train(cfg)
        cfg = config(tmp_path, by_epoch=False)
        cfg.merge_from_dict(options)
        toy.resume(cfg, tmp_path / 'iter_8.pth')
        assert list(rows(tmp_path)) == [4, 8, 12]

    def test_nothing_is_validated_twice(self, tmp_path):
        half, rest = tmp_path / 'half', tmp_path / 'rest'
        with pytest.raises(toy.Killed):
            toy.train(config(half, dict(type='KillHook', epoch=2)))
        toy.resume(config(rest), half / 'epoch_2.pth')
        assert list(rows(half, rest)) == [1, 2, 3]

    def test_an_epoch_without_validation_is_not_validated(self, tmp_path):
        options = {'train_cfg.val_interval': 2}
        cfg = config(tmp_path, dict(type='KillHook', epoch=1))
        cfg.merge_from_dict(options)
        with pytest.raises(toy.Killed):
            toy.train(cfg)
        cfg = config(tmp_path)
        cfg.merge_from_dict(options)
        toy.resume(cfg, tmp_path / 'epoch_1.pth')
        assert list(rows(tmp_path)) == [2, 3]

    def test_an_interval_that_has_changed_is_that_of_the_epoch(self, tmp_path):
        options = {'train_cfg.val_interval': 1, 'train_cfg.dynamic_intervals': [(3, 3)]}

        def with_options(*hooks):
            cfg = config(tmp_path, *hooks, epochs=7)
            cfg.merge_from_dict(options)
            return cfg

        with pytest.raises(toy.Killed):
            toy.train(with_options(dict(type='KillHook', epoch=4)))
        toy.resume(with_options(), tmp_path / 'epoch_4.pth')
        assert list(rows(tmp_path)) == [1, 3, 6, 7]
        assert 'before the validation' not in toy.log_text(tmp_path)

    def test_the_best_checkpoint_is_selected_again(self, tmp_path):
        """Its score is not in the checkpoint, although the row is logged."""
        best = dict(save_best='accuracy/top1')
        toy.train(config(tmp_path / 'straight', **best))
        cut = config(tmp_path / 'cut', dict(type='KillBeforeBest', epoch=2), **best)
        with pytest.raises(toy.Killed):
            toy.train(cut)
        toy.resume(config(tmp_path / 'cut', **best), tmp_path / 'cut/epoch_2.pth')
        names = [
            sorted(path.name for path in (tmp_path / run).glob('best_*'))
            for run in ('straight', 'cut')
        ]
        assert names[0] == names[1] and len(names[0]) == 1


@HOOKS.register_module()
class KillBeforeBest(Hook):
    """Stop a run after a validation was logged, before the best is saved."""

    priority = 80

    def __init__(self, epoch):
        self.epoch = epoch

    def after_val_epoch(self, runner, metrics=None):
        if runner.epoch == self.epoch:
            raise toy.Killed


class TestWriting:
    def test_the_new_checkpoint_is_written_before_the_old_one_is_removed(
        self, tmp_path, monkeypatch
    ):
        seen = []
        remove = SafeCheckpointHook._remove

        def note(self, paths):
            seen.append(sorted(path.name for path in tmp_path.glob('epoch_*.pth')))
            remove(self, paths)

        monkeypatch.setattr(SafeCheckpointHook, '_remove', note)
        toy.train(config(tmp_path, max_keep_ckpts=1))
        assert seen == [
            ['epoch_1.pth'], ['epoch_1.pth', 'epoch_2.pth'], ['epoch_2.pth', 'epoch_3.pth']
        ]  # fmt: skip
        assert [path.name for path in tmp_path.glob('epoch_*.pth')] == ['epoch_3.pth']

    def test_the_best_checkpoint_is_replaced_in_the_same_order(self, tmp_path, monkeypatch):
        cfg = config(tmp_path, save_best='accuracy/top1', max_keep_ckpts=1)
        runner = toy.start(cfg)
        (hook,) = (hook for hook in runner.hooks if isinstance(hook, SafeCheckpointHook))
        hook.before_train(runner)
        for score in (10.0, 20.0, 30.0):
            seen = []
            remove = type(hook)._remove

            def note(self, paths, seen=seen, remove=remove):
                seen.append(len(list(tmp_path.glob('best_*'))))
                remove(self, paths)

            monkeypatch.setattr(type(hook), '_remove', note)
            runner.train_loop._epoch += 1
            hook.after_val_epoch(runner, {'accuracy/top1': score})
            monkeypatch.setattr(type(hook), '_remove', remove)
            assert len(list(tmp_path.glob('best_*'))) == 1
            assert seen[-1] == (1 if score == 10 else 2)

    def test_a_full_disk_leaves_a_checkpoint_that_can_be_resumed(self, tmp_path, monkeypatch):
        replace = os.replace

        def full(source, target):
            if str(target).endswith('epoch_2.pth'):
                raise OSError(errno.ENOSPC, 'No space left on device')
            replace(source, target)

        monkeypatch.setattr(files.os, 'replace', full)
        with pytest.raises(OSError, match='the disk is full: .*epoch_2.pth.*free some space'):
            toy.train(config(tmp_path, max_keep_ckpts=1))
        monkeypatch.undo()
        assert [path.name for path in tmp_path.glob('epoch_*')] == ['epoch_1.pth']
        assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'epoch_1.pth')
        assert not list(tmp_path.glob('.*partial'))
        toy.resume(config(tmp_path), tmp_path / 'epoch_1.pth')
        assert list(rows(tmp_path)) == [1, 2, 3]

    def test_checkpoints_are_those_of_the_mmengine_hook(self, tmp_path):
        toy.train(config(tmp_path / 'safe', max_keep_ckpts=2))
        cfg = config(tmp_path / 'plain', max_keep_ckpts=2)
        cfg.default_hooks.checkpoint.type = 'CheckpointHook'
        toy.train(cfg)
        safe, plain = (tmp_path / name for name in ('safe', 'plain'))
        assert sorted(p.name for p in safe.glob('*.pth')) == sorted(
            p.name for p in plain.glob('*.pth')
        )
        one, other = load(safe / 'epoch_3.pth'), load(plain / 'epoch_3.pth')
        assert one['meta'].pop('world_size') == 1
        toy.assert_same(one['optimizer'], other['optimizer'])
        toy.assert_same(one['state_dict'], other['state_dict'])
        assert list(one['meta']) == list(other['meta'])


class TestNotFinite:
    @pytest.mark.parametrize('what', ['weight', 'lr'])
    def test_a_run_stops_at_the_next_log_and_saves_nothing(self, tmp_path, what):
        cfg = config(tmp_path, dict(type='Break', iteration=5, what=what))
        with pytest.raises(FloatingPointError, match=r'(loss was nan in iteration [67] \(epoch 2)'):
            toy.train(cfg)
        assert [path.name for path in tmp_path.glob('*.pth')] == ['epoch_1.pth']

    def test_the_terms_are_named(self, tmp_path):
        cfg = toy.config(
            toy.distillation(toy.save_teacher(tmp_path / 'teacher.pth')),
            tmp_path,
            toy.prkd_schedule(),
            dict(type='BreakTeacher', iteration=2),
            **{'default_hooks.runtime_info': dict(type='LeanRuntimeInfoHook')},
        )
        with pytest.raises(FloatingPointError) as error:
            toy.train(cfg)
        text = str(error.value)
        assert 'distill.loss_prkd was nan' in text and 'iteration 3 (epoch 1)' in text
        assert 'student' not in text and ' loss was' not in text

    def test_bad_weights_after_a_finite_loss_are_not_saved(self, tmp_path):
        """The last step of an epoch makes them nan, and no loss shows it yet."""
        cfg = config(tmp_path, dict(type='Break', iteration=7, what='lr'))
        with pytest.raises(FloatingPointError, match='not finite, so no checkpoint was saved'):
            toy.train(cfg)
        assert [path.name for path in tmp_path.glob('*.pth')] == ['epoch_1.pth']


@HOOKS.register_module()
class BreakTeacher(Hook):
    """Make the teacher's logits nan before an iteration."""

    def __init__(self, iteration):
        self.iteration = iteration

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.iteration:
            for parameter in runner.model.teacher.parameters():
                parameter.data.fill_(float('nan'))
