import random
import re

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Dataset

from prkd_mm.randomness import seed_worker_by_epoch
from prkd_mm.start.launch import (
    Processes,
    learning_rate_note,
    processes_of,
    seed_workers_by_epoch,
    use_gloo_without_gpu,
)


class Draws(Dataset):
    """Random numbers instead of images, as a random crop would draw them."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return np.random.randint(10**9), random.randrange(10**9)


def note(batch_size, processes=1, accumulated=1, **scale):
    cfg = Config(
        dict(
            train_dataloader=dict(batch_size=batch_size),
            optim_wrapper=dict(accumulative_counts=accumulated),
            auto_scale_lr=scale,
        )
    )
    return learning_rate_note(cfg, Processes(0, processes))


@pytest.mark.parametrize(
    'arguments, words',
    [
        (dict(batch_size=64, processes=8), '64 images per step.* 64 × 8 .* = 512; --auto-scale-lr'),
        (dict(batch_size=32), '32 × 1 processes = 32; --auto-scale-lr'),
        (dict(batch_size=64, accumulated=2), '× 2 accumulated = 128; set optim_wrapper'),
        (dict(batch_size=32, accumulated=2, enable=True), 'for 32 images .* = 64; set optim_wrap'),
    ],
)
def test_a_learning_rate_for_another_batch_size_is_noted(arguments, words):
    assert re.search(words, note(base_batch_size=64, **arguments))


@pytest.mark.parametrize(
    'arguments',
    [
        dict(batch_size=8, processes=8),
        dict(batch_size=16, processes=2, accumulated=2),
        dict(batch_size=64, processes=8, enable=True),
    ],
)
def test_a_learning_rate_that_fits_is_not_noted(arguments):
    assert note(base_batch_size=64, **arguments) is None


def test_a_config_without_a_base_batch_size_is_not_checked():
    assert note(64, processes=8) is None


@pytest.mark.parametrize(
    'rank, number, words',
    [
        ('x', '2', "RANK must be a number, got 'x'"),
        ('0', '-2', "WORLD_SIZE must be a number, got '-2'"),
        ('5', '2', 'RANK must be below WORLD_SIZE, 2; got 5'),
    ],
)
def test_impossible_variables_of_a_launcher_are_named(monkeypatch, rank, number, words):
    monkeypatch.setenv('RANK', rank)
    monkeypatch.setenv('WORLD_SIZE', number)
    with pytest.raises(ValueError, match=words):
        processes_of('pytorch')


@pytest.mark.parametrize('launcher', ['slurm', 'mpi'])
def test_a_launcher_that_needs_gpus_is_refused_without_them(monkeypatch, launcher):
    monkeypatch.setattr('prkd_mm.start.launch.get_device', lambda: 'cpu')
    with pytest.raises(ValueError, match=f'--launcher {launcher} needs a GPU .*dist_train.sh'):
        use_gloo_without_gpu(Config(dict(launcher=launcher)))


@pytest.mark.parametrize('seeded', [True, False])
def test_workers_draw_other_numbers_in_each_epoch(seeded):
    loader = dict(
        dataset=Draws(),
        batch_size=4,
        num_workers=1,
        sampler=dict(type='DefaultSampler', shuffle=False),
    )
    cfg = Config(dict(train_dataloader=loader))
    if seeded:
        seed_workers_by_epoch(cfg)
    built = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    first, second = list(built), list(built)
    assert (first == second) == (not seeded)


def test_the_workers_of_ranks_draw_other_numbers(monkeypatch):
    """Without EpochSeedHook, PyTorch draws the same seed on each rank."""

    def drawn(rank):
        monkeypatch.setenv('RANK', rank)
        torch.manual_seed(0)
        loader = DataLoader(Draws(), 4, num_workers=1, worker_init_fn=seed_worker_by_epoch)
        return [each.tolist() for batch in loader for each in batch]

    assert drawn('0') == drawn('0') != drawn('1')


@pytest.mark.parametrize(
    'loader',
    [
        dict(num_workers=0),
        dict(num_workers=2, persistent_workers=True),
        dict(num_workers=2, worker_init_fn=dict(type='mine')),
    ],
)
def test_workers_with_a_seed_of_their_own_keep_it(loader):
    cfg = Config(dict(train_dataloader=loader))
    seed_workers_by_epoch(cfg)
    assert cfg.train_dataloader.to_dict() == loader
