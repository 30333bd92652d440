"""Hooks that make a training step faster without changing its result."""

from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch.nn.parallel import DistributedDataParallel

from ..evaluation import unwrap
from ..teachers import teacher_of


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Run convolutions in the memory format that is fastest in current libraries.

    Converts the weights of the student and of the teacher to ``torch.channels_last`` (NHWC); the
    first convolution converts the images. The results are the same up to rounding, and checkpoints
    are interchangeable between the two formats. DistributedDataParallel, whose buckets for the
    gradients have the old format, is built again. With ``FlexibleRunner``, whose strategies wrap
    the model themselves, its weights are not converted.
    """

    priority = 'VERY_HIGH'

    def _convert(self, runner: Runner) -> None:
        if isinstance(runner.model, DistributedDataParallel) and not isinstance(runner, Runner):
            return
        unwrap(runner.model).to(memory_format=torch.channels_last)

    # not in before_run: weights are initialized in the order of memory, so a seed
    # would give different weights in the other format
    before_val = before_test = _convert

    def before_train(self, runner: Runner) -> None:
        self._convert(runner)
        if isinstance(runner.model, DistributedDataParallel) and isinstance(runner, Runner):
            # with the old buckets, PyTorch reads the first gradients in the wrong order
            model = unwrap(runner.model)
            runner.model = None  # which removes the old wrapper's hooks from the weights
            runner.model = runner.wrap_model(runner.cfg.get('model_wrapper_cfg'), model)
            runner._maybe_compile('train_step')  # that of the old wrapper is lost


@HOOKS.register_module()
class CompileHook(Hook):
    """Compile the backbones of student and teacher with ``torch.compile``.

    The backbones are compiled in place, so the names in checkpoints do not change. The rest of the
    step, a few small kernels, is not compiled, nor are the recorders of a distiller. MMEngine's own
    ``compile=True`` compiles the whole step, where the recorders cause graph breaks.

    Args:
        student (bool): Whether to compile the student. Defaults to True.
        teacher (bool): Whether to compile the teacher, if there is one. Defaults to True.
        **options: Arguments of ``torch.compile``, such as ``mode='max-autotune'``.

    Examples:
        >>> custom_hooks = [dict(type='CompileHook', mode='reduce-overhead')]
    """

    priority = 'VERY_LOW'  # after all hooks that load or convert the weights

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
