"""Distillation on two processes: equal results on all ranks, and files of rank 0 only."""

import os
from unittest import mock

import pytest
import torch
import torch.multiprocessing as mp
import toy
from mmengine.hooks import Hook
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import HOOKS
from mmpretrain.evaluation import Accuracy
from torch import distributed as dist

import prkd_mm.batch_norm as batch_norm
import prkd_mm.hooks.tail_average_hook as tail_average
import prkd_mm.hooks.teacher_check_hook as teacher_check
from prkd_mm.batch_norm import recalibrate_bn
from prkd_mm.checkpoints import write_atomically
from prkd_mm.evaluation import evaluate, unwrap
from prkd_mm.start.resume import check_same_start

RANKS = 2
EPOCHS = 4
TAIL = [3, 4]
RELAX_TO = 2.0


@HOOKS.register_module()
class Witness(Hook):
    """Record the values of a rank that are not in any file."""

    priority = 'LOWEST'

    def __init__(self):
        self.schedule, self.flips, self.metrics = [], [], []
        self.solved, self.strengths = [], []

    def before_train_epoch(self, runner):
        loss = unwrap(runner.model).distiller.distill_losses['loss_prkd']
        self.schedule.append((loss.tau, loss.kl_weight, loss.cor_weight))
        self.solved.append(runner.message_hub.get_info('relax_to/loss_prkd.cor_weight')['end'])
        (check,) = (h for h in runner.hooks if isinstance(h, teacher_check.TeacherCheckHook))
        self.strengths.append(check.meter.total(loss))
        self.flips.append([])

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.flips[-1] += [bool(s.flip) for s in data_batch['data_samples']]

    def after_val_epoch(self, runner, metrics=None):
        self.metrics.append(dict(metrics))


def config(ckpt, work_dir):
    schedule = toy.prkd_schedule()
    schedule['schedules'][2] = dict(
        loss='loss_prkd', attr='cor_weight', start=0.0, relax_to=RELAX_TO
    )
    return toy.config(
        toy.distillation(ckpt),
        work_dir,
        schedule,
        dict(type='TailAverageHook', num_epochs=len(TAIL)),
        dict(type='TeacherCheckHook', min_top1=30),
        dict(type='Witness'),
        dict(type='SyncBuffersHook'),
        epochs=EPOCHS,
        launcher='pytorch',
        # MMEngine's default, except for the device, which would be a GPU
        model_wrapper_cfg=dict(
            type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False
        ),
    )


def run(ckpt, work_dir, checkpoint=None) -> dict:
    """Train on this rank; return the final states and the recorded values."""
    cfg = config(ckpt, work_dir)
    local_statistics, extra_metrics, written = [], [], []

    def recalibrate_and_note(model, batches):
        recalibrate_bn(model, batches)
        local_statistics.append(
            {name: value.clone() for name, value in model.state_dict().items() if 'running' in name}
        )

    def evaluate_and_note(*args):
        extra_metrics.append(evaluate(*args))
        return extra_metrics[-1]

    def write_and_note(checkpoint, path):
        written.append(path)
        write_atomically(checkpoint, path)

    with (
        mock.patch.object(batch_norm, 'recalibrate_bn', recalibrate_and_note),
        mock.patch.object(tail_average, 'evaluate', evaluate_and_note),
        mock.patch.object(teacher_check, 'evaluate', evaluate_and_note),
        mock.patch.object(tail_average, 'write_atomically', write_and_note),
    ):
        runner = toy.resume(cfg, checkpoint) if checkpoint else toy.train(cfg)
    assert isinstance(runner.model, MMDistributedDataParallel)
    assert not runner.model.find_unused_parameters
    (hook,) = (h for h in runner.hooks if isinstance(h, tail_average.TailAverageHook))
    average, metrics = hook.average(runner)
    (witness,) = (h for h in runner.hooks if isinstance(h, Witness))
    return dict(
        model=unwrap(runner.model).state_dict(),
        optimizer=runner.optim_wrapper.state_dict(),
        average=average.state_dict(),
        average_metrics=metrics,
        local_statistics=local_statistics[-1],
        extra_metrics=extra_metrics,
        written=written,
        **vars(witness),
    )


def work(rank, folder, ckpt):
    """Train in one process."""
    os.environ['LOCAL_RANK'] = str(rank)  # as a launcher does
    # before MMEngine initializes it, which requires a GPU
    dist.init_process_group(
        'gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=RANKS
    )
    seen = dict(straight=run(ckpt, f'{folder}/straight'))
    seen['resumed'] = run(ckpt, f'{folder}/resumed', f'{folder}/straight/epoch_{TAIL[0]}.pth')
    seen['straight']['errors'] = [error_of_start(*start) for start in starts(rank, ckpt)]
    torch.save(seen, f'{folder}/rank_{rank}.pth')
    dist.destroy_process_group()


def starts(rank, ckpt):
    """Arguments of ``check_same_start`` on a rank: the same, another checkpoint or teacher."""
    model = toy.build(toy.distillation(ckpt))
    yield model, None, dict(iter=8), f'folder_of_{rank}/epoch_4.pth'
    yield model, None, dict(iter=8 + rank), 'epoch_4.pth'
    weights = torch.load(ckpt)
    weights['state_dict']['head.fc.bias'] += rank
    torch.save(weights, f'{ckpt}.{rank}')
    yield toy.build(toy.distillation(f'{ckpt}.{rank}')), None, {}, None


def error_of_start(*start):
    try:
        check_same_start(*start)
    except ValueError as error:
        return str(error)


def load(path):
    return torch.load(path, weights_only=False)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('distributed')
    ckpt = toy.save_teacher(folder / 'teacher.pth')
    mp.spawn(work, (str(folder), ckpt), nprocs=RANKS)
    return folder


