"""The mean of several teachers."""

import hashlib
import math
from typing import Optional

import torch
from torch import Tensor, nn

from .logit_store import OWN_NORMALIZATION
from .logits_net import LogitsNet
from .stored_teacher import on_all_ranks
from .teacher import Evaluate, Teacher

MEANS = ('logits', 'probabilities')


class MeanTeacher(Teacher):
    r"""The mean of the logits, or of the softened probabilities, of several teachers.

    With ``of='logits'``, :math:`z = \frac{1}{M} \sum_m z_m`. With
    ``of='probabilities'``,
    :math:`z = \tau \log \frac{1}{M} \sum_m \mathrm{softmax}(z_m / \tau)`, so
    that :math:`\mathrm{softmax}(z / \tau)` is the mean of the teachers'
    probabilities at the temperature :math:`\tau`.

    Args:
        teachers: Live teachers, stored teachers, or both.
        of: 'logits' or 'probabilities'.
        tau: The temperature :math:`\tau` of the probabilities.

    Raises:
        ValueError: If ``of`` or ``tau`` is invalid, or the teachers have
            different numbers of classes.
    """

    def __init__(self, teachers: list[Teacher], of: str = 'logits', tau: float = 1.0) -> None:
        if of not in MEANS:
            raise ValueError(f"teacher_mean: `of` must be 'logits' or 'probabilities', got {of!r}")
        if not tau > 0:
            raise ValueError(f'teacher_mean: `tau` must be positive, got {tau!r}')
        classes = [teacher.num_classes for teacher in teachers]
        known = {number for number in classes if number is not None}
        if len(known) > 1:
            raise ValueError(f'the teachers must have the same number of classes, got {classes}')
        super().__init__(LogitsNet(nn.Identity(), min(known, default=None)))
        self.teachers = nn.ModuleList(teachers)
        self.of, self.tau = of, tau
        self.is_live = all(teacher.is_live for teacher in teachers)

    def adapt_to(self, preprocessor: nn.Module) -> None:
        """Prepare every teacher; all stores must hold the same views of the images."""
        drawn = set()
        for teacher in self.teachers:
            teacher.adapt_to(preprocessor)
            if not teacher.is_live:
                drawn.add((preprocessor.views, preprocessor.seed))
        if len(drawn) > 1:
            raise ValueError(
                'teacher_logits: the stores must hold the same views of the images; '
                f'their numbers of views and seeds are {sorted(drawn)}'
            )
        normalizations = [teacher.input_normalization for teacher in self.teachers]
        own = OWN_NORMALIZATION in normalizations
        self.input_normalization = OWN_NORMALIZATION if own else normalizations[0]

    def logits(self, inputs: Tensor, data_samples: Optional[list] = None) -> Tensor:
        logits = [teacher.logits(inputs, data_samples) for teacher in self.teachers]
        return self.net(self._mean(logits))

    def _mean(self, parts: list[Tensor]) -> Tensor:
        logits = torch.stack(parts)
        if self.of == 'logits':
            return logits.mean(0)
        log_sum = (logits.float() / self.tau).log_softmax(-1).logsumexp(0)
        return self.tau * (log_sum - math.log(len(self.teachers)))

    def metrics(self, evaluate: Evaluate, images: Optional[str] = None) -> dict[str, float]:
        """Metrics of the mean; empty if a teacher is not available, only its stored logits."""
        live = [each if each.is_live else getattr(each, 'live', None) for each in self.teachers]
        if not on_all_ranks(None not in live):
            return {}

        def predict(inputs: Tensor, data_samples: list) -> list:
            mean = self._mean([teacher.logits(inputs) for teacher in live])
            return self.net(mean, data_samples, mode='predict')

        return evaluate(predict)

    def stored_logits(self, count: int) -> Optional[Tensor]:
        """The mean for at most ``count`` images; None unless all teachers are stored."""
        parts = [teacher.stored_logits(count) for teacher in self.teachers]
        return None if any(part is None for part in parts) else self._mean(parts)

    def fingerprint(self) -> str:
        parts = [teacher.fingerprint() for teacher in self.teachers]
        text = f'{self.of} {self.tau:g} {" ".join(parts)}'
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def modules_to_compile(self) -> list[nn.Module]:
        return [module for teacher in self.teachers for module in teacher.modules_to_compile()]
