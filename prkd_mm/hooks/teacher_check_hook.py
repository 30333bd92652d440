from functools import partial
from typing import Optional

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..evaluation import evaluate, unwrap
from ..teachers import teacher_of


@HOOKS.register_module()
class TeacherCheckHook(Hook):
    """Validate the teacher once, before training.

    A teacher that did not load, or that receives images in another
    normalization, trains a student too, only a worse one; its accuracy reveals
    the mistake. A stored teacher was validated when its logits were stored,
    and that accuracy is used.

    Args:
        min_top1 (float, optional): Stop the run if the teacher's top-1
            accuracy on the validation set, in percent, is below this value.
            Defaults to None, which only logs it.

    Raises:
        ValueError: If ``min_top1`` is outside [0, 100]; if there is no teacher;
            or, with ``min_top1``, if there is no validation set or top-1
            accuracy to check, or the teacher is below it.
    """

    def __init__(self, min_top1: Optional[float] = None) -> None:
        if min_top1 is not None and not 0 <= min_top1 <= 100:
            raise ValueError(f'TeacherCheckHook: min_top1 must be in [0, 100], got {min_top1!r}')
        self.min_top1 = min_top1

    def before_train(self, runner: Runner) -> None:
        teacher = teacher_of(unwrap(runner.model))
        if teacher is None:
            raise ValueError('TeacherCheckHook: the model has no teacher; remove the hook')
        if runner.val_loop is None:
            if self.min_top1 is not None:
                raise ValueError(
                    'TeacherCheckHook: min_top1 needs a validation set; add one or leave it out'
                )
            runner.logger.warning(
                'TeacherCheckHook: there is no validation set, so the teacher stays unchecked'
            )
            return
        metrics = teacher.metrics(partial(evaluate, runner))
        runner.visualizer.add_scalars({f'teacher/{name}': value for name, value in metrics.items()})
        runner.logger.info(
            f'Teacher, {teacher.measured}: '
            + ', '.join(f'{name}: {value:.4f}' for name, value in metrics.items())
        )
        if self.min_top1 is not None:
            self._check(metrics)

    def _check(self, metrics: dict) -> None:
        top1 = metrics.get('accuracy/top1')
        if top1 is None:
            raise ValueError(
                'TeacherCheckHook: min_top1 needs the metric '
                f'accuracy/top1, got {sorted(metrics)}; add '
                "dict(type='Accuracy') to val_evaluator"
            )
        if top1 < self.min_top1:
            raise ValueError(
                f'TeacherCheckHook: the teacher reaches {top1:.2f} % top-1, '
                f'below min_top1={self.min_top1:g}. Check teacher_ckpt, the '
                'order of the classes and the normalization, or lower '
                'min_top1'
            )
