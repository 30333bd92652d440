"""Averaging weights: the whole model each iteration, or the student once."""

from types import SimpleNamespace

import torch
from mmengine.model import StochasticWeightAverage
from torch import nn

from prkd_mm.hooks import TailAverageHook

from .comparison import Comparison, Settings, UnequalError, compare
from .floors import Peaks
from .nets import PAIRS, Pair
from .timing import OURS, STOCK, TUNED, Case, peak_memory

ITERATIONS = 782  # of an epoch of 50,000 images in batches of 64


class _Run(SimpleNamespace):
    """What ``TailAverageHook`` asks of a runner that is in its tail."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(
            model=model,
            train_loop=None,
            val_loop=None,
            epoch=9,
            max_epochs=10,
            iter=9,
            max_iters=10,
        )


def run(settings: Settings, peaks: Peaks, pair: str = PAIRS[0]) -> list[Comparison]:
    """Compare MMEngine's average with the tail average, by the epoch.

    Args:
        settings (Settings): How to measure.
        peaks (Peaks): Of the machine.
        pair (str): Name of a config in ``configs/prkd``. Defaults to
            ResNet-34 → ResNet-18.

    Raises:
        UnequalError: They do not have the same mean.
    """
    nets = Pair(pair, settings.device, batch=2)
    check_equal(nets.student)
    whole, model = nets.stock(), nets.ours()
    cases, peak = [], {}

    def add(name: str, side: str, make, per_epoch: int) -> None:
        held = []
        # the sums are made at the first update
        peak[name] = peak_memory(lambda: held.append(make()) or held[0](), settings.device)
        cases.append(Case(name, side, held[0], 1 / per_epoch))

    def swa(net: nn.Module):
        average = StochasticWeightAverage(net)
        return lambda: average.update_parameters(net)

    def tail():
        hook, runner = TailAverageHook(num_epochs=10), _Run(model)
        return lambda: hook.after_train_epoch(runner)

    add('SWA of all nets', STOCK, lambda: swa(whole), ITERATIONS)
    add('SWA of the student', TUNED, lambda: swa(model.student), ITERATIONS)
    add('ours: tail average', OURS, tail, 1)
    size = sum(p.numel() for p in nets.student.parameters())
    comparison = compare(
        settings,
        'average',
        f'average of {pair}',
        'epoch',
        cases,
        floor=20 * size / peaks.bytes,
        floor_text=f'{size / 1e6:.3g} M weights read, their float64 sum read '
        f'and written, once, at {peaks.bytes / 1e9:.3g} GB/s',
        notes=[
            f'an epoch of {ITERATIONS} iterations; MMEngine averages in '
            'every one of them, and what its EMAHook averages is the whole '
            'algorithm, teacher included'
        ],
    )
    for result in comparison.results:
        result.peak_bytes = peak[result.name]
    return [comparison]


@torch.no_grad()
def check_equal(net: nn.Module) -> None:
    """See that all average three nets to the same weights.

    Raises:
        UnequalError: They do not.
    """
    runner = _Run(net)
    hook = TailAverageHook(num_epochs=10, bn='latest', evaluate=False)
    swa = StochasticWeightAverage(net)
    for _ in range(3):
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.01)
        hook.after_train_epoch(runner)
        swa.update_parameters(net)
    ours = dict(hook.average(runner)[0].named_parameters())
    for name, expected in swa.module.named_parameters():
        if not torch.allclose(ours[name], expected, rtol=1e-4, atol=1e-6):
            raise UnequalError(f'average: {name} has another mean; there is nothing to compare')
