"""The normalization of images by a data preprocessor."""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Normalization(NamedTuple):
    """``(image - mean) / std`` on the scale 0 to 255, after an optional swap of the channels.

    Images are loaded as BGR, so a net with ``swaps_channels`` receives RGB.
    """

    mean: Tensor  # (C, 1, 1); zeros without normalization
    std: Tensor  # (C, 1, 1); ones without normalization
    swaps_channels: bool  # whether the order of the channels is reversed first
    enabled: bool  # whether mean and standard deviation are applied

    @classmethod
    def of(cls, preprocessor: nn.Module) -> 'Normalization':
        """Read the normalization of MMPretrain's or MMEngine's preprocessor."""
        swaps = bool(
            getattr(preprocessor, 'to_rgb', False)  # MMPretrain
            or getattr(preprocessor, '_channel_conversion', False)  # MMEngine
        )
        if not getattr(preprocessor, '_enable_normalize', False):
            return cls(torch.zeros(1, 1, 1), torch.ones(1, 1, 1), swaps, False)
        mean, std = preprocessor.get_buffer('mean'), preprocessor.get_buffer('std')
        return cls(mean, std, swaps, True)

    def describe(self) -> list:
        """Plain values that can be stored as JSON and compared."""
        if not self.enabled:
            return [self.swaps_channels]
        return [self.swaps_channels, self.mean.flatten().tolist(), self.std.flatten().tolist()]
