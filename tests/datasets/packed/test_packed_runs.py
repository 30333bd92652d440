import functools

import numpy as np
import pytest
import torch
import toy

from prkd_mm.evaluation import evaluate, unwrap


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
