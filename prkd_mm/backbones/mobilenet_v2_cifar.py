from typing import Any

from mmcv.cnn import ConvModule
from mmpretrain.models.backbones import MobileNetV2
from mmpretrain.registry import MODELS
from torch import nn


@MODELS.register_module()
class MobileNetV2_CIFAR(MobileNetV2):
    """The MobileNetV2 that tables of distillation on CIFAR-100 mean.

    A variant of `MobileNetV2: Inverted Residuals and Linear Bottlenecks
    <https://arxiv.org/abs/1801.04381>`_ from `Knowledge Distillation via
    Route Constrained Optimization <https://arxiv.org/abs/1904.09149>`_, known
    as ``mobile_half``. MMPretrain's net differs from it in that here

    - the second stage keeps its size: 32x32 images end at 2x2;
    - the activation is ReLU, not ReLU6;
    - channels are cut, not rounded to multiples of 8 (12 in the second stage);
    - the first block too has an expanding convolution, from 16 to 16.

    Args:
        widen_factor (float): Factor of the channels, but for the last
            convolution, which has 1280. Defaults to 0.5.
        act_cfg (dict): Defaults to ``dict(type='ReLU')``.
        **kwargs: Other arguments of MMPretrain's ``MobileNetV2``.
    """

    arch_settings = [
        [t, c, n, 1 if c == 24 else stride] for t, c, n, stride in MobileNetV2.arch_settings
    ]

    def __init__(
        self, widen_factor: float = 0.5, act_cfg: dict = dict(type='ReLU'), **kwargs: Any
    ) -> None:
        super().__init__(widen_factor, act_cfg=act_cfg, **kwargs)

    def make_layer(
        self, out_channels: int, num_blocks: int, stride: int, expand_ratio: int
    ) -> nn.Sequential:
        """Build the next stage, with the exact number of channels."""
        channels = self.arch_settings[len(self.layers)][1]
        first = self.in_channels
        layer = super().make_layer(
            int(channels * self.widen_factor), num_blocks, stride, expand_ratio
        )
        if expand_ratio == 1:  # MMPretrain's block leaves it out
            layer[0].conv.insert(
                0,
                ConvModule(
                    first,
                    first,
                    kernel_size=1,
                    conv_cfg=self.conv_cfg,
                    norm_cfg=self.norm_cfg,
                    act_cfg=self.act_cfg,
                ),
            )
        return layer
