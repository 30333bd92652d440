"""Compare hooks that average the weights, and hooks that record scalars."""

import functools
from collections.abc import Sequence
from itertools import count
from types import SimpleNamespace
from typing import Callable

import torch
from mmengine.hooks import LoggerHook, RuntimeInfoHook
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.model import StochasticWeightAverage
from mmengine.runner import LogProcessor
from torch import nn

from prkd_mm.hooks import LeanRuntimeInfoHook, TailAverageHook

from .comparison import Comparison, Settings, Target, UnequalError, compare
from .nets import PAIRS, Pair
from .timing import OURS, STOCK, TUNED, Case, peak_memory

ITERATIONS_PER_EPOCH = 782  # 50,000 images in batches of 64
_INTERVAL = 100  # iterations between log lines
_KEYS = ('loss', 'student.loss', 'distill.loss_prkd')
_CONSTANT = 1.5  # limit for cost per iteration, longest run / shortest: noise of 10 µs
_hub_number = count()  # each run needs a message hub of its own


def run_average(settings: Settings, pairs: Sequence[str] = PAIRS[:1]) -> list[Comparison]:
    """Averaging the weights.

    MMEngine's average is compared with the tail average, per epoch.
    """
    return [_compare_averages(settings, name) for name in pairs]


def _compare_averages(settings: Settings, pair: str) -> Comparison:
    nets = Pair(pair, settings.device, batch=2)
    check_same_mean(nets.student)
    ours = nets.ours()
    averages = [
        ('SWA of all nets', STOCK, _swa(nets.stock()), ITERATIONS_PER_EPOCH),
        ('SWA of the student', TUNED, _swa(ours.student), ITERATIONS_PER_EPOCH),
        ('ours: tail average', OURS, _tail(ours), 1),
    ]
    cases = [  # the first update allocates the sums
        Case(name, side, update, 1 / updates, peak_bytes=peak_memory(update, settings.device))
        for name, side, update, updates in averages
    ]
    size, speed = sum(p.numel() for p in nets.student.parameters()), settings.peaks.bytes
    return compare(
        settings,
        'average',
        f'average of {pair}',
        'epoch',
        cases,
        lower_bound=20 * size / speed,
        lower_bound_text=f'{size / 1e6:.3g} M weights read, their float64 sum read '
        f'and written, once, at {speed / 1e9:.3g} GB/s',
        note=f'an epoch of {ITERATIONS_PER_EPOCH} iterations; MMEngine averages in every '
        'iteration, and its EMAHook averages the whole algorithm, teacher included',
    )


def _swa(net: nn.Module) -> Callable[[], None]:
    make = functools.cache(StochasticWeightAverage)  # in the first update
    return lambda: make(net).update_parameters(net)


def _tail(model: nn.Module) -> Callable[[], None]:
    hook, runner = TailAverageHook(num_epochs=10), _in_tail(model)
    return lambda: hook.after_train_epoch(runner)


def _in_tail(model: nn.Module) -> SimpleNamespace:
    """The attributes of a runner in its last epoch that ``TailAverageHook`` reads."""
    return SimpleNamespace(
        model=model, train_loop=None, val_loop=None, epoch=9, max_epochs=10, iter=9, max_iters=10
    )


@torch.no_grad()
def check_same_mean(net: nn.Module) -> None:
    """Raise an error unless both hooks average three nets to the same weights."""
    runner = _in_tail(net)
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
            raise UnequalError(f'average: the means of {name} differ')


class _Endless:
    dataset = None

    def __len__(self) -> int:
        return 10**9


class _Run:
    """A runner with one hook for scalars and MMEngine's logger."""

    def __init__(self, hook: RuntimeInfoHook, device: torch.device) -> None:
        self.hook, self.iter, self.epoch = hook, 0, 0
        self.max_iters = self.max_epochs = 10**9
        self.message_hub = MessageHub.get_instance(f'benchmark_{next(_hub_number)}')
        self.log_processor = LogProcessor(window_size=10)
        self.train_loop = self.val_loop = None
        self.train_dataloader = _Endless()
        self.optim_wrapper = SimpleNamespace(get_lr=lambda: dict(lr=[0.05], base_lr=[0.05]))
        self.hooks = [hook, LoggerHook(interval=_INTERVAL)]
        self._outputs = [
            {key: torch.tensor(float(i), device=device) for key in _KEYS} for i in range(7)
        ]
        hook.before_train(self)

    def go(self, iterations: int) -> None:
        """Call the hook for a number of iterations."""
        for _ in range(iterations):
            self.hook.before_train_iter(self, self.iter)
            self.hook.after_train_iter(self, self.iter, outputs=self._outputs[self.iter % 7])
            self.iter += 1

    def skip_to(self, iterations: int) -> None:
        """Fill the histories as MMEngine's hook does in a number of iterations."""
        self.iter = iterations
        values = [0.5] * iterations
        for key in list(self.message_hub.log_scalars):
            self.message_hub.log_scalars[key] = HistoryBuffer(values, [1] * iterations)


def run_logging(
    settings: Settings, iterations: Sequence[int] = (1_000, 10_000, 100_000, 300_000)
) -> list[Comparison]:
    """An iteration's scalars, early and late in a run.

    The hooks that record them are compared after each number of ``iterations``, ascending.
    """
    check_same_log(settings.device)
    ours, comparisons = _Run(LeanRuntimeInfoHook(), settings.device), []
    for length in iterations:
        stock = _Run(RuntimeInfoHook(), settings.device)
        stock.go(1)
        stock.skip_to(length)
        ours.go(length - ours.iter)
        comparisons.append(_compare_scalars(settings, stock, ours, length))
    text = (
        f'scalars: cost of an iteration of ours after {iterations[-1]:,}, relative to that '
        f'after {iterations[0]:,}'
    )
    first, last = (comparisons[i]['ours: lean hook'].time.median for i in (0, -1))
    comparisons[-1].targets.append(Target(text, last / first, at_most=_CONSTANT))
    return comparisons


def _compare_scalars(settings: Settings, stock: _Run, ours: _Run, length: int) -> Comparison:
    return compare(
        settings,
        'logging',
        f'scalars after {length:,} iterations',
        'iteration',
        [
            Case('stock', STOCK, lambda: stock.go(_INTERVAL), _INTERVAL),
            Case('ours: lean hook', OURS, lambda: ours.go(10 * _INTERVAL), 10 * _INTERVAL),
        ],
        note=f'{len(_KEYS)} losses and 2 learning rates, a log line every {_INTERVAL} iterations. '
        "Ours has run all earlier iterations; stock's histories were filled beforehand",
    )


def check_same_log(device: torch.device) -> None:
    """Raise an error unless the log lines contain the same numbers."""
    logged: list[dict[str, float]] = []
    for hook in (RuntimeInfoHook(), LeanRuntimeInfoHook()):
        run = _Run(hook, device)
        run.go(3 * _INTERVAL)
        window, scalars = run.log_processor.window_size, run.message_hub.log_scalars
        logged.append({key: history.mean(window) for key, history in scalars.items()})
    if logged[0] != logged[1]:
        raise UnequalError(f'logging: {logged[1]} instead of {logged[0]}')
