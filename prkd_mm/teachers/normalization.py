"""The normalization of images by a data preprocessor."""

import math
from collections.abc import Sequence
from typing import NamedTuple, Optional, Union

import torch
from torch import Tensor, nn

from ..checks.number_checks import check_whole_number, is_number


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


def check_image_options(
    source: str,
    mean: Optional[Sequence[float]],
    std: Optional[Sequence[float]],
    image_size: Union[int, Sequence[int], None],
) -> None:
    """Raise a ValueError for an impossible normalization or image size of a named teacher."""
    owner = f'of the teacher {source!r}'
    if (mean is None) != (std is None):
        raise ValueError(f'mean and std {owner}: set both or neither, got {mean!r} and {std!r}')
    for name, values in dict(mean=mean, std=std).items():
        if values is not None and not (
            isinstance(values, (list, tuple)) and all(map(_is_finite, values))
        ):
            raise ValueError(
                f'{name} {owner} must be a list of numbers, one per channel, got {values!r}'
            )
    if mean is not None and std is not None and (len(mean) != len(std) or min(std) <= 0):
        raise ValueError(
            f'mean and std {owner} must have one number per channel each, and std must be above 0; '
            f'got {mean!r} and {std!r}'
        )
    for size in image_size if isinstance(image_size, (list, tuple)) else [image_size]:
        check_whole_number(f'image_size {owner}', size, optional=True)


def _is_finite(value: object) -> bool:
    return is_number(value) and math.isfinite(value)  # type: ignore[arg-type]
