from typing import Callable, Optional

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor

from ..checks.number_checks import is_number
from ..datasets import hash_of_dataset
from ..evaluation import evaluate, unwrap
from ..strength import StrengthMeter
from ..teachers import teacher_of
from .progress import is_logged, iters_per_epoch
from .raw_outputs import RawOutputs, reject_probabilities
from .strength_log import LogitSample, known_losses, log_without_smoothing, stored_sample

_MAX_DEVIATION = 0.01  # of the sum of a softmax from 1


@HOOKS.register_module()
class TeacherCheckHook(Hook):
    """Validate the teacher once, before training.

    If a teacher did not load correctly, or receives images in the wrong normalization, training
    still works, but the student is worse. The accuracy of the teacher reveals such mistakes. A
    stored teacher was validated when its logits were stored, and that accuracy is used. If it was
    on another validation set, and the teacher is available, it is validated again.

    The strength of each distillation loss (:mod:`prkd_mm.strength`) is computed from the logits of
    up to 10,000 images, of the validation set, or of the training set if they are stored. It is
    logged as ``train/<loss>.strength``. A live teacher must have a softmax over the classes, and
    not a multi-label head; otherwise a warning says that the strength is unknown. For a loss that
    no :class:`LossScheduleHook` changes, a log line before the first batch reports its constant
    strength.

    Args:
        min_top1 (float, optional): Stop the run if the teacher's top-1 accuracy on the validation
            set, in percent, is below this value. Defaults to None, which only logs it.

    Raises:
        ValueError: If ``min_top1`` is outside [0, 100]; if there is no teacher; if its logits are
            not finite, or are probabilities (all at least 0, with a sum of 1 for each image); if
            their number is not the student's number of classes; if there are at least 100 images
            and ten per class, and the teacher is not better than chance; or, with ``min_top1``, if
            there is no validation set or no top-1 accuracy, or if the accuracy is below
            ``min_top1``.
    """

    def __init__(self, min_top1: Optional[float] = None) -> None:
        if min_top1 is not None and not (is_number(min_top1) and 0 <= min_top1 <= 100):
            raise ValueError(f'TeacherCheckHook: min_top1 must be in [0, 100], got {min_top1!r}')
        self.min_top1 = min_top1
        self.meter: Optional[StrengthMeter] = None  # strength for the teacher's logits
        # to which these logits belong; None if they have no strength
        self.images: Optional[str] = ''

    def before_train(self, runner: Runner) -> None:
        self.meter = None
        scalars = runner.message_hub.log_scalars
        for key in [key for key in scalars if key.endswith('.strength')]:
            del scalars[key]  # of the run before a resume, perhaps of other logits
        teacher = teacher_of(unwrap(runner.model))
        if teacher is None:
            raise ValueError('TeacherCheckHook: the model has no teacher; remove the hook')
        stored = stored_sample(teacher)
        if stored is not None:
            reject_probabilities(stored)
        self._keep(runner, stored, 'training')
        if runner.val_loop is None:
            if self.min_top1 is not None:
                raise ValueError(
                    'TeacherCheckHook: min_top1 needs a validation set; add one or remove min_top1'
                )
            runner.logger.warning(
                'TeacherCheckHook: there is no validation set, so the teacher is not checked'
            )
            return
        metrics, logits = self._validate(runner)
        runner.visualizer.add_scalars({f'teacher/{name}': value for name, value in metrics.items()})
        values = ', '.join(f'{name}: {value:.4f}' for name, value in metrics.items())
        if values:
            runner.logger.info(f'Teacher, {teacher.measured}: {values}')
        else:
            runner.logger.warning(
                'TeacherCheckHook: the accuracy of the teacher is not known, because its stored '
                'logits have none; with all teachers available, tools/cache_teacher.py adds it'
            )
        self._reject_bad(runner, metrics, logits)
        if self.meter is None and logits is not None and not _are_of_a_softmax(logits):
            runner.logger.warning(
                "TeacherCheckHook: the teacher's scores are not a softmax over the classes (as "
                'with a multi-label head), so the strength of the supervision is unknown'
            )
            self.images = None
        elif self.meter is None:
            self._keep(runner, logits, 'validation')

    def check(self, runner: Runner) -> None:
        """Raise a ValueError for a bad teacher, before its logits are stored."""
        if runner.val_loop is not None:
            self._reject_bad(runner, *self._validate(runner))

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        # a run resumed within an epoch repeats it, and then runner.iter is not a multiple
        begins = batch_idx % iters_per_epoch(runner) == 0
        # an iteration-based schedule changes the weights that are logged, until the last iteration
        ends = runner.iter + 1 == runner.max_iters
        logged = is_logged(runner, batch_idx)
        if self.meter is None or not (begins or ends or logged):
            return
        strengths = {
            f'{name}.strength': self.meter.total(loss)
            for name, loss in known_losses(runner).items()
        }
        for name, value in strengths.items():
            runner.message_hub.update_scalar(f'train/{name}', value)
        if runner.iter == 0 and strengths and not logged:  # the initial strength is always logged
            runner.visualizer.add_scalars(dict(strengths, epoch=1), step=0)

    def _validate(self, runner: Runner) -> tuple[dict[str, float], Optional[Tensor]]:
        """Metrics of the teacher, and its logits for some images; None if it does not run."""
        teacher = teacher_of(unwrap(runner.model))
        sample, outputs = LogitSample(len(runner.val_dataloader.dataset)), RawOutputs(teacher)

        def evaluate_and_keep(predict: Callable) -> dict[str, float]:
            return evaluate(runner, sample.watching(outputs.watching(predict)))

        images = None if teacher.is_live else hash_of_dataset(runner.val_dataloader.dataset)
        metrics = teacher.metrics(evaluate_and_keep, images)
        outputs.reject_probabilities()
        return metrics, sample.gather()

    def _keep(self, runner: Runner, logits: Optional[Tensor], subset: str) -> None:
        if logits is None:
            return
        # a batch sampler of the user's own leaves batch_size None; only 'intra' depends on it
        self.meter = StrengthMeter(logits, runner.train_dataloader.batch_size or 64)
        self.images = f'{len(logits):,} {subset} images'
        if getattr(unwrap(runner.model), 'teacher_trainable', False):
            self.images += ', initial teacher'
        for name, loss in known_losses(runner).items():
            log_without_smoothing(runner, f'{name}.strength')
            if not getattr(loss, 'scheduled', False):  # set by LossScheduleHook, which runs earlier
                strength = self.meter.total(loss)
                runner.logger.info(
                    f'{name}: supervision {strength:#.2g} during the whole run ({self.images})'
                )

    def _reject_bad(self, runner: Runner, metrics: dict, logits: Optional[Tensor]) -> None:
        if logits is not None:
            _check_not_at_chance(logits, metrics, len(runner.val_dataloader.dataset))
        if self.min_top1 is None:
            return
        top1 = metrics.get('accuracy/top1')
        if top1 is None and not metrics:
            raise ValueError(
                'TeacherCheckHook: min_top1 needs the accuracy of the teacher, which its stored '
                'logits do not have; make the teacher available, or remove min_top1'
            )
        if top1 is None:
            raise ValueError(
                'TeacherCheckHook: min_top1 needs the metric accuracy/top1, got '
                f"{sorted(metrics)}; add dict(type='Accuracy') to val_evaluator"
            )
        if top1 < self.min_top1:
            raise ValueError(
                f'TeacherCheckHook: the teacher reaches {top1:.2f} % top-1, below '
                f'min_top1={self.min_top1:g}. Check teacher_ckpt, the order of the classes and the '
                'normalization, or lower min_top1'
            )


def _are_of_a_softmax(logits: Tensor) -> bool:
    return bool(((logits.exp().sum(1) - 1).abs() < _MAX_DEVIATION).all())


def _check_not_at_chance(logits: Tensor, metrics: dict, images: int) -> None:
    """Raise an error for a teacher that no student can learn from, even without ``min_top1``."""
    if not torch.isfinite(logits).all():
        raise ValueError(
            'TeacherCheckHook: the teacher has logits that are not finite; check its checkpoint '
            'and the normalization of its images'
        )
    classes = logits.size(1)
    top1 = metrics.get('accuracy/top1', 100.0)
    # with fewer images, a good teacher may fail by chance
    if images >= max(100, 10 * classes) and top1 <= 100 / classes:
        raise ValueError(
            f'TeacherCheckHook: the teacher reaches {top1:.2f} % top-1, no better than guessing '
            f'among {classes} classes; check teacher_ckpt, the order of the classes and the '
            'normalization'
        )