@pytest.fixture(scope='module')
def seen(folder):
    """Final states and recorded values of each rank."""
    return [load(folder / f'rank_{rank}.pth') for rank in range(RANKS)]


@pytest.fixture(scope='module')
def straight(seen):
    return [rank['straight'] for rank in seen]


def test_different_files_are_an_error_on_all_ranks(straight):
    for rank in straight:
        same, checkpoint, teacher = rank['errors']
        assert same is None
        assert '0 epoch_4.pth, iteration 8; process 1 epoch_4.pth, iteration 9)' in checkpoint
        assert 'different files (teacher: process 0 ' in teacher


@pytest.mark.parametrize('what', ['model', 'optimizer', 'average'])
def test_ranks_agree_bit_for_bit(straight, what):
    """This includes batch-norm statistics, although the ranks use different images."""
    one, other = (rank[what] for rank in straight)
    if what != 'optimizer':
        assert any('running_var' in name for name in one)
    toy.assert_same(one, other)


def test_ranks_agree_on_metrics(straight):
    for what in ('metrics', 'average_metrics', 'extra_metrics'):
        one, other = (rank[what] for rank in straight)
        assert one == other, what
    assert len(straight[0]['metrics']) == EPOCHS
    # the teacher's, and the average's after each epoch of the tail
    assert len(straight[0]['extra_metrics']) == 1 + len(TAIL)


def test_weights_learn(folder, straight):
    first = load(folder / 'straight/epoch_1.pth')['state_dict']
    last = straight[0]['model']
    for name in first:
        assert not torch.equal(first[name], last[name]), name
    # 25 by chance, after only 8 iterations
    assert straight[0]['average_metrics']['accuracy/top1'] > 35


def test_one_rank_writes_the_file_once(folder, straight):
    path = folder / 'straight/student_avg.pth'
    assert [rank['written'] for rank in straight] == [[str(path)], []]
    toy.assert_same(load(path)['state_dict'], straight[1]['average'])


def test_average_is_the_mean_of_the_students(folder, straight):
    students = [load(folder / f'straight/epoch_{epoch}.pth')['state_dict'] for epoch in TAIL]
    average = load(folder / 'straight/student_avg.pth')['state_dict']
    learned = [
        name
        for name in average
        if 'running' not in name and not name.endswith('num_batches_tracked')
    ]
    assert 'backbone.bn1.weight' in learned and 'head.fc.weight' in learned
    for name in learned:
        mean = sum(s[f'architecture.{name}'].double() for s in students) / len(TAIL)
        assert torch.equal(average[name], mean.float()), name


def test_batch_norm_statistics_cover_the_images_of_both_ranks(straight):
    one, other = (rank['local_statistics'] for rank in straight)
    assert one
    for name in one:
        assert not torch.equal(one[name], other[name]), name
        for rank in straight:
            torch.testing.assert_close(rank['average'][name], (one[name] + other[name]) / 2)


def test_metrics_are_those_of_the_file(folder, straight):
    """Each rank predicts half of the images; together they count each image once."""
    file = load(folder / 'straight/student_avg.pth')
    cfg = toy.config(
        toy.classifier(preprocessor=dict(mean=[127.5] * 3, std=[60.0] * 3)), folder / 'alone'
    )
    runner = toy.start(cfg)
    runner.model.load_state_dict(file['state_dict'])
    runner.model.eval()
    with torch.no_grad():
        samples = [
            s
            for batch in runner.build_dataloader(cfg.val_dataloader)
            for s in runner.model.val_step(batch)
        ]
    assert len(samples) == 40
    top1 = Accuracy.calculate(
        torch.stack([s.pred_score for s in samples]), torch.cat([s.gt_label for s in samples])
    )[0][0].item()
    assert file['meta']['metrics'] == straight[1]['average_metrics']
    assert file['meta']['metrics']['accuracy/top1'] == pytest.approx(top1)


def test_relax_to_is_solved_once_for_the_logits_of_all_ranks(seen):
    ends = {end for rank in seen for run in rank.values() for end in run['solved']}
    assert len(ends) == 1
    for rank in seen:
        strengths = rank['straight']['strengths']
        assert strengths[-1] / strengths[0] == pytest.approx(RELAX_TO, rel=1e-3)
    assert seen[0]['straight']['strengths'] == seen[1]['straight']['strengths']


def test_schedule_on_every_rank(straight):
    end = straight[0]['solved'][0]
    expected = [
        (4.0 - 3.0 * r, 1.0 - r, end * r) for r in (epoch / EPOCHS for epoch in range(EPOCHS))
    ]
    for rank in straight:
        assert len(rank['schedule']) == len(expected)
        for actual, values in zip(rank['schedule'], expected):
            assert actual == pytest.approx(values, abs=1e-12)


def test_ranks_and_epochs_augment_differently(straight):
    flips = [epoch for rank in straight for epoch in rank['flips']]
    images = toy.TRAIN_SIZE // RANKS
    assert all(len(epoch) == images for epoch in flips)
    assert len({tuple(epoch) for epoch in flips}) == RANKS * EPOCHS


@pytest.mark.parametrize(
    'what', ['model', 'optimizer', 'average', 'average_metrics', 'local_statistics']
)
def test_resumed_within_the_tail(seen, what):
    for rank in seen:
        toy.assert_same(rank['straight'][what], rank['resumed'][what])


def test_a_resumed_run_has_the_same_schedule_images_and_metrics(seen):
    for rank in seen:
        for what in ('schedule', 'flips', 'metrics'):
            assert rank['resumed'][what] == rank['straight'][what][TAIL[0] :]
