import copy

import averaged
import pytest
import torch
import toy
from averaged import load
from mmengine.hooks import Hook


class Counter(Hook):
    """Count the calls, and record the weights before and after every validation."""

    priority = 'LOWEST'

    def __init__(self):
        self.calls, self.pairs = [], []

    def before_val(self, runner):
        self._before = copy.deepcopy(runner.model.state_dict())

    def before_val_epoch(self, runner):
        self.calls.append('before')

    def after_val_iter(self, runner, batch_idx, data_batch, outputs):
        self.calls.append('iter')

    def after_val_epoch(self, runner, metrics=None):
        self.calls.append('after')

    def after_val(self, runner):
        self.pairs.append((self._before, copy.deepcopy(runner.model.state_dict())))


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """The same run with a hook that validates, one that does not, and none.

    The only source of randomness is the one stream that starts with the run:
    there is no EpochSeedHook that would hide a random number drawn from it.
    """
    path, results = tmp_path_factory.mktemp('runs'), []
    ckpt = toy.save_teacher(path / 'teacher.pth')
    hook = dict(type='TailAverageHook', num_epochs=3)
    for i, hooks in enumerate([[hook], [dict(hook, evaluate=False)], []]):
        counter = Counter()
        model = toy.distillation(ckpt, student=toy.classifier(dropout=0.3))
        runner = toy.start(
            toy.config(
                model, path / str(i), toy.prkd_schedule(), *hooks, epochs=4, epoch_seed=False
            )
        )
        runner.register_hook(counter)
        with toy.quickly():
            runner.train()
        results.append((path / str(i), counter))
    return results


def test_validation_leaves_the_weights_unchanged(runs):
    for _, counter in runs:
        assert len(counter.pairs) == 4
        for before, after in counter.pairs:
            toy.assert_same(before, after)


def test_validation_leaves_the_rest_of_the_run_unchanged(runs):
    for epoch in (1, 2, 3, 4):
        ours, silent, without = (load(path, f'epoch_{epoch}.pth') for path, _ in runs)
        for other in (silent, without):
            toy.assert_same(ours['state_dict'], other['state_dict'])
            toy.assert_same(ours['optimizer'], other['optimizer'])


def test_training_changes_the_weights(runs):
    one, two = averaged.students(runs[0][0], ['epoch_3', 'epoch_4'])
    assert not torch.equal(one['head.fc.weight'], two['head.fc.weight'])


def test_hooks_are_called_once_per_validation(runs):
    for _, counter in runs:
        assert counter.calls == 4 * (['before'] + 5 * ['iter'] + ['after'])


def test_the_average_is_the_same_without_validation(runs):
    ours, silent = (load(path)['state_dict'] for path, _ in runs[:2])
    toy.assert_same(ours, silent)
    assert not (runs[2][0] / 'student_avg.pth').exists()


def test_raw_and_averaged_accuracy_are_logged_in_one_row(runs):
    logs = [[line for line in toy.logged(path) if 'accuracy/top1' in line] for path, _ in runs]
    for lines in logs:
        assert [line['step'] for line in lines] == [1, 2, 3, 4]
    in_the_tail = ['student_avg/accuracy/top1' in line for line in logs[0]]
    assert in_the_tail == [False, True, True, True]
    for lines in logs[1:]:
        assert not any('student_avg' in key for x in lines for key in x)
    assert load(runs[1][0])['meta']['metrics'] == {}


def test_a_run_without_validation_writes_an_average_without_metrics(ckpt, tmp_path):
    none = dict(val_dataloader=None, val_cfg=None, val_evaluator=None)
    runner = toy.train(averaged.config(ckpt, tmp_path, **none))
    assert runner.val_loop is None
    assert load(tmp_path)['meta']['metrics'] == {}


def test_only_whole_epochs_are_averaged_if_validation_is_within_an_epoch(ckpt, tmp_path):
    interval = {'train_cfg.val_interval': 3}
    toy.train(averaged.config(ckpt, tmp_path, tail=dict(bn='average'), by_epoch=False, **interval))
    lines = [x for x in toy.logged(tmp_path) if 'accuracy/top1' in x]
    in_the_tail = ['student_avg/accuracy/top1' in line for line in lines]
    assert in_the_tail == [False, True, True]  # after iterations 3, 6 and 8
    averaged.assert_average_of(tmp_path, ['iter_4', 'iter_8'])


def test_a_metric_of_the_average_cannot_select_checkpoints(ckpt, tmp_path):
    best = {'default_hooks.checkpoint.save_best': ['accuracy/top5', 'student_avg/accuracy/top1']}
    with pytest.raises(ValueError, match="save_best='student_avg/accuracy/top1' .*'accuracy/top1'"):
        toy.train(averaged.config(ckpt, tmp_path, **best))
    assert not list(tmp_path.glob('*.pth'))
