import copy
import math
import os.path as osp
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Optional, Union

from mmengine.dist import all_reduce, is_main_process
from mmengine.hooks import CheckpointHook, EMAHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner, weights_to_cpu
from torch import nn

from ..averaging import BN_MODES, State, add_to_sum, load_mean
from ..batch_norm import batch_norms, recalibrate_on_training_images
from ..checkpoints import AVERAGE, write_atomically
from ..checks.number_checks import check_whole_number
from ..datasets import BatchClsDataPreprocessor
from ..deploy.student_config import describe_if_possible
from ..evaluation import evaluate, unwrap
from ..version import __version__
from .progress import current_epoch, ends_epoch, is_iter_based, num_epochs


def check_tail(num_epochs: int, total: int) -> None:
    """Raise a ValueError if a run has fewer epochs in total than are to be averaged."""
    if num_epochs > total:
        raise ValueError(
            f'TailAverageHook: cannot average the last num_epochs={num_epochs} epochs of a run '
            f'that has only {total}; lower num_epochs or train longer'
        )


def check_best(save_best: Union[str, Sequence[str], None]) -> None:
    """Raise a ValueError if ``save_best`` of a checkpoint hook is a metric of the average."""
    for name in save_best if isinstance(save_best, (list, tuple)) else [save_best]:
        if isinstance(name, str) and name.startswith('student_avg/'):
            raise ValueError(
                f'TailAverageHook: save_best={name!r} cannot select a checkpoint, which is a '
                "single student, by the average's accuracy; the average is written anyway. Use "
                f'{name.removeprefix("student_avg/")!r}, or remove save_best'
            )


