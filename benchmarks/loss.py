"""The loss, forward and backward, by the size of the logits."""

from collections.abc import Sequence
from typing import Callable

import torch
from mmrazor.models.losses import DISTLoss, KLDivergence
from mmrazor.models.losses.dist_loss import inter_class_relation
from torch import Tensor

from prkd_mm.losses import PRKDLoss

from .comparison import Bar, Comparison, Settings, UnequalError, compare
from .floors import Peaks
from .timing import OURS, STOCK, TUNED, Case, peak_memory

TAU = 4.0
SHAPES = ((256, 1000), (1024, 21841))


def losses() -> dict[str, tuple[str, Callable[[Tensor, Tensor], Tensor]]]:
    """By name, side and function: τ²·KL + τ²·Cor, all the same number."""
    kl = KLDivergence(tau=TAU)
    dist = DISTLoss(tau=TAU, inter_loss_weight=1.0, intra_loss_weight=0.0)
    ours = PRKDLoss(tau=TAU, kl_weight=1.0, cor_weight=1.0)

    def inter_only(student: Tensor, teacher: Tensor) -> Tensor:
        p_S, p_T = ((x / TAU).softmax(dim=1) for x in (student, teacher))
        return kl(student, teacher) + TAU**2 * inter_class_relation(p_S, p_T)

    return {
        'stock: KL + DIST': (STOCK, lambda s, t: kl(s, t) + dist(s, t)),
        'stock, no intra term': (TUNED, inter_only),
        'ours: PRKDLoss': (OURS, ours),
    }


class Problem:
    """Logits of a student and a teacher.

    Args:
        batch (int): Samples.
        classes (int): Classes.
        device (torch.device): Where.
    """

    def __init__(self, batch: int, classes: int, device: torch.device) -> None:
        generator = torch.Generator().manual_seed(batch + classes)
        self.teacher, noise = (
            3 * torch.randn(batch, classes, generator=generator) for _ in range(2)
        )
        self.student = (0.5 * self.teacher + noise).to(device).requires_grad_()
        self.teacher = self.teacher.to(device)

    def step(self, loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Forward and backward."""
        self.student.grad = None
        value = loss(self.student, self.teacher)
        value.backward()
        return value.detach()


def check_equal(problem: Problem, functions: Sequence[Callable]) -> None:
    """See that all losses have one value and one gradient.

    Raises:
        UnequalError: They do not.
    """
    expected = gradient = None
    for function in functions:
        value = problem.step(function)
        if expected is None:
            expected, gradient = value, problem.student.grad
        off = (problem.student.grad - gradient).norm() / gradient.norm()
        if not torch.isclose(value, expected, rtol=1e-3) or off > 1e-3:
            raise UnequalError(
                f'loss: {value:g} instead of {expected:g}, and a gradient '
                f'{off:.2g} away; there is nothing to compare'
            )


def run(
    settings: Settings, peaks: Peaks, shapes: Sequence[tuple[int, int]] = SHAPES
) -> list[Comparison]:
    """Compare the losses on logits of several sizes.

    Args:
        settings (Settings): How to measure.
        peaks (Peaks): Of the machine.
        shapes (Sequence[tuple[int, int]]): Samples and classes. Defaults to
            (256, 1000) and (1024, 21841).

    Raises:
        UnequalError: The losses are not equal.
    """
    return [_compare(settings, peaks, *shape) for shape in shapes]


def _compare(settings: Settings, peaks: Peaks, batch: int, classes: int) -> Comparison:
    problem, functions = Problem(batch, classes, settings.device), losses()
    check_equal(problem, [function for _, function in functions.values()])
    calls = min(50, max(1, 2**21 // (batch * classes)))

    def repeat(function: Callable) -> Callable:
        return lambda: [problem.step(function) for _ in range(calls)] and None

    cases = [
        Case(name, side, repeat(function), calls) for name, (side, function) in functions.items()
    ]
    size = 4 * batch * classes
    comparison = compare(
        settings,
        'loss',
        f'loss of ({batch:,}, {classes:,})',
        'call',
        cases,
        floor=3 * size / peaks.bytes,
        floor_text='both logits read and a gradient written, '
        f'{3 * size / 1e6:.3g} MB at {peaks.bytes / 1e9:.3g} GB/s',
        notes=[
            'forward and backward, tau = 4; all give the same value and '
            f'gradient; logits take {size / 1e6:.3g} MB. DISTLoss computes '
            'its intra term also where its weight is 0'
        ],
    )
    for result, (_, function) in zip(comparison.results, functions.values()):
        problem.student.grad = None
        result.peak_bytes = peak_memory(lambda: problem.step(function), settings.device)
    ours = cases[-1].name
    if settings.device.type == 'cpu' and (batch, classes) in SHAPES:
        comparison.expect_speedup(ours, STOCK, 2.0)
        comparison.bars.append(
            Bar(
                f"{comparison.title}: peak new memory, in the logits' size",
                comparison[ours].peak_bytes / size,
                at_most=7.0,
            )
        )
    return comparison
