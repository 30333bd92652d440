from collections.abc import Sequence
from typing import Optional

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..datasets import ImageViews, PackedImages
from ..evaluation import unwrap
from ..teachers import teacher_of
from .teacher_check_hook import TeacherCheckHook


@HOOKS.register_module()
class FillStoreHook(Hook):
    """Store the teacher's logits for each view of the images before it is used.

    For a model with ``teacher_logits=dict(views=K)``: in each of the first K epochs, the teacher
    computes the logits of all training images before the first step; later epochs use them again,
    without a teacher in memory. ``tools/train.py`` adds this hook automatically. An interrupted run
    resumes filling the store, and several runs or ranks share the work. With any other teacher the
    hook does nothing.

    Raises:
        ValueError: If the training images are neither ``PackedImages`` nor ``ImageViews``.

    Examples:
        >>> model = dict(teacher_logits=dict(views=8))
        >>> custom_hooks = [dict(type='FillStoreHook')]
    """

    priority = 'HIGH'  # after the hook that updates the epoch

    def __init__(self) -> None:
        self._view: Optional[int] = None

    def before_train(self, runner: Runner) -> None:
        """Store the first view before other hooks read it, unless a check rejects the teacher."""
        self._fill(runner, [hook for hook in runner.hooks if isinstance(hook, TeacherCheckHook)])

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        self._fill(runner)

    def _fill(self, runner: Runner, checks: Sequence[TeacherCheckHook] = ()) -> None:
        model = unwrap(runner.model)
        teacher = teacher_of(model)
        if teacher is None or not teacher.fills_a_store:
            return
        dataset = runner.train_dataloader.dataset
        if not isinstance(dataset, (PackedImages, ImageViews)):
            raise ValueError(
                'FillStoreHook: the training images must be PackedImages or ImageViews, whose '
                f'views are reproducible, got {type(dataset).__name__}'
            )
        view = model.data_preprocessor.view
        if view == self._view:
            return
        teacher.open(model.data_preprocessor, dataset)
        for hook in checks:
            hook.check(runner)
        workers = runner.train_dataloader.num_workers
        runner.logger.info(teacher.fill(view, model.data_preprocessor, dataset, workers))
        self._view = view
