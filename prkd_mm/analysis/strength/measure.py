r"""How strongly a distillation loss constrains the student's logits to the teacher's.

A loss is a sum of terms ``weight · D(z_S, z_T)`` over the distances

====== ====================================== ===========================
kind   D, averaged over the N samples         Hessian of a sample at the
                                              match ``z_S = z_T``
====== ====================================== ===========================
logit  ``½ · mean_c (z_S − z_T)²``            ``I/C``
kl     ``KL(p^T ‖ p^S)``                      ``S/τ²``
inter  ``1 − Pearson`` over the classes       ``S(P − x̂x̂ᵀ)S / (τ²‖x‖²)``
intra  ``1 − Pearson`` over the batch         ``N/C · S diag(w) S / τ²``
====== ====================================== ===========================

with ``p = softmax(z/τ)``, ``S = diag(p) − ppᵀ``, ``P = I − 11ᵀ/C``,
``x = Pp``, ``x̂ = x/‖x‖``. For *intra*, ``x_c`` is the centered column of class
c in the batch, ``w_c = (1 − 1/N − x̂_ic²)/‖x_c‖²`` for sample i, and the other
samples are constant. The Hessian of a sample is N times its block of the Hessian
of D, so that it does not depend on the batch size.
"""

from collections.abc import Iterator, Sequence
from functools import reduce
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...losses.functional import correlation_distance, has_spread, kl_divergence
from ...stats.estimates import Estimate, mean_and_standard_error
from ...strength import Term

NOTICEABLE = 0.01  # relative to the largest curvature of a sample
_NOISE = 1e-12  # relative to weight/τ²
_ELEMENTS = 2**24  # elements of the Hessians in memory at a time: 128 MiB


class Summary(NamedTuple):
    """One term on the logits of a teacher and a student, over the samples."""

    strength: Estimate  # mean eigenvalue of the Hessian at the match, trace/C
    largest: Estimate  # largest eigenvalue
    noticeable_share: Estimate  # see noticeable_share()
    spectrum: list[float]  # mean sorted eigenvalues, descending
    gradient_norm: Estimate  # norm of the gradient with respect to the student's logits
    small_class_share: Estimate  # see small_class_share()
    free_directions: float  # see free_directions()
    without_tau2: float  # strength for weight 1


def distance(term: Term, preds_S: Tensor, preds_T: Tensor) -> Tensor:
    """The scalar ``weight · D`` of two logit matrices ``(N, C)``."""
    if term.kind == 'logit':
        value = F.mse_loss(preds_S, preds_T) / 2
    elif term.kind == 'kl':
        value = kl_divergence(preds_S, preds_T, term.tau)
    else:
        value = correlation_distance(
            preds_S, preds_T, term.tau, float(term.kind == 'inter'), float(term.kind == 'intra')
        )
    return term.weight * value


def _inverse(length: Tensor, size: Tensor) -> Tensor:
    # as in the loss, a vector that varies only by rounding noise has no direction
    varies = has_spread(length, size)
    return varies / length.where(varies, 1.0)


def hessians(term: Term, logits: Tensor, selected: slice = slice(None)) -> Tensor:
    """Hessians ``(N, C, C)`` of a term with respect to the logits, at the match.

    The docstring of the module lists the closed forms. The logits ``(N, C)`` are those of teacher
    and student; for 'intra', of the whole batch. Only ``selected`` samples are returned.
    """
    N, C = logits.shape
    eye = torch.eye(C, dtype=logits.dtype, device=logits.device)
    if term.kind == 'logit':
        return (term.weight / C * eye).expand(len(logits[selected]), C, C)
    batch = F.softmax(logits / term.tau, 1)
    p = batch[selected]
    S = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    scale = term.weight / term.tau**2
    if term.kind == 'kl':
        return scale * S
    if term.kind == 'inter':
        x = p - 1 / C
        inverse = _inverse(x.norm(dim=1), p.norm(dim=1))[:, None]
        along = torch.einsum('nij,nj->ni', S, x * inverse)
        H = S @ S - along[:, :, None] * along[:, None, :]  # S P is S
        return scale * H * inverse[:, :, None] ** 2
    x = batch - batch.mean(0)
    inverse = _inverse(x.norm(dim=0), batch.norm(dim=0))
    w = (1 - 1 / N - (x[selected] * inverse) ** 2) * inverse**2
    return scale * N / C * (S * w[:, None, :]) @ S


