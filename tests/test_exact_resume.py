"""A run that is killed after two of four epochs and resumed equals an uninterrupted run exactly."""

import pytest
import torch
import toy

LEFT_OUT = ('time', 'data_time')  # of the log


def config(work_dir, ckpt, num_workers, *hooks):
    return toy.config(
        toy.distillation(ckpt, student=toy.classifier(dropout=0.3)),
        work_dir,
        toy.prkd_schedule(),
        dict(type='TailAverageHook', num_epochs=3),
        *hooks,
        epochs=4,
        num_workers=num_workers,
    )


@pytest.fixture(
    scope='module', params=[0, pytest.param(2, marks=pytest.mark.slow)], ids='{} workers'.format
)
def runs(request, tmp_path_factory):
    """Work dirs of the uninterrupted run, and of both halves of the killed run."""
    path = tmp_path_factory.mktemp('runs')
    ckpt = toy.save_teacher(path / 'teacher.pth')
    straight, half, rest = path / 'straight', path / 'half', path / 'rest'
    toy.train(config(straight, ckpt, request.param))
    with pytest.raises(toy.Killed):
        toy.train(config(half, ckpt, request.param, dict(type='KillHook', epoch=2)))
    torch.manual_seed(request.param)  # a new process has another random state
    toy.resume(config(rest, ckpt, request.param), half / 'epoch_2.pth')
    return straight, half, rest


def both(runs, name):
    straight, _, rest = runs
    return [torch.load(folder / name, weights_only=False) for folder in (straight, rest)]


@pytest.mark.parametrize('epoch', [3, 4])
@pytest.mark.parametrize('key', ['state_dict', 'optimizer', 'tail_average'])
def test_the_checkpoints_are_equal(runs, epoch, key):
    one, two = both(runs, f'epoch_{epoch}.pth')
    toy.assert_same(one[key], two[key])
    assert one['meta']['iter'] == two['meta']['iter'] == 4 * epoch


def test_optimizer_has_momentum(runs):
    state = both(runs, 'epoch_4.pth')[0]['optimizer']['state']
    assert state and all(x['momentum_buffer'].any() for x in state.values())


def test_the_averaged_file_is_equal(runs):
    one, two = both(runs, 'student_avg.pth')
    toy.assert_same(one['state_dict'], two['state_dict'])
    for key in ('tail_average', 'metrics', 'raw_metrics'):
        assert one['meta'][key] == two['meta'][key]
    assert one['meta']['tail_average'] == [2, 3, 4]


def test_the_log_is_equal(runs):
    """The schedule, all losses and both accuracies are equal in each step."""

    def lines(folder):
        return [{k: v for k, v in line.items() if k not in LEFT_OUT} for line in toy.logged(folder)]

    straight, half, rest = map(lines, runs)
    assert len(straight) == 4 * (4 + 1)
    assert straight == half + rest
    assert {'loss', 'loss_prkd.tau', 'loss_prkd.kl', 'distill.loss_prkd'} < set(straight[0])
    assert 'student_avg/accuracy/top1' in straight[-1]


def test_epochs_differ(runs):
    """Otherwise equal results would prove nothing."""
    one, two = (torch.load(runs[0] / f'epoch_{epoch}.pth', weights_only=False) for epoch in (3, 4))
    assert not torch.equal(
        one['state_dict']['architecture.head.fc.weight'],
        two['state_dict']['architecture.head.fc.weight'],
    )
