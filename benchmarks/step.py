"""Compare training steps: MMRazor's teacher, ours, and stored logits."""

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from .comparison import Comparison, Settings, UnequalError, compare
from .lower_bounds import forward_flops
from .nets import PAIRS, Pair, Step
from .timing import ALONE, OURS, STOCK, TUNED, Case, peak_memory

# expected on a CPU, over stock: with a live teacher, with stored logits
SPEEDUPS = dict(zip(PAIRS, [(1.08, 1.5), (1.15, 2.9), (1.15, 2.0)]))
_MOST_OVER_ALONE = 1.05  # maximum ratio of times, with stored logits
_NOISE = 0.03  # run-to-run noise of two identical steps


def run(
    settings: Settings, pairs: Sequence[str] = PAIRS, batch: int = 64, size: int = 32
) -> list[Comparison]:
    """A training step without data loading, and its sections."""
    comparisons = []
    for name in pairs:
        pair = Pair(name, settings.device, batch, size)
        with tempfile.TemporaryDirectory() as folder:
            comparisons.append(_compare(settings, pair, Path(folder) / 'logits'))
    return comparisons


def make_steps(pair: Pair, folder: Path) -> dict[str, tuple[str, Step]]:
    """Side and step of each case, by name. The stored logits are written to ``folder``."""
    data = pair.batches()
    amp = pair.device.type == 'cuda'  # bf16 autocast is slower on CPUs
    tuned = pair.stock(channels_last=True)
    ours = {
        'ours, live': pair.ours(),
        'ours, live, BN folded': pair.ours(fold_teacher_bn=True),
        'ours, stored': pair.stored(folder),
    }
    return {
        'stock': (STOCK, pair.step(pair.stock(), data['list'])),
        'tuned stock': (TUNED, pair.step(tuned, data['stacked'], amp)),
        'student alone': (ALONE, pair.step(pair.alone(), data['whole'], amp)),
        **{name: (OURS, pair.step(model, data['whole'], amp)) for name, model in ours.items()},
    }


def check_equal(logged: dict[str, dict[str, torch.Tensor]], exact: bool) -> None:
    """Raise an error unless the first steps of all cases log the same losses.

    They are ``exact`` if all cases use float32. Stored logits always have 11 significant bits.
    """
    expected = _losses('stock', logged['stock'])
    for name, values in logged.items():
        losses = _losses(name, values)
        tolerance = 5e-2
        if exact:
            tolerance = 2e-3 if 'stored' in name else 1e-4
        if not torch.allclose(losses, expected[: len(losses)], rtol=tolerance):
            raise UnequalError(
                f'step: the losses of {name} are {losses.tolist()}, those of stock '
                f'{expected.tolist()}'
            )


def _losses(name: str, logged: dict[str, torch.Tensor]) -> torch.Tensor:
    """Collect the student's own loss, then the distillation losses."""
    if name == ALONE:
        values = [logged['loss']]
    else:
        values = [v for k, v in logged.items() if k.startswith('student.')][:1]
        values += [v for k, v in logged.items() if k.startswith('distill.')]
    return torch.stack([value.detach().float().cpu() for value in values])


def _compare(settings: Settings, pair: Pair, folder: Path) -> Comparison:
    steps, logged, peak = make_steps(pair, folder), {}, {}

    def first(name: str) -> None:
        logged[name] = dict(steps[name][1]())

    for name in steps:
        peak[name] = peak_memory(partial(first, name), settings.device)
    check_equal(logged, exact=settings.on_cpu)
    for _, step in steps.values():
        step()  # the first step has allocated the optimizer's momenta
        step.reset()
    comparison = compare(
        settings,
        'step',
        f'step of {pair.name}',
        'step',
        [Case(name, side, step, peak_bytes=peak[name]) for name, (side, step) in steps.items()],
        batch=pair.batch,
        **_lower_bound(pair, settings.peaks.flops),
        note=f'{pair.batch} images of {pair.size}x{pair.size}; includes the data preprocessor, '
        'not the data loader (crop and flip are in our preprocessor and in the loader of stock). '
        f'Tuned stock: default_collate, channels_last{"" if settings.on_cpu else " and AMP"}',
    )
    for result in comparison.results:
        result.sections = steps[result.name][1].sections()
    if settings.on_cpu:
        live, stored = SPEEDUPS.get(pair.name, (1.0, 1.0))
        comparison.expect_speedup('ours, live', STOCK, live)
        comparison.expect_speedup('ours, live', TUNED, 1 - _NOISE)
        comparison.expect_speedup('ours, stored', STOCK, stored)
        comparison.expect_speedup('ours, stored', ALONE, 1 / _MOST_OVER_ALONE)
    return comparison


def _lower_bound(pair: Pair, speed: float) -> dict:
    teacher, student = (forward_flops(net, pair.size) for net in (pair.teacher, pair.student))
    flops = pair.batch * (teacher + 3 * student)
    text = (
        f'teacher {teacher / 1e9:.3g} GFLOP per image, student {student / 1e9:.3g} forward and '
        f'twice that backward: {flops / 1e9:.4g} GFLOP at {speed / 1e9:.4g} GFLOP/s'
    )
    return dict(lower_bound=flops / speed, lower_bound_text=text)
