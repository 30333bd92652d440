import functools
import multiprocessing
from unittest import mock

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as F
import toy
from mmengine.dataset import default_collate, pseudo_collate
from mmengine.dataset.sampler import DefaultSampler
from mmengine.logging import MessageHub
from mmpretrain.models.utils import ClsDataPreprocessor
from mmpretrain.registry import DATASETS, MODELS
from torch import distributed as dist
from torch.utils.data import ConcatDataset, DataLoader

from prkd_mm.datasets import BatchClsDataPreprocessor, PackedImages
from prkd_mm.datasets.packed.batch_augment import choose
from prkd_mm.datasets.packed.packed_images import whole_batch
from prkd_mm.evaluation import evaluate, unwrap

NORM = dict(mean=[129.3, 124.1, 112.4], std=[68.2, 65.4, 70.4])


def preprocessor(**kwargs):
    return BatchClsDataPreprocessor(**dict(dict(seed=5, **NORM), **kwargs))


def pipeline(size=8, padding=1, prob=0.5, load=False):
    return [
        *[dict(type='LoadImageFromFile')][:load],
        dict(type='RandomCrop', crop_size=size, padding=padding),
        *[dict(type='RandomFlip', prob=prob)][: prob > 0],
        dict(type='PackInputs'),
    ]


def packed_toys(**kwargs):
    return PackedImages(dict(type='ToyImages', pipeline=pipeline(**kwargs)))


def stock_batch(packed, index, epoch, seed=5):
    """Our choices applied by torchvision, with one sample per image."""
    size, padding, prob = packed.__getitems__([0])['augment'].values()
    positions = [n + 2 * padding - m + 1 for n, m in zip(packed.images.shape[2:], size)]
    items = []
    for i, top, left, flip in zip(index, *choose(seed, epoch, np.array(index), positions, prob)):
        item = packed[i]
        image = F.crop(F.pad(item['inputs'], [padding]), top, left, *size)
        item['inputs'] = F.hflip(image) if flip else image
        items.append(item)
    return default_collate(items)


@pytest.mark.parametrize(
    'kwargs',
    [
        dict(),
        dict(to_rgb=True),
        dict(mean=None, std=None),
        dict(mean=[127] * 3, std=[64] * 3, to_rgb=True),
        dict(pad_size_divisor=16),
    ],
    ids=str,
)
@pytest.mark.parametrize('size', [8, (6, 9)])
@pytest.mark.parametrize('training', [True, False])
def test_batches_equal_those_of_stock_bit_for_bit(kwargs, size, training):
    packed, ours = packed_toys(size=size), preprocessor(**kwargs)
    index = [3, 9, 31, 0, 9]
    ours.epoch = 4
    out = ours(packed.__getitems__(index), training)
    kwargs = dict(NORM, **kwargs)
    stock = ClsDataPreprocessor(**kwargs)(stock_batch(packed, index, epoch=4), training)
    assert torch.equal(out['inputs'], stock['inputs'])
    labels = torch.cat([s.gt_label for s in out['data_samples']])
    assert torch.equal(labels, torch.cat([s.gt_label for s in stock['data_samples']]))


