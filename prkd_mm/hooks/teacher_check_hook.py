from typing import Optional

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..evaluation import evaluate, unwrap
from ..teachers.stored_teacher import StoredTeacher


@HOOKS.register_module()
class TeacherCheckHook(Hook):
    """Validate the teacher once, before training.

    A teacher whose logits are stored was validated when they were made.
    A teacher that did not load, or is fed with another normalisation, trains
    a student too, only worse; here it shows.

    Args:
        min_top1 (float, optional): Stop the run if the teacher's top-1
            accuracy on the validation set, in percent, is below. Defaults to
            None: only log it.

    Raises:
        ValueError: ``min_top1`` is no percentage; there is no teacher; or
            with ``min_top1`` no validation set or top-1 accuracy to check, or
            a teacher below it.
    """

    def __init__(self, min_top1: Optional[float] = None) -> None:
        if min_top1 is not None and not 0 <= min_top1 <= 100:
            raise ValueError(f'TeacherCheckHook: min_top1 is a percentage, got {min_top1!r}')
        self.min_top1 = min_top1

    def before_train(self, runner: Runner) -> None:
        model = unwrap(runner.model)
        teacher = getattr(model, 'teacher', None)
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
        if isinstance(teacher, StoredTeacher):
            metrics = teacher.store.header.get('metrics', {})
            return self._tell(runner, metrics, 'Teacher, when stored')
        adapt = getattr(model, 'teacher_inputs', lambda inputs: inputs)

        def predict(inputs: torch.Tensor, data_samples: list) -> list:
            return teacher(adapt(inputs), data_samples, mode='predict')

        was_training = teacher.training
        teacher.eval()
        metrics = evaluate(runner, predict)
        teacher.train(was_training)
        self._tell(runner, metrics, 'Teacher, on the validation set')

    def _tell(self, runner: Runner, metrics: dict, whose: str) -> None:
        runner.visualizer.add_scalars({f'teacher/{name}': value for name, value in metrics.items()})
        runner.logger.info(
            f'{whose}: ' + ', '.join(f'{name}: {value:.4f}' for name, value in metrics.items())
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
                'order of the classes and the normalisation, or lower '
                'min_top1'
            )
