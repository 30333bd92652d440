import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..evaluation import unwrap


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
