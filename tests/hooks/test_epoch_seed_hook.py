import random
import types

import numpy as np
import pytest
import torch
import toy
from mmengine.hooks import Hook

from prkd_mm.hooks import EpochSeedHook


class Probe(Hook):
    """Record every batch, and a random number that dropout would draw."""

    def __init__(self):
        self.images, self.drawn = [], []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.images.append(data_batch['inputs'])
        with torch.random.fork_rng():
            self.drawn.append(torch.rand(3))


def run(tmp_path, seed=3, batches=1, **kwargs):
    """Run two epochs with the same images in the same order."""
    probe = Probe()
    runner = toy.start(
        toy.config(
            toy.classifier(),
            tmp_path,
            **{
                'train_dataloader.batch_size': toy.TRAIN_SIZE // batches,
                'train_dataloader.sampler.shuffle': False,
                'randomness.seed': seed,
            },
            **kwargs,
        )
    )
    runner.register_hook(probe, 'LOWEST')
    with toy.quickly():
        runner.train()
    assert len(probe.images) == 2 * batches
    return probe


@pytest.mark.parametrize('num_workers', [0, 2])
def test_epochs_and_seeds_differ(tmp_path, num_workers):
    one = run(tmp_path / 'a', num_workers=num_workers)
    two = run(tmp_path / 'b', num_workers=num_workers, seed=4)
    everything = one.images + two.images
    for i in range(4):
        for k in range(i):
            # most of the images, not just one of them
            differ = everything[i].ne(everything[k]).flatten(1).any(1)
            assert differ.sum() > toy.TRAIN_SIZE / 2
    assert not torch.equal(*one.drawn)


@pytest.mark.parametrize('num_workers', [0, 2])
def test_the_same_seed_gives_the_same_epochs(tmp_path, num_workers):
    one = run(tmp_path / 'a', num_workers=num_workers)
    two = run(tmp_path / 'b', num_workers=num_workers)
    toy.assert_same(one.images, two.images)
    toy.assert_same(one.drawn, two.drawn)


def test_workers_of_one_epoch_differ(tmp_path):
    """The data set repeats one image; each of two batches comes from its own worker."""
    one, two = run(
        tmp_path,
        num_workers=2,
        batches=2,
        **{'train_dataloader.dataset.indices': [0] * toy.TRAIN_SIZE},
    ).images[:2]
    assert not torch.equal(one, two)


def test_a_seed_that_depends_on_the_process_is_an_error(tmp_path):
    with pytest.raises(ValueError, match='randomness.diff_rank_seed must be False'):
        run(tmp_path, **{'randomness.diff_rank_seed': True})


def seeded(seed, epoch):
    """First number of each random stream in an epoch."""
    model = types.SimpleNamespace(data_preprocessor=None)
    EpochSeedHook().before_train_epoch(types.SimpleNamespace(seed=seed, epoch=epoch, model=model))
    return torch.rand(()).item(), np.random.rand(), random.random()


def test_no_two_epochs_of_any_two_runs_are_alike():
    streams = [seeded(seed, epoch) for seed in range(10) for epoch in range(20)]
    for stream in zip(*streams):
        assert len(set(stream)) == 10 * 20


def test_large_seeds_and_epochs_are_valid():
    assert seeded(2**31 - 1, 10**5) == seeded(2**31 - 1, 10**5)


def test_ranks_differ(monkeypatch):
    one = seeded(0, 0)
    monkeypatch.setattr('mmengine.runner.utils.get_rank', lambda: 1)
    assert not set(one) & set(seeded(0, 0))