@HOOKS.register_module()
class TailAverageHook(Hook):
    """Average the students of the last epochs into one.

    ``θ_MA = 1/I Σ θ_e`` over the last ``I`` epochs ``e``: the final student of "Progressively
    Relaxed Knowledge Distillation" (IJCNN 2024). Only the student is averaged (for a plain
    classifier, the whole model). Once per epoch, its weights are added to a float64 sum on the CPU.
    Training continues from the raw weights, and the ``state_dict`` of a checkpoint holds the raw
    weights (with MMEngine's ``EMAHook``, those of the EMA); the sum is stored next to it, under
    ``tail_average``, so that a run resumed within the tail ends with the same bits.

    From the first epoch of the tail on, the average is validated whenever the raw weights are. The
    result is logged as ``student_avg/<metric>``. At the end it is written to
    ``<work_dir>/student_avg.pth``: a plain MMPretrain checkpoint with its metrics in ``meta``.

    Args:
        num_epochs (int): Number I of epochs to average, at the end of the run. Defaults to 10.
        interval (int): Average every ``interval``-th epoch, counting back from the last one.
            Defaults to 1.
        bn (str): Batch-norm statistics of the average: 'recalibrate' re-estimates them from
            training batches (see :func:`~prkd_mm.batch_norm.recalibrate_bn`), because averaged
            weights produce different activations from those of the single students. 'average' takes
            the mean over the students, 'latest' the statistics of the last student. Defaults to
            'recalibrate'.
        bn_batches (int): Number of training batches for 'recalibrate', without batch augmentation;
            at most one epoch. Defaults to 100.
        evaluate (bool): Whether to validate the average. Defaults to True.

    Raises:
        ValueError: If an argument is out of range, if there are more epochs to average than the run
            has, or if the checkpoint hook's ``save_best`` is a metric of the average.
        RuntimeError: If a run is resumed within the tail from a checkpoint that does not contain
            the sum of this tail.

    Examples:
        >>> default_hooks = dict(
        ...     tail_average=dict(type='TailAverageHook', num_epochs=20))
    """

    priority = 55  # after SyncBuffersHook (50), before the logger (60)

    def __init__(
        self,
        num_epochs: int = 10,
        interval: int = 1,
        bn: str = 'recalibrate',
        bn_batches: int = 100,
        evaluate: bool = True,
    ) -> None:
        check_whole_number('TailAverageHook: num_epochs', num_epochs)
        check_whole_number('TailAverageHook: interval', interval)
        check_whole_number('TailAverageHook: bn_batches', bn_batches)
        if bn not in BN_MODES:
            raise ValueError(f'TailAverageHook: bn must be one of {BN_MODES}, got {bn!r}')
        if not isinstance(evaluate, bool):
            raise ValueError(f'TailAverageHook: evaluate must be True or False, got {evaluate!r}')
        self.num_epochs = num_epochs
        self.interval = interval
        self.bn = bn
        self.bn_batches = bn_batches
        self.evaluate = evaluate
        self._resumed: Optional[dict] = None
        self._start()

    def _start(self) -> None:
        self.epochs: list[int] = []  # already in the sum: the N of epoch_N.pth
        self._sum: State = {}
        self._average: Optional[tuple[nn.Module, dict]] = None
        self._raw_metrics: dict = {}

    def tail(self, runner: Runner) -> list[int]:
        """List the epochs to average, counted from 1 as in ``epoch_N.pth``."""
        total = math.ceil(num_epochs(runner))
        return [
            epoch
            for epoch in range(total - self.num_epochs + 1, total + 1)
            if (total - epoch) % self.interval == 0
        ]

    def before_train(self, runner: Runner) -> None:
        total = math.ceil(num_epochs(runner))
        check_tail(self.num_epochs, total)
        for hook in runner.hooks:
            if isinstance(hook, CheckpointHook):
                check_best(hook.save_best)
        resumed, self._resumed = self._resumed or {}, None
        finished = runner.iter >= runner.max_iters
        done = total if finished else current_epoch(runner)
        expected = [epoch for epoch in self.tail(runner) if epoch <= done]
        self._start()
        if not expected:
            return
        if resumed.get('epochs') != expected:
            found = f'that of {resumed["epochs"]}' if resumed.get('epochs') else 'no such sum'
            raise RuntimeError(
                f'TailAverageHook: to resume after epoch {done}, the checkpoint must contain the '
                f'sum of the students of epochs {expected}, but it contains '
                f'{found}. Resume from a checkpoint before the end of '
                f'epoch {expected[0]}, or keep num_epochs and interval unchanged'
            )
        self.epochs, self._sum = list(expected), resumed['sum']

    def after_train_epoch(self, runner: Runner) -> None:
        if not is_iter_based(runner):
            self._add(runner)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs=None
    ) -> None:
        if is_iter_based(runner) and ends_epoch(runner):
            self._add(runner)

    def _add(self, runner: Runner) -> None:
        epoch = current_epoch(runner) + 1
        if epoch in self.tail(runner):
            add_to_sum(self._sum, _student(runner).state_dict())
            self.epochs.append(epoch)
            self._average = None

    def average(self, runner: Runner) -> tuple[nn.Module, dict]:
        """Compute the average of the students so far, and its metrics (empty if none)."""
        if self._average is None:
            student = _copy_without_hooks(_student(runner)).eval()
            load_mean(student, self._sum, len(self.epochs), student.state_dict(), self.bn)
            if self.bn == 'recalibrate':
                preprocess = unwrap(runner.model).data_preprocessor
                if isinstance(preprocess, BatchClsDataPreprocessor):
                    # EpochSeedHook has not chosen one if a resumed run was finished
                    preprocess.choose_view(runner.train_dataloader.dataset)
                recalibrate_on_training_images(
                    student, runner.train_dataloader, preprocess, runner.seed, self.bn_batches
                )
            for layer in batch_norms(student):  # each rank used different batches
                all_reduce(layer.running_mean, 'mean')
                all_reduce(layer.running_var, 'mean')
            metrics = {}
            if self.evaluate and runner.val_loop is not None:
                metrics = evaluate(runner, partial(student, mode='predict'))
            self._average = student, metrics
        return self._average

    def after_val_epoch(self, runner: Runner, metrics=None) -> None:
        if not self.epochs or not self.evaluate:
            return
        if not any(isinstance(hook, EMAHook) for hook in runner.hooks):  # whose metrics these are
            self._raw_metrics = dict(metrics or {})
        for name, value in self.average(runner)[1].items():
            runner.message_hub.update_scalar(f'val/student_avg/{name}', value)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if self.epochs:
            checkpoint['tail_average'] = dict(epochs=list(self.epochs), sum=self._sum)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        tail = checkpoint.get('tail_average')
        # MMEngine loads onto the device of the run; the sum is on the CPU
        self._resumed = tail and dict(
            tail, sum={name: total.cpu() for name, total in tail['sum'].items()}
        )

    def after_train(self, runner: Runner) -> None:
        if not self.epochs:
            runner.logger.warning(
                'TailAverageHook: the run stopped before its last '
                f'{self.num_epochs} epochs, so there is no average and no {AVERAGE}'
            )
            return
        if self.epochs != self.tail(runner):  # stopped early, such as by EarlyStoppingHook
            runner.logger.warning(
                f'TailAverageHook: the run stopped after epoch {self.epochs[-1]}, so the average '
                f'is of the epochs {self.epochs} instead of {self.tail(runner)}'
            )
        student, metrics = self.average(runner)
        if metrics and not self._raw_metrics:  # with EMA, or a resumed run that was finished
            raw = _copy_without_hooks(_student(runner)).eval()
            self._raw_metrics = evaluate(runner, partial(raw, mode='predict'))
        if is_main_process():
            self._write(runner, student, metrics)

    def _write(self, runner: Runner, student: nn.Module, metrics: dict) -> None:
        path = osp.join(runner.work_dir, AVERAGE)
        meta = dict(
            tail_average=list(self.epochs),
            bn=self.bn,
            metrics=metrics,
            raw_metrics=self._raw_metrics,
            dataset_meta=getattr(runner.train_dataloader.dataset, 'metainfo', {}),
            experiment_name=runner.experiment_name,
            prkd_mm_version=__version__,
            **describe_if_possible(runner.cfg, AVERAGE, runner.logger.warning),
        )
        write_atomically(dict(meta=meta, state_dict=weights_to_cpu(student.state_dict())), path)
        compared = ''.join(
            f'; {name}: {value:.4f} (last epoch alone: {self._raw_metrics.get(name, math.nan):.4f})'
            for name, value in metrics.items()
        )
        runner.logger.info(f'Mean of the students of epochs {self.epochs} -> {path}{compared}')


def _student(runner: Runner) -> nn.Module:
    model = unwrap(runner.model)
    return getattr(model, 'architecture', model)


def _copy_without_hooks(model: nn.Module) -> nn.Module:
    # MMRazor's recorders are forward hooks and hold tensors of the last
    # graph, which cannot be copied (mmrazor/models/task_modules/recorder).
    memo: dict = {
        id(hooks): OrderedDict()
        for module in model.modules()
        for hooks in (module._forward_hooks, module._forward_pre_hooks)
    }
    return copy.deepcopy(model, memo)
