from typing import Any

from mmpretrain.models.backbones import ResNet_CIFAR
from mmpretrain.models.backbones.resnet import BasicBlock
from mmpretrain.registry import MODELS


@MODELS.register_module()
class ResNet6n2(ResNet_CIFAR):
    """ResNets of depth 6n + 2 for 32x32 images.

    `Deep Residual Learning for Image Recognition <https://arxiv.org/abs/1512.03385>`_, section 4.2:
    a 3x3 stem and three stages of n basic blocks; with a 1x1 convolution and BN where a shortcut
    changes shape, as in `Contrastive Representation Distillation
    <https://arxiv.org/abs/1910.10699>`_ and later work. There, ``resnet20`` to ``resnet110`` have
    the default width; ``resnet8x4`` and ``resnet32x4`` have ``stem_channels=32, base_channels=64``.

    Args:
        depth (int): 6n + 2: 8, 14, 20, 32, 44, 56, 110, ...
        stem_channels (int): Channels of the stem. Defaults to 16.
        base_channels (int): Channels of the first stage; doubled in the second, and again in the
            third. Defaults to 16.
        out_indices (Sequence[int]): Stages to return. Defaults to (2, ), the last.
        zero_init_residual (bool): Whether blocks start as the identity. Defaults to False, as in
            the literature.
        **kwargs: Other arguments of MMPretrain's ``ResNet_CIFAR``.

    Raises:
        ValueError: If the depth is not 6n + 2.
    """

    arch_settings = {  # up to depth 1202, as in the paper
        6 * n + 2: (BasicBlock, (n, n, n)) for n in range(1, 201)
    }

    def __init__(
        self,
        depth: int,
        stem_channels: int = 16,
        base_channels: int = 16,
        out_indices: tuple[int, ...] = (2,),
        zero_init_residual: bool = False,
        **kwargs: Any,
    ) -> None:
        if depth not in self.arch_settings:
            raise ValueError(
                f'ResNet6n2 has no depth {depth!r}; choose one '
                'of 6n + 2: 8, 14, 20, 32, 44, 56, 110, ...'
            )
        super().__init__(
            depth,
            stem_channels=stem_channels,
            base_channels=base_channels,
            num_stages=3,
            strides=(1, 2, 2),
            dilations=(1, 1, 1),
            out_indices=out_indices,
            zero_init_residual=zero_init_residual,
            **kwargs,
        )
