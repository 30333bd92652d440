"""What a student took over from its teacher, and what it made of it."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ...losses.functional import kl_divergence
from ..spread.measure import accuracy


def class_correlation(logits: Tensor) -> Tensor:
    """Pearson's coefficient between the classes' logits, ``(C, C)``.

    A class whose logit never varies has the coefficient 0 with all others.

    Args:
        logits (Tensor): ``(N, C)``.
    """
    return torch.corrcoef(logits.double().T).nan_to_num(0.0)


def reliability(logits: Tensor, labels: Tensor, bins: int = 15) -> dict:
    """Accuracy against confidence, and the expected calibration error.

    ``ECE = Σ_b n_b/N · |accuracy_b − confidence_b|`` over equal bins of the
    largest probability: Guo et al., "On Calibration of Modern Neural
    Networks", ICML 2017, https://arxiv.org/abs/1706.04599

    Args:
        logits (Tensor): ``(N, C)``.
        labels (Tensor): ``(N,)``.
        bins (int): Over [0, 1]. Defaults to 15.

    Returns:
        dict: ``ece`` in [0, 1]; of each bin ``bin_confidence`` and
        ``bin_accuracy`` (None where it is empty) and ``bin_share`` of the
        samples.
    """
    confidence, predicted = F.softmax(logits.double(), 1).max(1)
    right = (predicted == labels).double()
    # the last bin has 1 in it, which rounding may even exceed
    bin_of = (confidence * bins).long().clamp(max=bins - 1)
    count = torch.bincount(bin_of, minlength=bins)
    sums = [torch.bincount(bin_of, x, bins) for x in (confidence, right)]
    ece = (sums[0] - sums[1]).abs().sum() / len(labels)
    means = [[None if math.isnan(x) else x for x in (total / count).tolist()] for total in sums]
    return dict(
        ece=ece.item(),
        bin_confidence=means[0],
        bin_accuracy=means[1],
        bin_share=(count / len(labels)).tolist(),
    )


def agreement(preds_S: Tensor, preds_T: Tensor, labels: Tensor) -> dict:
    """How alike a student and its teacher predict.

    Returns:
        dict: ``top1`` agreement, over all samples and where the teacher errs
        (``top1_on_errors``, None if it never does); ``kl``, that of the
        student from the teacher at τ = 1, in nats; ``correlation``, the mean
        absolute difference of the class correlations; and the student's own
        ``accuracy``. Agreements and accuracy in percent.
    """
    same = preds_S.argmax(1) == preds_T.argmax(1)
    errs = preds_T.argmax(1) != labels
    difference = class_correlation(preds_S) - class_correlation(preds_T)
    return dict(
        accuracy=accuracy(preds_S.argmax(1), labels),
        top1=100 * same.double().mean().item(),
        top1_on_errors=100 * same[errs].double().mean().item() if errs.any() else None,
        kl=kl_divergence(preds_S.double(), preds_T.double(), 1.0).item(),
        correlation=difference.abs().mean().item(),
    )


def class_accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Top-1 of each class in percent, ``(C,)``; NaN without samples."""
    classes = logits.shape[1]
    right = 100 * (logits.argmax(1) == labels).double()
    return torch.bincount(labels, right, classes) / torch.bincount(labels, minlength=classes)


def comparison(
    students: dict[str, Tensor],
    preds_T: Tensor,
    labels: Tensor,
    bins: int = 15,
    classes: Sequence[str] = (),
) -> dict:
    """All of this for several students of one teacher.

    Args:
        students (dict): Logits ``(N, C)`` by name; the first one is what the
            others' gains refer to (a single one's refer to the teacher).
        preds_T (Tensor): The teacher's, ``(N, C)``.
        labels (Tensor): ``(N,)``.
        bins (int): Defaults to 15.
        classes (Sequence[str]): Their names. Defaults to (): numbers.

    Returns:
        dict: ``nets`` by name ('teacher' first) with :func:`agreement` and
        :func:`reliability`; ``classes``, a row a class with the accuracy and
        the gain of each net; ``reference``, the name that gains refer to.
    """
    nets = dict(teacher=preds_T, **students)
    reference = next(iter(students)) if len(students) > 1 else 'teacher'
    by_class = {name: class_accuracy(x, labels).tolist() for name, x in nets.items()}
    rows = [
        dict(
            {'class': str(classes[i]) if len(classes) else str(i)},
            **{f'accuracy {name}': by_class[name][i] for name in nets},
            **{f'gain {name}': by_class[name][i] - by_class[reference][i] for name in students},
        )
        for i in range(preds_T.shape[1])
    ]
    return dict(
        reference=reference,
        nets={
            name: dict(agreement(x, preds_T, labels), **reliability(x, labels, bins))
            for name, x in nets.items()
        },
        classes=rows,
    )
