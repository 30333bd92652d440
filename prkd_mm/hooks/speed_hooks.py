"""Hooks that make a step faster and leave its result alone."""

from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..evaluation import unwrap
from ..teachers import teacher_of


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Convolve in the memory format that today's libraries are fastest in.

    Turns the weights of the model, and of a teacher beside it, into
    ``torch.channels_last`` (NHWC); images follow at the first convolution.
    The same function up to the order of its sums; checkpoints fit either way.
    DistributedDataParallel, which saw the old format, warns of strides once
    and builds its buckets anew after the first step.
    """

    priority = 'VERY_HIGH'

    def _convert(self, runner: Runner) -> None:
        unwrap(runner.model).to(memory_format=torch.channels_last)

    # not before the run: another order in memory is filled with other random
    # numbers, and the weights of a seed would be others
    before_train = before_val = before_test = _convert


@HOOKS.register_module()
class CompileHook(Hook):
    """Compile the backbones of student and teacher with ``torch.compile``.

    In place, so that names in checkpoints stay as they are. The rest of the
    step, a handful of small kernels, stays eager, and so do the recorders of
    a distiller. MMEngine's own ``compile=True`` takes the whole step, which
    the recorders break into pieces.

    Args:
        student (bool): Compile the net that learns. Defaults to True.
        teacher (bool): Compile the teacher, if there is one. Defaults to True.
        **options: As of ``torch.compile``: ``mode='max-autotune'``, ...

    Examples:
        >>> custom_hooks = [dict(type='CompileHook', mode='reduce-overhead')]
    """

    priority = 'VERY_LOW'  # all others see the weights first

    def __init__(self, student: bool = True, teacher: bool = True, **options: Any) -> None:
        self.student, self.teacher, self.options = student, teacher, options

    def before_train(self, runner: Runner) -> None:
        model = unwrap(runner.model)
        if self.student:
            getattr(model, 'architecture', model).backbone.compile(**self.options)
        teacher = teacher_of(model)
        if self.teacher and teacher is not None:
            for module in teacher.modules_to_compile():
                module.compile(**self.options)
