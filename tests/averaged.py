"""Toy runs with a ``TailAverageHook``, and the averages that they must write."""

import numpy as np
import torch
import toy


def config(ckpt, work_dir, num_epochs=2, model=None, hooks=(), tail=None, **options):
    """Config of a distillation whose last students are averaged.

    Args:
        ckpt: Checkpoint of the teacher.
        work_dir: The work dir.
        num_epochs: Number of students in the average.
        model: Config of another model.
        hooks: More hooks.
        tail: More arguments of the TailAverageHook.
        **options: Arguments of ``toy.config``.
    """
    average = dict(type='TailAverageHook', num_epochs=num_epochs, **(tail or {}))
    model = model or toy.distillation(ckpt)
    return toy.config(model, work_dir, toy.prkd_schedule(), average, *hooks, **options)


def load(work_dir, name='student_avg.pth'):
    """A checkpoint of a run."""
    return torch.load(work_dir / name, weights_only=False)


def students(work_dir, names):
    """States of the students in checkpoints of a run, in float64."""
    return [
        {
            key[len('architecture.') :]: value.double()
            for key, value in load(work_dir, f'{name}.pth')['state_dict'].items()
            if key.startswith('architecture.')
        }
        for name in names
    ]


def mean(states):
    """Mean of states, by name."""
    return {key: sum(state[key] for state in states) / len(states) for key in states[0]}


def assert_rounded(actual, exact, what):
    """Check for equality with a float64 number, up to one rounding to float32."""
    torch.testing.assert_close(actual.double(), exact, rtol=2**-23, atol=0, msg=what)


def assert_average_of(work_dir, names):
    """Check all numbers of ``student_avg.pth``, with ``bn='average'``."""
    expected = mean(students(work_dir, names))
    for name, value in load(work_dir)['state_dict'].items():
        if value.is_floating_point():
            assert_rounded(value, expected[name], name)


def plain_batch(preprocessor, dataset):
    """All of a data set as one batch, normalized by hand."""
    x = np.stack([sample['img'] for sample in dataset.load_data_list()])
    x = torch.from_numpy(x).permute(0, 3, 1, 2).float()
    return (x - preprocessor.mean) / preprocessor.std
