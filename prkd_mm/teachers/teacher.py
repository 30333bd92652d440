"""The interface of every teacher: live, stored, or the mean of several."""

from collections.abc import Sequence
from typing import Callable, Optional

from mmengine.model import BaseModel
from torch import Tensor, nn

Predict = Callable[[Tensor, list], list]
Evaluate = Callable[[Predict], dict[str, float]]


class Teacher(nn.Module):
    """Interface of a teacher for distillation, which is always in evaluation mode.

    One forward pass of ``net``, which recorders are attached to, computes the logits.
    ``input_normalization`` is the normalization of the images that the teacher receives, in the
    form that a logit store saves; :meth:`adapt_to` sets it.
    """

    is_live = True  # whether it computes logits for any image, not only for stored ones
    fills_a_store = False  # whether it stores its logits during the run, with a method `fill`
    measured = 'on the validation set'  # when or where :meth:`metrics` was measured

    def __init__(self, net: BaseModel) -> None:
        super().__init__()
        self.net = net
        self.input_normalization: object = None
        self.students_classes: Optional[int] = None
        self.classes: Optional[Sequence[str]] = None  # names, if its checkpoint contains them

    @property
    def num_classes(self) -> Optional[int]:
        """Number of classes: the net's, or the student's if the net declares none, or None."""
        own = getattr(getattr(self.net, 'head', None), 'num_classes', None)
        return self.students_classes if own is None else own

    def adapt_to(self, preprocessor: nn.Module) -> None:
        """Prepare for the images that the student's data preprocessor produces."""
        raise NotImplementedError

    def logits(self, inputs: Tensor, data_samples: Optional[list] = None) -> Tensor:
        """Logits ``(N, C)`` for images as the student receives them, ``(N, 3, H, W)``."""
        raise NotImplementedError

    def metrics(self, evaluate: Evaluate, images: Optional[str] = None) -> dict[str, float]:
        """Metrics on the validation set; ``evaluate`` computes them from ``predict``.

        ``images`` is the hash of this set, by which a stored teacher knows whether its logits were
        stored with the same one. The metrics are empty if they are not known.
        """
        raise NotImplementedError

    def stored_logits(self, count: int) -> Optional[Tensor]:
        """Logits of at most ``count`` images from a store, ``(N, C)``; None without one."""
        return None

    def fingerprint(self) -> str:
        """Hash that identifies the teacher's function."""
        raise NotImplementedError

    def modules_to_compile(self) -> list[nn.Module]:
        """Modules that ``torch.compile`` can speed up."""
        return []

    def train(self, mode: bool = True) -> 'Teacher':
        """Stay in evaluation mode, regardless of ``mode``."""
        return super().train(False)
