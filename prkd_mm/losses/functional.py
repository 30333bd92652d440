"""The terms of the distillation losses, as functions of two logit matrices.

Each takes the student's and the teacher's logits, ``preds_S`` and ``preds_T`` of shape ``(N, C)``,
and a temperature ``tau`` above 0. It returns a 0-dim tensor, which is not multiplied by a power of
the temperature.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def kl_divergence(preds_S: Tensor, preds_T: Tensor, tau: float) -> Tensor:
    r"""``KL(p^T ‖ p^S) = 1/N Σ_i Σ_c p^T_ic (log p^T_ic − log p^S_ic)``, ``p = softmax(z/τ)``.

    Exactly 0 for identical logits, and invariant to a shift of a sample's logits. Hinton, Vinyals &
    Dean, "Distilling the Knowledge in a Neural Network", 2015, https://arxiv.org/abs/1503.02531

    Examples:
        >>> kl_divergence(torch.zeros(8, 10), torch.zeros(8, 10), tau=4.0)
        tensor(0.)
    """
    return F.kl_div(
        F.log_softmax(preds_S / tau, dim=1),
        F.log_softmax(preds_T / tau, dim=1),
        reduction='batchmean',
        log_target=True,
    )


def has_spread(length: Tensor, size: Tensor) -> Tensor:
    """Whether a vector varies by more than rounding noise.

    ``size`` is its norm, and ``length`` that of the centered vector. The rounding error of the mean
    is a few units in the last place of the vector's norm. A limit of 32 units allows for sums over
    many classes.
    """
    return length > 32 * torch.finfo(length.dtype).eps * size


def _standardize(x: Tensor, dim: int) -> Tensor:
    """Center ``x`` along ``dim`` and scale it to unit length.

    A vector whose spread is rounding noise has no correlation with any other: it becomes 0 and gets
    no gradient, instead of a huge one.
    """
    centered = x - x.mean(dim, keepdim=True)
    length = torch.linalg.vector_norm(centered, dim=dim, keepdim=True)
    size = torch.linalg.vector_norm(x.detach(), dim=dim, keepdim=True)
    varies = has_spread(length, size)
    return centered.where(varies, 0.0) / length.where(varies, 1.0)


def pearson_distance(x: Tensor, y: Tensor, dim: int) -> Tensor:
    r"""``1 − Pearson(x, y)`` along ``dim`` of two matrices, averaged over the other dimension.

    Computed as ``½‖x̂ − ŷ‖²`` of the standardized vectors. This is the same number, but it is
    accurate near a match and exactly 0 at a match, at any scale. For a constant vector, Pearson's
    coefficient is undefined: the distance is then 0 to another constant vector and ½ to any other
    vector.

    Examples:
        >>> x = torch.rand(8, 10)
        >>> pearson_distance(x, 3 * x + 1, dim=1)  # 0 up to rounding
    """
    gap = _standardize(x, dim) - _standardize(y, dim)
    return gap.square().sum(dim).mean() / 2


def correlation_distance(
    preds_S: Tensor,
    preds_T: Tensor,
    tau: float,
    inter_weight: float = 1.0,
    intra_weight: float = 0.0,
) -> Tensor:
    r"""``Cor = inter_weight·D_inter + intra_weight·D_intra``.

    ``D`` is :func:`pearson_distance` between ``softmax(z/τ)`` of teacher and student: *inter* over
    a sample's classes, *intra* over the batch for each class. Invariant to a shift and a positive
    scale of the probabilities. Huang et al., "Knowledge Distillation from A Stronger Teacher",
    NeurIPS 2022, https://arxiv.org/abs/2205.10536

    Examples:
        >>> student, teacher = torch.randn(2, 8, 10)
        >>> correlation_distance(student, teacher, tau=4.0, intra_weight=1.0)
    """
    p_S, p_T = F.softmax(preds_S / tau, 1), F.softmax(preds_T / tau, 1)
    cor = preds_S.new_zeros(())
    if inter_weight:
        cor = cor + inter_weight * pearson_distance(p_S, p_T, dim=1)
    if intra_weight:
        cor = cor + intra_weight * pearson_distance(p_S, p_T, dim=0)
    return cor
