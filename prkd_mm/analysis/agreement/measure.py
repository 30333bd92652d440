"""Agreement between student and teacher, and calibration."""

import math
from collections.abc import Sequence
from typing import NamedTuple, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from ...losses.functional import kl_divergence
from ..batches import accuracy


class Reliability(NamedTuple):
    """Accuracy against confidence, in bins of the confidence."""

    ece: float  # expected calibration error in [0, 1]
    bin_confidence: list[Optional[float]]  # mean in each bin; None where it is empty
    bin_accuracy: list[Optional[float]]  # in [0, 1]; None where the bin is empty
    bin_share: list[float]  # share of the samples in each bin


class Agreement(NamedTuple):
    """Similarity of a net's predictions to the teacher's, and :class:`Reliability`."""

    accuracy: float  # top-1 of the net, in %
    top1: float  # samples with the same top-1, in %
    top1_on_errors: Optional[float]  # in % of the teacher's errors; None if there are none
    kl: float  # divergence of the net from the teacher at τ = 1, in nats
    correlation: float  # mean absolute difference of the class correlations
    ece: float
    bin_confidence: list[Optional[float]]
    bin_accuracy: list[Optional[float]]
    bin_share: list[float]


class ClassResult(NamedTuple):
    """Top-1 in one class by net, in %, and the gain over the reference by student."""

    name: str
    accuracy: dict[str, float]
    gain: dict[str, float]

    def row(self) -> dict:
        """The row of a table, by column."""
        return {
            'class': self.name,
            **{f'accuracy {net}': value for net, value in self.accuracy.items()},
            **{f'gain {net}': value for net, value in self.gain.items()},
        }


class Comparison(NamedTuple):
    """Several students of one teacher."""

    reference: str  # gains are over this net: the first of several students, else the teacher
    nets: dict[str, Agreement]  # the teacher first
    classes: list[ClassResult]


def class_correlation(logits: Tensor) -> Tensor:
    """Pearson correlation ``(C, C)`` of the columns of ``(N, C)`` logits; 0 for constant ones."""
    return torch.corrcoef(logits.double().T).nan_to_num(0.0)


def reliability(logits: Tensor, labels: Tensor, bins: int = 15) -> Reliability:
    """Accuracy against confidence for logits ``(N, C)``, and the expected calibration error.

    ``ECE = Σ_b n_b/N · |accuracy_b − confidence_b|`` over equal bins of the largest probability:
    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017,
    https://arxiv.org/abs/1706.04599
    """
    confidence, predicted = F.softmax(logits.double(), 1).max(1)
    correct = (predicted == labels).double()
    # the last bin includes 1, and values that rounding pushes above 1
    bin_of = (confidence * bins).long().clamp(max=bins - 1)
    count = torch.bincount(bin_of, minlength=bins)
    sums = [torch.bincount(bin_of, x, bins) for x in (confidence, correct)]
    ece = (sums[0] - sums[1]).abs().sum() / len(labels)
    means = [[None if math.isnan(x) else x for x in (total / count).tolist()] for total in sums]
    return Reliability(ece.item(), means[0], means[1], (count / len(labels)).tolist())


def agreement(preds_S: Tensor, preds_T: Tensor, labels: Tensor, bins: int = 15) -> Agreement:
    """Compare the logits ``(N, C)`` of a student and its teacher, with the labels ``(N,)``."""
    same = preds_S.argmax(1) == preds_T.argmax(1)
    wrong = preds_T.argmax(1) != labels
    difference = class_correlation(preds_S) - class_correlation(preds_T)
    return Agreement(
        accuracy=accuracy(preds_S.argmax(1), labels),
        top1=100 * same.double().mean().item(),
        top1_on_errors=100 * same[wrong].double().mean().item() if wrong.any() else None,
        kl=kl_divergence(preds_S.double(), preds_T.double(), 1.0).item(),
        correlation=difference.abs().mean().item(),
        **reliability(preds_S, labels, bins)._asdict(),
    )


def class_accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Top-1 of each class in percent, ``(C,)``; NaN without samples."""
    classes = logits.shape[1]
    correct = 100 * (logits.argmax(1) == labels).double()
    return torch.bincount(labels, correct, classes) / torch.bincount(labels, minlength=classes)


def compare(
    students: dict[str, Tensor],
    preds_T: Tensor,
    labels: Tensor,
    bins: int = 15,
    classes: Sequence[str] = (),
) -> Comparison:
    """Compare the logits ``(N, C)`` of several students with those of their teacher.

    ``classes`` are the names of the classes; default: their numbers.
    """
    logits = dict(teacher=preds_T, **students)
    reference = next(iter(students)) if len(students) > 1 else 'teacher'
    top1 = {name: class_accuracy(x, labels).tolist() for name, x in logits.items()}
    names = [str(name) for name in classes] or [str(i) for i in range(preds_T.shape[1])]
    return Comparison(
        reference,
        {name: agreement(x, preds_T, labels, bins) for name, x in logits.items()},
        [
            ClassResult(
                name,
                {net: top1[net][i] for net in logits},
                {net: top1[net][i] - top1[reference][i] for net in students},
            )
            for i, name in enumerate(names)
        ],
    )
