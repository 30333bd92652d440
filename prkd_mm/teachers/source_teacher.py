"""A teacher from another library or file format."""

import logging
from typing import Optional, Union

import torch
from mmengine.logging import print_log
from torch import nn

from .file_nets import FileNet
from .frozen_teacher import FrozenTeacher
from .logit_store import hash_of_weights
from .logits_net import LogitsNet
from .normalization import Normalization, check_image_options
from .sources import load_source


class SourceTeacher(FrozenTeacher):
    """A frozen teacher from timm, torchvision, Hugging Face or a file.

    It receives RGB images in the normalization and size that its source specifies. A file
    (TorchScript, ``torch.export``, ONNX) specifies no normalization; without ``mean`` and ``std``,
    its net receives images in the student's normalization, and a warning says so. A file of
    ``tools/export_student.py`` next to its ``student.json`` receives images from 0 to 255, which it
    normalizes itself.

    Args:
        source, checkpoint, num_classes, **options: See
            :func:`~prkd_mm.teachers.sources.load_source`.
        mean, std: Normalization of the images, on the scale 0 to 255.
        to_rgb: Whether the channels of loaded images are reversed to get RGB, as in MMPretrain's
            data preprocessor. Only needed if the student does not reverse them.
        image_size: Height and width of the images; one integer stands for both.
    """

    def __init__(
        self,
        source: str,
        checkpoint: Optional[str] = None,
        num_classes: Optional[int] = None,
        mean: Optional[list[float]] = None,
        std: Optional[list[float]] = None,
        to_rgb: Optional[bool] = None,
        image_size: Union[int, tuple[int, int], None] = None,
        **options,
    ) -> None:
        loaded = load_source(source, checkpoint, num_classes, **options)
        mean, std = mean or loaded.mean, std or loaded.std
        check_image_options(source, mean, std, image_size)
        preprocessor = dict(type='mmpretrain.ClsDataPreprocessor', to_rgb=to_rgb is not False)
        if mean is not None:
            preprocessor.update(mean=mean, std=std)
        net = LogitsNet(loaded.module, loaded.num_classes, preprocessor)
        super().__init__(net, image_size=image_size or loaded.image_size)
        self.source, self.to_rgb = source, to_rgb

    def adapt_to(self, preprocessor: nn.Module) -> None:
        """Prepare as a frozen teacher; a ValueError if the channel order of images is unknown."""
        students = Normalization.of(preprocessor)
        own = Normalization.of(self.net.data_preprocessor)
        if not own.enabled:
            print_log(
                f'The teacher {self.source!r} does not specify the normalization of its images, so '
                "it gets them in the student's normalization and channel order. If it was trained "
                f'with another, set teacher=dict(source={self.source!r}, mean=[...], std=[...], '
                'to_rgb=...), for values from 0 to 255',
                logger='current',
                level=logging.WARNING,
            )
        ambiguous = own.enabled and not students.swaps_channels and students.mean.numel() == 3
        if ambiguous and self.to_rgb is None:
            raise ValueError(
                f'the teacher {self.source!r} expects RGB images, and the '
                "student's data_preprocessor has to_rgb=False, so the channel order of loaded "
                'images is unknown; use teacher=dict(source=..., to_rgb=False) if the data '
                'set loads RGB images (CIFAR), or to_rgb=True if it loads BGR images'
            )
        super().adapt_to(preprocessor)

    def fingerprint(self) -> str:
        """Hash of the weights, the normalization, the order of the channels and the image size."""
        own = Normalization.of(self.net.data_preprocessor)
        state = dict(
            self.net.state_dict(),
            input_mean=own.mean,
            input_std=own.std,
            input_size=torch.tensor(self.image_size or ()),
        )
        if own.enabled and not own.swaps_channels:  # stores of RGB teachers stay valid
            state.update(input_swapped=torch.tensor(False))
        return hash_of_weights(state)

    def modules_to_compile(self) -> list[nn.Module]:
        """The net, unless it comes from a file and is compiled already."""
        return [] if isinstance(self.net.backbone, FileNet) else [self.net.backbone]
