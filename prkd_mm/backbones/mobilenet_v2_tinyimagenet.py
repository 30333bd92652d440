from typing import Any

from mmcv.cnn import ConvModule
from mmpretrain.models.backbones import MobileNetV2
from mmpretrain.registry import MODELS

from .mobilenet_v2_cifar import MobileNetV2_CIFAR


@MODELS.register_module()
class MobileNetV2_TinyImageNet(MobileNetV2_CIFAR):
    """MobileNetV2 of the distillation literature for Tiny ImageNet.

    A variant of `MobileNetV2: Inverted Residuals and Linear Bottlenecks
    <https://arxiv.org/abs/1801.04381>`_, the student of `DOT: A Distillation-Oriented Trainer
    <https://arxiv.org/abs/2307.08436>`_. Differences from MMPretrain's ``MobileNetV2``:

    - the stem is a 1x1 convolution of stride 1 with padding 1, and the sixth stage keeps its size:
      64x64 images become 66x66 and end at 9x9;
    - the first block also has an expanding convolution, from 32 to 32.

    The biases in front of each batch norm in DOT's code are omitted, since batch norm subtracts
    them.

    Args:
        widen_factor (float): Width multiplier of all layers except the last convolution, which has
            1280 channels. Defaults to 1.0.
        act_cfg (dict): Config of the activation. Defaults to ``dict(type='ReLU6')``.
        **kwargs: Other arguments of MMPretrain's ``MobileNetV2``.
    """

    arch_settings = [
        [t, c, n, 1 if c == 160 else stride] for t, c, n, stride in MobileNetV2.arch_settings
    ]

    def __init__(
        self, widen_factor: float = 1.0, act_cfg: dict = dict(type='ReLU6'), **kwargs: Any
    ) -> None:
        super().__init__(widen_factor, act_cfg=act_cfg, **kwargs)
        self.conv1 = ConvModule(
            3,
            self.conv1.out_channels,  # type: ignore[has-type]
            kernel_size=1,
            padding=1,
            conv_cfg=self.conv_cfg,
            norm_cfg=self.norm_cfg,
            act_cfg=act_cfg,
        )