def test_real_images_equal_those_of_stock(mini, tmp_path):
    data = dict(type='TinyImageNet', data_root=str(mini), split='val')
    packed = PackedImages(dict(data, pipeline=pipeline(64, 8, load=True)), str(tmp_path))
    index = list(range(0, 20, 3))
    kwargs = dict(NORM, to_rgb=True)
    out = preprocessor(**kwargs)(packed.__getitems__(index), True)
    stock = ClsDataPreprocessor(**kwargs)(stock_batch(packed, index, 0), True)
    assert torch.equal(out['inputs'], stock['inputs'])
    # without augmentation, the images are those of the stock pipeline
    plain = PackedImages(data, str(tmp_path))
    images = DATASETS.build(
        dict(data, pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')])
    )
    for training in True, False:
        out = preprocessor(**kwargs)(plain.__getitems__(index), training)
        stock = ClsDataPreprocessor(**kwargs)(default_collate([images[i] for i in index]), training)
        assert torch.equal(out['inputs'], stock['inputs'])


def test_gray_images_equal_those_of_stock():
    packed = PackedImages(dict(type='Digits', split='test', pipeline=pipeline(prob=0)))
    kwargs = dict(mean=[78.0], std=[95.7], to_rgb=True)
    index = list(range(100))
    out = preprocessor(**kwargs)(packed.__getitems__(index), True)
    assert out['inputs'].shape == (100, 1, 8, 8)
    stock = ClsDataPreprocessor(**kwargs)(stock_batch(packed, index, 0), True)
    assert torch.equal(out['inputs'], stock['inputs'])


@pytest.mark.parametrize('collate', [default_collate, pseudo_collate])
@pytest.mark.parametrize('training', [True, False])
def test_stock_batches_are_accepted(collate, training):
    packed = PackedImages(dict(type='ToyImages', pipeline=[dict(type='PackInputs')]))
    outs = [
        preprocessor(collate([packed[i] for i in range(4)]), training)
        for preprocessor in (BatchClsDataPreprocessor(**NORM), ClsDataPreprocessor(**NORM))
    ]
    assert torch.equal(outs[0]['inputs'], outs[1]['inputs'])
    for one, two in zip(*(out['data_samples'] for out in outs)):
        assert torch.equal(one.gt_label, two.gt_label)


def test_training_has_one_sample_for_the_whole_batch():
    ours = preprocessor(views=3)
    ours.epoch = 7
    batch = packed_toys().__getitems__([6, 1])
    (sample,) = ours(batch, True)['data_samples']
    assert sample.gt_label.tolist() == [2, 1]
    assert sample.sample_idx.tolist() == [6, 1] and sample.view == 1
    assert {'sample_idx', 'view'} <= set(sample.metainfo)
    one, two = ours(batch, False)['data_samples']
    assert one.gt_label.tolist() == [2] and two.gt_label.tolist() == [1]
    assert (one.sample_idx, two.sample_idx) == (6, 1)
    assert batch['inputs'].dtype == torch.uint8  # the batch itself is not changed


def test_losses_equal_those_of_stock():
    packed = packed_toys()
    torch.manual_seed(0)
    net = toy.build(toy.classifier())
    index = list(range(10))
    losses = [
        net(**data, mode='loss')['loss']
        for data in (
            preprocessor()(packed.__getitems__(index), True),
            ClsDataPreprocessor(**NORM)(stock_batch(packed, index, 0), True),
        )
    ]
    assert torch.equal(*losses) and losses[0] > 0


def test_mixup_equals_that_of_stock():
    kwargs = dict(
        NORM, num_classes=4, batch_augments=dict(augments=[dict(type='Mixup', alpha=1.0)])
    )
    packed, index = packed_toys(), [3, 9, 31, 0]
    outs = []
    for pre, batch in (
        (preprocessor(**kwargs), packed.__getitems__(index)),
        (ClsDataPreprocessor(**kwargs), stock_batch(packed, index, 0)),
    ):
        np.random.seed(0)
        torch.manual_seed(0)
        outs.append(pre(batch, True))
    assert torch.equal(outs[0]['inputs'], outs[1]['inputs'])
    for one, two in zip(*(out['data_samples'] for out in outs)):
        assert torch.equal(one.gt_score, two.gt_score)
        assert one.gt_score.sum() == pytest.approx(1)
    mixed = [one.gt_score.count_nonzero() == 2 for one in outs[0]['data_samples']]
    assert any(mixed)


def images_by_index(ours, packed, num_workers=0, rank=0, ranks=1):
    """Images of one rank in an epoch, {index: image}."""
    with mock.patch('mmengine.dataset.sampler.get_dist_info', lambda: (rank, ranks)):
        sampler = DefaultSampler(packed, shuffle=True, seed=ranks)
    loader = DataLoader(packed, 7, sampler=sampler, num_workers=num_workers, collate_fn=whole_batch)
    seen = {}
    for batch in loader:
        out = ours(batch, True)
        seen.update(zip(out['data_samples'][0].sample_idx.tolist(), out['inputs']))
    return seen


def test_images_do_not_depend_on_ranks_and_workers():
    packed, ours = packed_toys(), preprocessor()
    whole = images_by_index(ours, packed)
    assert sorted(whole) == list(range(32))
    halves = {}
    for rank in range(2):
        halves.update(images_by_index(ours, packed, 2, rank, 2))
    assert len(halves) == 32
    toy.assert_same(whole, {i: halves[i] for i in whole})
    ours.epoch = 1
    other = images_by_index(ours, packed)
    assert sum(torch.equal(whole[i], other[i]) for i in whole) < 8


def test_images_depend_on_epoch_seed_and_views():
    batch = packed_toys().__getitems__(list(range(32)))
    ours = preprocessor()

    def images(epoch, **kwargs):
        ours.__dict__.update(dict(seed=5, views=None), epoch=epoch, **kwargs)
        return ours(batch, True)['inputs']

    assert torch.equal(images(3), images(3))
    assert not torch.equal(images(3), images(4))
    assert not torch.equal(images(3), images(3, seed=6))
    assert torch.equal(images(3, views=4), images(7, views=4))
    assert not torch.equal(images(3, views=4), images(4, views=4))
    assert torch.equal(images(4, views=4), images(0))


@pytest.mark.parametrize(
    'info, view',
    [
        (dict(), 0),
        (dict(epoch=3, max_epochs=5, iter=70, max_iters=100), 3),
        (dict(epoch=0, max_epochs=1, iter=70, max_iters=100), 70),
        (dict(epoch=5, max_epochs=5, iter=100, max_iters=100), 4),
        (dict(epoch=0, max_epochs=1, iter=100, max_iters=100), 99),
    ],
)
def test_the_view_follows_the_run(info, view):
    hub = MessageHub.get_instance(f'view of {info}')
    hub.update_info_dict(info)
    assert preprocessor().view == view
    assert preprocessor(views=2).view == view % 2


def test_a_drawn_seed_is_kept():
    hub = MessageHub.get_instance('drawn seed')
    packed, ours = packed_toys(), preprocessor(seed=None)
    batch = packed.__getitems__(list(range(32)))
    np.random.seed(0)
    one = ours(batch, True)['inputs']
    assert isinstance(hub.state_dict()['runtime_info']['augmentation_seed'], (int, np.integer))
    assert torch.equal(ours(batch, True)['inputs'], one)
    MessageHub.get_instance('another run')
    assert not torch.equal(ours(batch, True)['inputs'], one)


def draw_as_rank(rank, folder, results):
    dist.init_process_group(
        'gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=2
    )
    np.random.seed(rank)
    MessageHub.get_instance('ranks')
    batch = packed_toys().__getitems__(list(range(32)))
    results.put(preprocessor(seed=None)(batch, True)['inputs'].numpy())
    dist.destroy_process_group()


def test_all_ranks_use_one_drawn_seed(tmp_path):
    context = multiprocessing.get_context('fork')
    results = context.SimpleQueue()
    processes = [
        context.Process(target=draw_as_rank, args=(rank, tmp_path, results)) for rank in range(2)
    ]
    for process in processes:
        process.start()
    one, two = (results.get() for _ in processes)
    for process in processes:
        process.join()
    assert (one == two).all()


@pytest.mark.parametrize('views', [0, -1, 1.5, '3'])
def test_views_must_be_a_positive_integer(views):
    with pytest.raises(ValueError, match='views.*at least 1'):
        preprocessor(views=views)


def config(work_dir, ckpt, *hooks, packed=True, num_workers=0, **kwargs):
    cfg = toy.config(
        toy.distillation(ckpt),
        work_dir,
        toy.prkd_schedule(),
        dict(type='TailAverageHook', num_epochs=2),
        dict(type='TeacherCheckHook', min_top1=30),
        *hooks,
        num_workers=num_workers,
        **kwargs,
    )
    if packed:
        cfg.model.data_preprocessor.type = 'mmpretrain.BatchClsDataPreprocessor'
        for loader in cfg.train_dataloader, cfg.val_dataloader:
            loader.collate_fn = dict(type='whole_batch')
            loader.dataset = dict(
                type='PackedImages', dataset=dict(loader.dataset, data_root=str(work_dir.parent))
            )
    return cfg


def run(cfg, checkpoint=None):
    """Train; also return the images of each step, (view, {index: image})."""
    seen = []

    def witness(module, args, out):
        if args[1]:
            (sample,) = out['data_samples']
            seen.append((sample.view, dict(zip(sample.sample_idx.tolist(), out['inputs'].clone()))))

    if checkpoint:
        cfg.merge_from_dict(dict(resume=True, load_from=str(checkpoint)))
    runner = toy.start(cfg)
    unwrap(runner.model).data_preprocessor.register_forward_hook(witness)
    with toy.quickly():
        runner.train()
    return runner, seen


@pytest.fixture(scope='module', params=[0, 2], ids='{} workers'.format)
def runs(request, tmp_path_factory):
    """An uninterrupted run of four epochs, and one that is killed after two and resumed."""
    path = tmp_path_factory.mktemp('runs')
    ckpt = toy.save_teacher(path / 'teacher.pth')
    n = request.param
    straight = run(config(path / 'a', ckpt, epochs=4, num_workers=n))
    with pytest.raises(toy.Killed):
        toy.train(config(path / 'b', ckpt, dict(type='KillHook', epoch=2), epochs=4, num_workers=n))
    np.random.seed(n)  # a new process has another state
    rest = run(config(path / 'c', ckpt, epochs=4, num_workers=n), path / 'b' / 'epoch_2.pth')
    return path, straight, rest


def test_a_resumed_run_is_the_same_bit_for_bit(runs):
    path, (_, straight), (_, rest) = runs
    toy.assert_same(straight[8:], rest)
    assert [view for view, _ in straight] == [e for e in range(4) for _ in range(4)]
    for name, keys in (
        ('epoch_4.pth', ['state_dict', 'optimizer', 'tail_average']),
        ('student_avg.pth', ['state_dict']),
    ):
        one, two = (torch.load(path / folder / name, weights_only=False) for folder in 'ac')
        for key in keys:
            toy.assert_same(one[key], two[key])
    assert one['meta']['metrics'] == two['meta']['metrics'] != {'accuracy/top1': 0}


def test_epochs_have_different_images(runs):
    _, (_, seen), _ = runs
    epochs = []
    for epoch in range(4):
        images = {}
        for _, batch in seen[4 * epoch : 4 * epoch + 4]:
            images.update(batch)
        assert sorted(images) == list(range(32))
        epochs.append(images)
    for one in range(4):
        for two in range(one):
            alike = sum(torch.equal(epochs[one][i], epochs[two][i]) for i in range(32))
            assert alike < 8  # 1 of 18 is equal by chance


def test_a_finished_run_can_be_resumed(runs):
    path, *_ = runs
    before = torch.load(path / 'a' / 'student_avg.pth', weights_only=False)
    toy.resume(config(path / 'd', str(path / 'teacher.pth'), epochs=4), path / 'a' / 'epoch_4.pth')
    after = torch.load(path / 'd' / 'student_avg.pth', weights_only=False)
    toy.assert_same(before['state_dict'], after['state_dict'])
    assert before['meta']['metrics'] == after['meta']['metrics']


def test_validation_equals_that_of_stock(runs):
    """The teacher has the same metrics on packed and on stock images."""
    path, (runner, _), _ = runs
    stock = toy.start(config(path / 'e', str(path / 'teacher.pth'), packed=False))
    metrics = [
        unwrap(r.model).teacher.metrics(functools.partial(evaluate, r)) for r in (runner, stock)
    ]
    assert metrics[0] == metrics[1] and metrics[0]['accuracy/top1'] > 30


def test_batch_norm_statistics_come_from_augmented_images(runs):
    """They are estimated from the images of training, as with stock."""
    _, (runner, _), _ = runs
    pre = unwrap(runner.model).data_preprocessor
    batch = next(iter(runner.train_dataloader))
    assert torch.equal(pre(batch, False)['inputs'], pre(batch, True)['inputs'])
    plain = dict(batch)
    del plain['augment']
    assert not torch.equal(pre(plain, False)['inputs'], pre(batch, False)['inputs'])


def test_an_iteration_based_run_has_a_view_per_iteration(tmp_path):
    ckpt = toy.save_teacher(tmp_path / 'teacher.pth')
    _, seen = run(config(tmp_path / 'a', ckpt, by_epoch=False))
    assert [view for view, _ in seen] == list(range(8))


def test_another_seed_of_the_run_gives_other_images(tmp_path):
    ckpt = toy.save_teacher(tmp_path / 'teacher.pth')
    images = []
    for seed in 3, 4, 3:
        cfg = config(tmp_path / f'{len(images)}', ckpt)
        cfg.randomness.seed = seed
        seen = run(cfg)[1]
        images.append({k: v for _, b in seen[:4] for k, v in b.items()})
    for other, least, most in (images[1], 20, 32), (images[2], 0, 0):
        differ = sum(not torch.equal(images[0][i], other[i]) for i in range(32))
        assert least <= differ <= most


def test_it_is_built_by_name():
    ours = MODELS.build(dict(type='BatchClsDataPreprocessor', **NORM))
    assert isinstance(ours, ClsDataPreprocessor)


def test_training_with_a_wrapper_is_an_error():
    """Wrappers fetch single images, which would not be augmented."""
    packed = PackedImages(
        dict(
            type='ToyImages',
            pipeline=[
                dict(type='RandomFlip', prob=0.5, direction='horizontal'),
                dict(type='PackInputs'),
            ],
        )
    )
    loader = DataLoader(ConcatDataset([packed]), batch_size=4, collate_fn=default_collate)
    batch = next(iter(loader))
    preprocessor = BatchClsDataPreprocessor()
    with pytest.raises(TypeError, match='one by one'):
        preprocessor(batch, True)
    assert len(preprocessor(batch)['inputs']) == 4
