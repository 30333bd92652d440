"""A teacher that runs alongside the student and is not trained."""

from collections.abc import Mapping
from typing import Optional, Union

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse
from torch.nn.functional import interpolate

from ..checkpoints import describe, load_strictly, plain_state_dict, read, recorded_classes, resolve
from .logit_store import OWN_NORMALIZATION, hash_of_weights
from .normalization import Normalization
from .teacher import Evaluate, Teacher


class MissingWeights(ValueError):
    """A config does not name the weights of a teacher."""


class FrozenTeacher(Teacher):
    """A trained net that receives images in its own normalization and size.

    Args:
        net: The trained classifier.
        weights: The state dict that it was loaded from, which identifies it also after its batch
            norms were folded. None takes that of ``net``.
        image_size: Height and width that images are resized to; one integer
            stands for both. None keeps the size of the images.
    """

    def __init__(
        self,
        net: BaseModel,
        weights: Optional[dict[str, Tensor]] = None,
        image_size: Union[int, tuple[int, int], None] = None,
    ) -> None:
        super().__init__(net)
        if isinstance(image_size, int):
            image_size = (image_size, image_size)
        self.image_size = image_size and tuple(image_size)
        self._swap_channels = False
        self._fingerprint = None if weights is None else self._hash(weights)
        self.register_buffer('_scale', None, persistent=False)
        self.register_buffer('_shift', None, persistent=False)

    def adapt_to(self, preprocessor: nn.Module) -> None:
        """Compute the map from the student's normalized images to the teacher's.

        With x = (image - mean) / std: x_T = (x * std + mean - mean_T) / std_T.
        """
        students = Normalization.of(preprocessor)
        own = Normalization.of(self.net.data_preprocessor)
        if not own.enabled:
            self.input_normalization = students.describe()
            return
        self.input_normalization = OWN_NORMALIZATION
        mean, std = students.mean, students.std
        self._swap_channels = students.swaps_channels != own.swaps_channels
        if self._swap_channels:
            mean, std = mean.flip(0), std.flip(0)
        self._scale, self._shift = std / own.std, (mean - own.mean) / own.std

    def inputs(self, inputs: Tensor) -> Tensor:
        """The student's inputs ``(N, 3, H, W)`` as the teacher expects them."""
        if self._scale is not None:
            if self._swap_channels:
                inputs = inputs.flip(1)
            inputs = inputs * self._scale + self._shift
        if self.image_size is None or inputs.shape[-2:] == self.image_size:
            return inputs
        return interpolate(inputs, self.image_size, mode='bilinear', antialias=True)

    def logits(self, inputs: Tensor, data_samples: Optional[list] = None) -> Tensor:
        return self.net(self.inputs(inputs), mode='tensor')

    def metrics(self, evaluate: Evaluate, images: Optional[str] = None) -> dict[str, float]:
        def predict(inputs: Tensor, data_samples: list) -> list:
            return self.net(self.inputs(inputs), data_samples, mode='predict')

        # MMRazor's SingleTeacherDistill keeps its teacher in training mode.
        was_training = self.net.training
        self.net.eval()
        metrics = evaluate(predict)
        self.net.train(was_training)
        return metrics

    def fingerprint(self) -> str:
        """Hash of the weights and, if the teacher has its own, of normalization and image size."""
        return self._fingerprint or self._hash(self.net.state_dict())

    def _hash(self, weights: Mapping[str, Tensor]) -> str:
        state, own = dict(weights), Normalization.of(self.net.data_preprocessor)
        if own.enabled:  # in float32, since a config may have whole numbers
            state.update(input_mean=own.mean.float(), input_std=own.std.float())
            state.update(input_swapped=torch.tensor(own.swaps_channels))
        if self.image_size is not None:
            state.update(input_size=torch.tensor(self.image_size))
        return hash_of_weights(state)

    def modules_to_compile(self) -> list[nn.Module]:
        return [self.net.backbone] if hasattr(self.net, 'backbone') else []


def load_teacher(
    net: BaseModel, path: str, hint: str = '', image_size: Union[int, tuple[int, int], None] = None
) -> FrozenTeacher:
    """Load a checkpoint (a file, a URL or a work dir) into a net, strictly.

    ``hint`` explains in the error message how to train the teacher.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If the weights do not match the net.
    """
    try:
        checkpoint = read(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f'FrozenTeacherDistill: {error}; teacher_ckpt must be the '
            f'checkpoint of a trained teacher{hint}'
        ) from error
    weights = plain_state_dict(checkpoint)[0]
    load_strictly(net, weights, f'The teacher checkpoint {path!r}')
    print_log(f'Loaded teacher from {resolve(path)} ({describe(checkpoint)})', logger='current')
    teacher = FrozenTeacher(net, weights, image_size)
    teacher.classes = recorded_classes(checkpoint)
    return teacher


def fold_batch_norms(net: BaseModel) -> None:
    """Fold batch norms into the convolutions before them; ``torch.fx`` must trace the backbone."""
    net.eval()
    try:
        net.backbone = fuse(net.backbone)
    except Exception as error:  # torch.fx raises errors of any type
        raise ValueError(
            'FrozenTeacherDistill: fold_teacher_bn needs a backbone that torch.fx can trace, '
            f'without recorders in it; set it to False ({type(error).__name__}: {error})'
        ) from error
