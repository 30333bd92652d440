"""A training step: with MMRazor's teacher, with ours, with stored logits."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from .comparison import Comparison, Settings, UnequalError, compare
from .floors import Peaks, forward_flops
from .nets import PAIRS, Pair
from .timing import ALONE, STOCK, TUNED, Case, peak_memory

# on a CPU, over stock: with the live teacher, with stored logits
BARS = dict(zip(PAIRS, [(1.08, 1.5), (1.15, 2.9), (1.15, 2.0)]))
_MOST_OVER_ALONE = 1.05  # in time, with stored logits
# of a speed-up that is to be no less than 1: as far apart can two steps of
# the same model be
_NOISE = 0.03


def run(
    settings: Settings, peaks: Peaks, pairs: Sequence[str] = PAIRS, batch: int = 64, size: int = 32
) -> list[Comparison]:
    """Compare the steps of some pairs, data loading left out.

    Args:
        settings (Settings): How to measure.
        peaks (Peaks): Of the machine.
        pairs (Sequence[str]): Names of configs in ``configs/prkd``. Defaults
            to ResNet-34 → 18, ResNet-32x4 → 8x4 and WRN-40-2 → 16-2.
        batch (int): Images in a step. Defaults to 64.
        size (int): Their height and width. Defaults to 32.

    Raises:
        FileNotFoundError: There is no such pair.
        UnequalError: The steps do not compute the same losses.
    """
    comparisons = []
    for name in pairs:
        pair = Pair(name, settings.device, batch, size)
        with tempfile.TemporaryDirectory() as folder:
            comparisons.append(_compare(settings, peaks, pair, Path(folder) / 'logits'))
    return comparisons


def check_equal(logged: dict[str, dict[str, torch.Tensor]], exact: bool) -> None:
    """See that the first step of all had the same losses.

    Args:
        logged (dict): By name, what the step logged.
        exact (bool): Whether all were computed in one precision. Stored
            logits have 11 bits in any case.

    Raises:
        UnequalError: They had not.
    """

    def losses(name: str) -> torch.Tensor:
        values = logged[name]
        own = [
            v
            for k, v in values.items()
            if k.startswith('student.') or k == 'loss' and name == ALONE
        ]
        distilled = [v for k, v in values.items() if k.startswith('distill.')]
        return torch.stack([v.detach().float().cpu() for v in own[:1] + distilled])

    expected = losses('stock')
    for name in logged:
        got = losses(name)
        tolerance = 2e-3 if exact and 'stored' in name else (1e-4 if exact else 5e-2)
        if not torch.allclose(got, expected[: len(got)], rtol=tolerance):
            raise UnequalError(
                f'step: the losses of {name} are {got.tolist()}, of stock '
                f'{expected.tolist()}; there is nothing to compare'
            )


def _compare(settings: Settings, peaks: Peaks, pair: Pair, folder: Path) -> Comparison:
    teacher, student = (forward_flops(net, pair.size) for net in (pair.teacher, pair.student))
    ways, logged, peak, cases = pair.ways(folder), {}, {}, []
    for name, (side, step) in ways.items():

        def first(name: str = name, step=step) -> None:
            logged[name] = dict(step())

        peak[name] = peak_memory(first, settings.device)
        cases.append(Case(name, side, step))
    check_equal(logged, exact=settings.device.type == 'cpu')
    for _, step in ways.values():
        step()  # the optimizer's momenta are there from now on
        step.forget()
    flops = pair.batch * (teacher + 3 * student)
    comparison = compare(
        settings,
        'step',
        f'step of {pair.name}',
        'step',
        cases,
        batch=pair.batch,
        floor=flops / peaks.flops,
        floor_text=f'teacher {teacher / 1e9:.3g} GFLOP an image, student '
        f'{student / 1e9:.3g} forward and twice that backward: '
        f'{flops / 1e9:.4g} GFLOP at {peaks.flops / 1e9:.4g} GFLOP/s',
        notes=[_note(pair)],
    )
    for result in comparison.results:
        result.peak_bytes = peak[result.name]
        result.sections = ways[result.name][1].sections()
    if settings.device.type == 'cpu':
        live, stored = BARS.get(pair.name, (1.0, 1.0))
        comparison.expect_speedup('ours, live', STOCK, live)
        comparison.expect_speedup('ours, live', TUNED, 1 - _NOISE)
        comparison.expect_speedup('ours, stored', STOCK, stored)
        comparison.expect_speedup('ours, stored', ALONE, 1 / _MOST_OVER_ALONE)
    return comparison


def _note(pair: Pair) -> str:
    amp = ' and AMP' if pair.device.type == 'cuda' else ''
    return (
        f'{pair.batch} images of {pair.size}x{pair.size}; data preprocessor '
        'included, data loader not (crop and flip are in ours, and not in '
        f'stock). Tuned stock: default_collate, channels_last{amp}'
    )