def eigenvalues(terms: Sequence[Term], logits: Tensor, batch_size: int = 64) -> Tensor:
    """Ascending eigenvalues ``(N, C)`` of each sample's Hessian at the match, summed over terms.

    'intra' correlates over ``batch_size`` samples.
    """
    values = torch.cat([torch.linalg.eigvalsh(H) for H in _parts(terms, logits, batch_size)])
    # with two classes a correlation has no curvature, only rounding noise
    noise = _NOISE * sum(abs(term.weight) / term.tau**2 for term in terms)
    return values.where(values.abs() > noise, 0.0)


def _parts(terms: Sequence[Term], logits: Tensor, batch_size: int) -> Iterator[Tensor]:
    """All Hessians, in parts of at most ``_ELEMENTS`` elements."""
    step = max(1, _ELEMENTS // logits.shape[1] ** 2)
    for batch in logits.split(batch_size):
        for start in range(0, len(batch), step):
            part = slice(start, start + step)
            none = batch.new_zeros(len(batch[part]), *2 * logits.shape[1:])
            yield reduce(torch.add, (hessians(term, batch, part) for term in terms), none)


def gradients(
    terms: Sequence[Term], preds_S: Tensor, preds_T: Tensor, batch_size: int = 64
) -> Tensor:
    """Gradient ``(N, C)`` for each sample's logits: N times the gradient of the mean loss.

    Without terms, as in an epoch in which all weights are 0, it is 0.
    """
    if not terms:
        return torch.zeros_like(preds_S)
    parts = []
    for z_S, z_T in zip(preds_S.split(batch_size), preds_T.split(batch_size)):
        z_S = z_S.detach().requires_grad_()
        loss = reduce(torch.add, (distance(term, z_S, z_T) for term in terms))
        parts.append(len(z_S) * torch.autograd.grad(loss, z_S)[0])
    return torch.cat(parts)


def free_directions(term: Term, num_classes: int, batch_size: int) -> float:
    """Number of unconstrained directions per sample at the match, for generic logits.

    'logit' has none. 'kl' has one, the shift of the logits. 'inter' has two, the shift and the
    scale of the probabilities. 'intra' has the shift for each sample and, over the batch, C
    more (2C if N < C): a shift and a scale for each class, minus the N (at most C) conditions
    that the probabilities of a sample sum to 1.
    """
    C, N = num_classes, batch_size
    return dict(logit=0, kl=1, inter=2, intra=1 + (2 * C - min(N, C)) / N)[term.kind]


def noticeable_share(values: Tensor) -> Tensor:
    """Share ``(N,)`` of the eigenvalues above 1 % of the largest."""
    noticeable = values > NOTICEABLE * values.amax(1, keepdim=True)
    return noticeable.double().mean(1)


def small_class_share(gradient: Tensor, preds_T: Tensor) -> Tensor:
    """Share ``(N,)`` of ``|gradient|`` on the classes with a teacher probability below 1/C.

    The probabilities are those at τ = 1. NaN where the gradient is 0.
    """
    small = F.softmax(preds_T, 1) < 1 / preds_T.shape[1]
    size = gradient.abs()
    return (size * small).sum(1) / size.sum(1)


def over_samples(x: Tensor) -> Estimate:
    """Mean and standard error over the samples ``(N,)``, without NaNs."""
    return mean_and_standard_error(x[~x.isnan()].tolist())


def summary(term: Term, preds_S: Tensor, preds_T: Tensor, batch_size: int = 64) -> Summary:
    """Strength, and gradient for the logits ``(N, C)`` of a student, computed in float64."""
    preds_T = preds_T.double()
    values = eigenvalues([term], preds_T, batch_size).flip(1)
    gradient = gradients([term], preds_S.double(), preds_T, batch_size)
    strength = over_samples(values.mean(1))
    return Summary(
        strength=strength,
        largest=over_samples(values[:, 0]),
        noticeable_share=over_samples(noticeable_share(values)),
        spectrum=values.mean(0).tolist(),
        gradient_norm=over_samples(gradient.norm(dim=1)),
        small_class_share=over_samples(small_class_share(gradient, preds_T)),
        free_directions=free_directions(term, preds_T.shape[1], batch_size),
        without_tau2=strength.mean / term.weight,
    )
