"""What a training iteration pays for its scalars, early and late in a run."""

from collections.abc import Sequence
from types import SimpleNamespace

import torch
from mmengine.hooks import LoggerHook, RuntimeInfoHook
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.runner import LogProcessor

from prkd_mm.hooks import LeanRuntimeInfoHook

from .comparison import Bar, Comparison, Settings, UnequalError, compare
from .floors import Peaks
from .timing import OURS, STOCK, Case

ITERATIONS = (1_000, 10_000, 100_000, 300_000)
_INTERVAL = 100  # iterations between log lines
_KEYS = ('loss', 'student.loss', 'distill.loss_prkd')
_FLAT = 1.5  # at most, from the first length to the last: noise of 10 µs
_count = iter(range(10**9))  # no two share a message hub


class _Run:
    """A runner for one hook, some iterations into its run."""

    def __init__(self, hook: RuntimeInfoHook, device: torch.device) -> None:
        self.hook, self.iter, self.epoch = hook, 0, 0
        self.max_iters = self.max_epochs = 10**9
        self.message_hub = MessageHub.get_instance(f'bench_{next(_count)}')
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
        """Do what the hook does in so many iterations."""
        for _ in range(iterations):
            self.hook.before_train_iter(self, self.iter)
            self.hook.after_train_iter(self, self.iter, outputs=self._outputs[self.iter % 7])
            self.iter += 1

    def skip_to(self, iterations: int) -> None:
        """Have the histories that MMEngine's hook has after so many."""
        self.iter = iterations
        values = [0.5] * iterations
        for key in list(self.message_hub.log_scalars):
            self.message_hub.log_scalars[key] = HistoryBuffer(values, [1] * iterations)


class _Endless:
    dataset = None

    def __len__(self) -> int:
        return 10**9


def run(
    settings: Settings, peaks: Peaks, iterations: Sequence[int] = ITERATIONS
) -> list[Comparison]:
    """Compare the hooks at several lengths of the run.

    Args:
        settings (Settings): How to measure.
        peaks (Peaks): Not asked for.
        iterations (Sequence[int]): The lengths, ascending. Defaults to 1,000
            to 300,000.

    Raises:
        UnequalError: The hooks do not log the same.
    """
    check_equal(settings.device)
    ours = _Run(LeanRuntimeInfoHook(), settings.device)
    comparisons = []
    for length in iterations:
        stock = _Run(RuntimeInfoHook(), settings.device)
        stock.go(1)
        stock.skip_to(length)
        ours.go(length - ours.iter)  # all of them, in earnest
        comparisons.append(
            compare(
                settings,
                'logging',
                f'scalars after {length:,} iterations',
                'iteration',
                [
                    Case('stock', STOCK, lambda: stock.go(_INTERVAL), _INTERVAL),
                    Case('ours: lean hook', OURS, lambda: ours.go(10 * _INTERVAL), 10 * _INTERVAL),
                ],
                notes=[
                    f'{len(_KEYS)} losses and 2 learning rates, a log line '
                    f'every {_INTERVAL} iterations. Ours has done all '
                    "iterations before; stock's histories were filled "
                    'beforehand'
                ],
            )
        )
    first, last = (
        comparison['ours: lean hook'].time.median
        for comparison in (comparisons[0], comparisons[-1])
    )
    comparisons[-1].bars.append(
        Bar(
            f'scalars: an iteration of ours after {iterations[-1]:,}, in '
            f'those after {iterations[0]:,}',
            last / first,
            at_most=_FLAT,
        )
    )
    return comparisons


def check_equal(device: torch.device) -> None:
    """See that log lines have the same numbers in them.

    Raises:
        UnequalError: They have not.
    """
    seen: list[dict[str, float]] = []
    for hook in (RuntimeInfoHook(), LeanRuntimeInfoHook()):
        run = _Run(hook, device)
        run.go(3 * _INTERVAL)
        window = run.log_processor.window_size
        seen.append(
            {key: history.mean(window) for key, history in run.message_hub.log_scalars.items()}
        )
    if seen[0] != seen[1]:
        raise UnequalError(f'logging: {seen[1]} instead of {seen[0]}; there is nothing to compare')
