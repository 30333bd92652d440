"""Compare the losses, forward and backward, by the size of the logits."""

from collections.abc import Sequence
from functools import partial
from typing import Callable

import torch
from mmrazor.models.losses import DISTLoss, KLDivergence
from mmrazor.models.losses.dist_loss import inter_class_relation
from torch import Tensor

from prkd_mm.losses import PRKDLoss

from .comparison import Comparison, Settings, Target, UnequalError, compare
from .timing import OURS, STOCK, TUNED, Case, peak_memory

TAU = 4.0
# samples and classes, and the speed-up over stock that is expected on a CPU
SPEEDUPS = {(64, 10): 1.0, (64, 100): 1.0, (256, 1000): 2.0, (1024, 21841): 2.0}
_LARGE = 256 * 1000  # elements; below this, memory does not matter
Loss = Callable[[Tensor, Tensor], Tensor]


def losses() -> dict[str, tuple[str, Loss]]:
    """Side and function of each loss, by name. All compute τ²·KL + τ²·Cor."""
    kl = KLDivergence(tau=TAU)
    dist = DISTLoss(tau=TAU, inter_loss_weight=1.0, intra_loss_weight=0.0)
    ours = PRKDLoss(tau=TAU, kl_weight=1.0, cor_weight=1.0)

    def stock(student: Tensor, teacher: Tensor) -> Tensor:
        return kl(student, teacher) + dist(student, teacher)

    def inter_only(student: Tensor, teacher: Tensor) -> Tensor:
        p_S, p_T = ((x / TAU).softmax(dim=1) for x in (student, teacher))
        return kl(student, teacher) + TAU**2 * inter_class_relation(p_S, p_T)

    return {
        'stock: KL + DIST': (STOCK, stock),
        'stock, no intra term': (TUNED, inter_only),
        'ours: PRKDLoss': (OURS, ours),
    }


class Problem:
    """Random logits of a student and a teacher."""

    def __init__(self, batch: int, classes: int, device: torch.device) -> None:
        generator = torch.Generator().manual_seed(batch + classes)
        teacher, noise = (3 * torch.randn(batch, classes, generator=generator) for _ in range(2))
        self.student = (0.5 * teacher + noise).to(device).requires_grad_()
        self.teacher = teacher.to(device)

    def step(self, loss: Loss) -> Tensor:
        """Run forward and backward, and return the loss."""
        self.student.grad = None
        value = loss(self.student, self.teacher)
        value.backward()
        return value.detach()


def check_equal(problem: Problem, functions: Sequence[Loss]) -> None:
    """Raise an error unless all losses have the same value and the same gradient."""
    expected = problem.step(functions[0])
    gradient = problem.student.grad
    for function in functions[1:]:
        value = problem.step(function)
        error = (problem.student.grad - gradient).norm() / gradient.norm()
        if not torch.isclose(value, expected, rtol=1e-3) or error > 1e-3:
            raise UnequalError(
                f'loss: {value:g} instead of {expected:g}, relative gradient error {error:.2g}'
            )


def run(
    settings: Settings, shapes: Sequence[tuple[int, int]] = tuple(SPEEDUPS)
) -> list[Comparison]:
    """The loss, forward and backward, next to MMRazor's."""
    return [_compare(settings, *shape) for shape in shapes]


def _compare(settings: Settings, batch: int, classes: int) -> Comparison:
    problem, functions = Problem(batch, classes, settings.device), losses()
    check_equal(problem, [function for _, function in functions.values()])
    calls = min(50, max(1, 2**21 // (batch * classes)))

    def repeat(function: Loss) -> None:
        for _ in range(calls):
            problem.step(function)

    cases = []
    for name, (side, function) in functions.items():
        problem.student.grad = None
        peak = peak_memory(partial(problem.step, function), settings.device)
        cases.append(Case(name, side, partial(repeat, function), calls, peak_bytes=peak))
    size, speed = 4 * batch * classes, settings.peaks.bytes
    comparison = compare(
        settings,
        'loss',
        f'loss of ({batch:,}, {classes:,})',
        'call',
        cases,
        lower_bound=3 * size / speed,
        lower_bound_text='both logits read and a gradient written, '
        f'{3 * size / 1e6:.3g} MB at {speed / 1e9:.3g} GB/s',
        note='forward and backward, tau = 4; all give the same value and gradient; the logits '
        f'take {size / 1e6:.3g} MB. DISTLoss computes its intra term even where its weight is 0',
    )
    if settings.on_cpu:
        _add_targets(comparison, batch, classes)
    return comparison


def _add_targets(comparison: Comparison, batch: int, classes: int) -> None:
    ours = comparison.results[-1]
    if (batch, classes) in SPEEDUPS:
        comparison.expect_speedup(ours.name, STOCK, SPEEDUPS[batch, classes])
    if batch * classes >= _LARGE:
        text = f'{comparison.title}: peak new memory, in multiples of the logits'
        multiple = ours.peak_bytes / (4 * batch * classes)
        comparison.targets.append(Target(text, multiple, at_most=7.0))
