r"""How hard a distillation loss ties the student's logits to the teacher's.

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
``x = Pp``, ``x̂ = x/‖x‖``. For *intra*, ``x_c`` is the centred column of class
c in the batch, ``w_c = (1 − 1/N − x̂_ic²)/‖x_c‖²`` for sample i, and the other
samples stay. "Of a sample" is N times its block of the Hessian of D, which
does not shrink with the batch.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from ...losses.functional import correlation_distance, kl_divergence

KINDS = ('logit', 'kl', 'inter', 'intra')
NOTICEABLE = 0.01  # a direction with that share of the largest curvature
_NOISE = 1e-12  # of weight/τ²
_ELEMENTS = 2**24  # of the Hessians held at a time: 128 MiB


class Term(NamedTuple):
    """``weight · D``, of a loss.

    Attributes:
        kind (str): One of 'logit', 'kl', 'inter', 'intra'.
        tau (float): Temperature; of 'logit' ignored. Defaults to 1.0.
        weight (float): All that multiplies D, τ² too. Defaults to 1.0.
    """

    kind: str
    tau: float = 1.0
    weight: float = 1.0


def distance(term: Term, preds_S: Tensor, preds_T: Tensor) -> Tensor:
    """``weight · D`` of two logit matrices ``(N, C)``, 0-dim."""
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
    # as in the loss: what varies by rounding noise is tied to nothing
    varies = length > 32 * torch.finfo(length.dtype).eps * size
    return varies / length.where(varies, 1.0)


def hessians(term: Term, logits: Tensor, of: slice = slice(None)) -> Tensor:
    """Hessians ``(N, C, C)`` of a term at the match, in the logits.

    Closed forms: see the module. For 'intra' the N samples are the batch.

    Args:
        term (Term): The term.
        logits (Tensor): The teacher's, which are the student's too,
            ``(N, C)``.
        of (slice): Of which samples. Defaults to all.
    """
    N, C = logits.shape
    eye = torch.eye(C, dtype=logits.dtype, device=logits.device)
    if term.kind == 'logit':
        return (term.weight / C * eye).expand(len(logits[of]), C, C)
    batch = F.softmax(logits / term.tau, 1)
    p = batch[of]
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
    w = (1 - 1 / N - (x[of] * inverse) ** 2) * inverse**2
    return scale * N / C * (S * w[:, None, :]) @ S


def eigenvalues(terms: Sequence[Term], logits: Tensor, batch_size: int = 64) -> Tensor:
    """Ascending eigenvalues ``(N, C)`` of each sample's Hessian at the match.

    Args:
        terms (Sequence[Term]): Of the loss; their Hessians are added.
        logits (Tensor): The teacher's, ``(N, C)``.
        batch_size (int): Samples whose columns 'intra' correlates. Defaults
            to 64.
    """
    values = torch.cat([torch.linalg.eigvalsh(H) for H in _parts(terms, logits, batch_size)])
    # what two classes leave of a correlation is rounding noise
    noise = _NOISE * sum(abs(term.weight) / term.tau**2 for term in terms)
    return values.where(values.abs() > noise, 0.0)


def _parts(terms: Sequence[Term], logits: Tensor, batch_size: int) -> Iterator[Tensor]:
    """All Hessians, as many at a time as memory is meant to hold."""
    step = max(1, _ELEMENTS // logits.shape[1] ** 2)
    for batch in logits.split(batch_size):
        for start in range(0, len(batch), step):
            yield sum(hessians(term, batch, slice(start, start + step)) for term in terms)


def mean_curvature(terms: Sequence[Term], logits: Tensor, batch_size: int = 64) -> float:
    """Mean eigenvalue, trace/C, over the samples; as :func:`eigenvalues`."""
    total = sum(H.diagonal(dim1=1, dim2=2).sum() for H in _parts(terms, logits, batch_size))
    return float(total) / logits.numel()


def gradients(
    terms: Sequence[Term], preds_S: Tensor, preds_T: Tensor, batch_size: int = 64
) -> Tensor:
    """Gradient ``(N, C)`` in each sample's logits: N times that of the mean.

    Arguments as of :func:`eigenvalues`; both matrices ``(N, C)``.
    """
    parts = []
    for z_S, z_T in zip(preds_S.split(batch_size), preds_T.split(batch_size)):
        z_S = z_S.detach().requires_grad_()
        loss = sum(distance(term, z_S, z_T) for term in terms)
        parts.append(len(z_S) * torch.autograd.grad(loss, z_S)[0])
    return torch.cat(parts)


def free_directions(term: Term, num_classes: int, batch_size: int) -> float:
    """Directions a sample that leave a match a match, for generic logits.

    None for logit matching; the shift for KL; the shift and the scale of the
    probabilities for 'inter'. For 'intra' the shift of each sample and, over
    the batch, C more (2C if N < C): a shift and a scale for each class, less
    the N (at most C) conditions that each sample's probabilities add up to 1.
    """
    C, N = num_classes, batch_size
    return dict(logit=0, kl=1, inter=2, intra=1 + (2 * C - min(N, C)) / N)[term.kind]


def noticeable_share(values: Tensor) -> Tensor:
    """Share ``(N,)`` of the eigenvalues above 1 % of the largest."""
    noticeable = values > NOTICEABLE * values.amax(1, keepdim=True)
    return noticeable.double().mean(1)


def small_class_share(gradient: Tensor, preds_T: Tensor) -> Tensor:
    """Share ``(N,)`` of ``|gradient|`` on the teacher's small classes.

    Small is what the teacher (τ = 1) gives less than chance, 1/C. NaN where
    the gradient is 0.
    """
    small = F.softmax(preds_T, 1) < 1 / preds_T.shape[1]
    size = gradient.abs()
    return (size * small).sum(1) / size.sum(1)


def mean_and_error(x: Tensor) -> dict[str, float]:
    """Mean over the samples and its standard error, without NaNs."""
    x = x[~x.isnan()].double()
    error = x.std() / len(x) ** 0.5 if len(x) > 1 else torch.tensor(torch.nan)
    return dict(mean=x.mean().item(), error=error.item())


def summary(
    terms: Sequence[Term], preds_T: Tensor, preds_S: Optional[Tensor] = None, batch_size: int = 64
) -> dict:
    """The numbers of one loss on a teacher's and a student's logits.

    Computed in float64. ``strength`` is the mean eigenvalue, trace/C: the
    curvature at the match in a random direction of the logits.

    Args:
        terms (Sequence[Term]): Of the loss.
        preds_T (Tensor): The teacher's logits, ``(N, C)``.
        preds_S (Tensor, optional): The student's, ``(N, C)``. Defaults to
            None: no gradients.
        batch_size (int): As of :func:`eigenvalues`.

    Returns:
        dict: ``strength``, ``largest``, ``noticeable_share``,
        ``gradient_norm``, ``small_class_share``, each with mean and standard
        error over the samples; ``spectrum``, the mean sorted eigenvalues.
    """
    preds_T = preds_T.double()
    values = eigenvalues(terms, preds_T, batch_size).flip(1)
    result = dict(
        strength=mean_and_error(values.mean(1)),
        largest=mean_and_error(values[:, 0]),
        noticeable_share=mean_and_error(noticeable_share(values)),
        spectrum=values.mean(0).tolist(),
    )
    if preds_S is not None:
        gradient = gradients(terms, preds_S.double(), preds_T, batch_size)
        result['gradient_norm'] = mean_and_error(gradient.norm(dim=1))
        result['small_class_share'] = mean_and_error(small_class_share(gradient, preds_T))
    return result
