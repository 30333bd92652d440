import re

import pytest
from mmengine.config import Config

from prkd_mm.start.launch import Processes, learning_rate_note, processes_of, use_gloo_without_gpu


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
