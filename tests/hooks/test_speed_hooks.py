"""Hooks that change the speed of a run and nothing else."""

import os

import pytest
import torch
import torch.multiprocessing as mp
import toy
from torch import distributed as dist

from prkd_mm.evaluation import unwrap

CHANNELS_LAST = dict(type='ChannelsLastHook')


@pytest.fixture(scope='module')
def teacher(tmp_path_factory):
    return toy.save_teacher(tmp_path_factory.mktemp('teacher') / 'teacher.pth')


def run(teacher, folder, *hooks, **options):
    cfg = toy.config(
        toy.distillation(teacher),
        folder,
        toy.prkd_schedule(),
        dict(type='TailAverageHook', num_epochs=1),
        *hooks,
        **options,
    )
    return toy.train(cfg)


def close(one, other):
    one, other = (toy.student(runner).state_dict() for runner in (one, other))
    assert list(one) == list(other)
    for name in one:
        torch.testing.assert_close(one[name], other[name].contiguous(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    'hook',
    [CHANNELS_LAST, dict(type='CompileHook', backend='aot_eager')],
    ids=lambda hook: hook['type'],
)
@pytest.mark.slow
def test_two_epochs_end_in_the_same_weights(hook, teacher, tmp_path):
    plain = run(teacher, tmp_path / 'plain')
    fast = run(teacher, tmp_path / 'fast', hook)
    close(plain, fast)
    assert (tmp_path / 'fast/student_avg.pth').exists()
    # each run can be resumed from the checkpoint of the other
    options = dict(resume=True, load_from=str(tmp_path / 'fast/epoch_1.pth'))
    close(plain, run(teacher, tmp_path / 'again', **options))
    options['load_from'] = str(tmp_path / 'plain/epoch_1.pth')
    close(plain, run(teacher, tmp_path / 'other', hook, **options))


def distributed_run(rank, teacher, folder):
    """Train in a process group, with and without the hook, and resume with it."""
    os.environ['LOCAL_RANK'] = '0'
    dist.init_process_group('gloo', init_method=f'file://{folder}/group', rank=rank, world_size=1)
    wrapper = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False)
    ends = {}
    for name, hooks in dict(plain=[], fast=[CHANNELS_LAST]).items():
        options = dict(launcher='pytorch', model_wrapper_cfg=dict(wrapper))
        runner = run(teacher, folder / name, *hooks, **options)
        assert isinstance(runner.model, torch.nn.parallel.DistributedDataParallel)
        ends[name] = toy.student(runner).state_dict()
    assert 'train_step' not in vars(runner.model)
    compiled = dict(options, compile=dict(backend='eager'), epochs=1)
    assert 'train_step' in vars(run(teacher, folder / 'compiled', CHANNELS_LAST, **compiled).model)
    options = dict(options, resume=True, load_from=str(folder / 'fast/epoch_1.pth'))
    runner = run(teacher, folder / 'resumed', CHANNELS_LAST, **options)
    torch.save(dict(ends, resumed=toy.student(runner).state_dict()), folder / 'ends.pth')
    dist.destroy_process_group()


@pytest.mark.slow
def test_distributed_runs_have_the_same_gradients(teacher, tmp_path):
    """The buckets of DistributedDataParallel are built before the conversion."""
    mp.spawn(distributed_run, (teacher, tmp_path))
    ends = torch.load(tmp_path / 'ends.pth')
    for name, weight in ends['plain'].items():
        torch.testing.assert_close(
            ends['fast'][name].contiguous(), weight, atol=1e-5, rtol=1e-4, msg=name
        )
    toy.assert_same(ends['resumed'], ends['fast'])


def test_a_seed_has_the_same_initial_weights_in_both_formats(tmp_path):
    """Weights drawn after the conversion would be in another order."""
    starts = []
    for name, hooks in (('plain', []), ('fast', [dict(type='ChannelsLastHook')])):
        net = toy.classifier(init_cfg=dict(type='Kaiming', layer='Conv2d'))
        runner = toy.start(
            toy.config(net, tmp_path / name, *hooks, **{'optim_wrapper.optimizer.lr': 1e-30})
        )
        with toy.quickly():
            runner.train()
        weight = runner.model.backbone.conv2.weight
        assert weight.is_contiguous() == (name == 'plain')
        starts.append(weight.detach().contiguous())
    torch.testing.assert_close(*starts, rtol=0, atol=0)


def test_channels_last_converts_student_and_teacher(teacher, tmp_path):
    model = unwrap(run(teacher, tmp_path, dict(type='ChannelsLastHook')).model)
    seen = []

    def look(module, inputs, output):
        seen.append(
            output.is_contiguous(memory_format=torch.channels_last) and not output.is_contiguous()
        )

    for net in (model.student, model.teacher.net):
        net.backbone.conv2.register_forward_hook(look)
        net(torch.rand(2, 3, 8, 8))
    assert seen == [True, True]


def test_both_backbones_are_compiled_and_keep_their_names(teacher, tmp_path):
    compiled = []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    runner = run(teacher, tmp_path, dict(type='CompileHook', teacher=False, backend=backend))
    students = len(compiled)
    assert students
    assert not any('_orig_mod' in key for key in runner.model.state_dict())
    torch._dynamo.reset()
    run(teacher, tmp_path / 'both', dict(type='CompileHook', backend=backend))
    assert len(compiled) > 2 * students
