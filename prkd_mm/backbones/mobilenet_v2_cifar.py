from typing import Any

from mmcv.cnn import ConvModule
from mmpretrain.models.backbones import MobileNetV2
from mmpretrain.registry import MODELS
from torch import nn


@MODELS.register_module()
class MobileNetV2_CIFAR(MobileNetV2):
    """MobileNetV2 of the distillation literature for CIFAR-100.

    A variant of `MobileNetV2: Inverted Residuals and Linear Bottlenecks
    <https://arxiv.org/abs/1801.04381>`_ from `Knowledge Distillation via Route Constrained
    Optimization <https://arxiv.org/abs/1904.09149>`_, known as ``mobile_half``. Differences from
    MMPretrain's ``MobileNetV2``:

    - the second stage keeps its size: 32x32 images end at 2x2;
    - the activation is ReLU, not ReLU6;
    - the number of channels is not rounded to a multiple of 8 (the second stage has 12);
    - the first block also has an expanding convolution, from 16 to 16.

    Args:
        widen_factor (float): Width multiplier of all layers except the last convolution, which has
            1280 channels. Defaults to 0.5.
        act_cfg (dict): Config of the activation. Defaults to ``dict(type='ReLU')``.
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
        if expand_ratio == 1:  # MMPretrain's block omits the expansion
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
