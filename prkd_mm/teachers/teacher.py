"""The interface of every teacher: live, stored, or the mean of several."""

from typing import Callable, Optional

from mmengine.model import BaseModel
from torch import Tensor, nn

Predict = Callable[[Tensor, list], list]
Evaluate = Callable[[Predict], dict[str, float]]


class Teacher(nn.Module):
    """Interface of a teacher for distillation.

    A teacher is always in evaluation mode.

    Args:
        net: The module that recorders are attached to. One forward pass of it
            computes the logits.

    Attributes:
        is_live (bool): Whether the teacher can compute logits for any image,
            not only for images whose logits are stored.
        fills_a_store (bool): Whether the teacher stores its logits during the
            run, with a method ``fill``.
        measured (str): When or on which images :meth:`metrics` were measured,
            for the log.
        input_normalization: Normalization of the images that the teacher
            receives, in the form that a logit store saves. Set by
            :meth:`adapt_to`.
    """

    is_live = True
    fills_a_store = False
    measured = 'on the validation set'

    def __init__(self, net: BaseModel) -> None:
        super().__init__()
        self.net = net
        self.input_normalization: object = None

    @property
    def num_classes(self) -> Optional[int]:
        """Number of classes, or None if the net does not declare it."""
        return getattr(getattr(self.net, 'head', None), 'num_classes', None)

    def adapt_to(self, preprocessor: nn.Module) -> None:
        """Prepare for the images that the student's data preprocessor produces."""
        raise NotImplementedError

    def logits(self, inputs: Tensor, data_samples: Optional[list] = None) -> Tensor:
        """Logits ``(N, C)`` for the student's inputs.

        Args:
            inputs: Images as the student receives them, ``(N, 3, H, W)``.
            data_samples: The data samples of the batch.
        """
        raise NotImplementedError

    def metrics(self, evaluate: Evaluate) -> dict[str, float]:
        """Metrics of the teacher on the validation set.

        Args:
            evaluate: Computes metrics from a function
                ``predict(inputs, data_samples)``.
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
