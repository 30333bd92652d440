r"""Strength: how strongly a distillation loss constrains the student to match the teacher.

The strength of a loss is the mean eigenvalue ``trace(H)/C`` of its Hessian H with respect to a
sample's logits, at the match ``z_S = z_T``, averaged over the samples. A loss is a sum of terms
``weight · D(z_S, z_T)``. With ``p = softmax(z/τ)``, ``s_k = Σ_c p_c^k`` and
``‖x‖² = Σ_c (p_c − 1/C)²``:

====== ================================== =====================================
kind   D, averaged over the N samples     trace(H) of one sample
====== ================================== =====================================
logit  ``½ · mean_c (z_S − z_T)²``        ``1``
kl     ``KL(p^T ‖ p^S)``                  ``(1 − s_2) / τ²``
inter  ``1 − Pearson`` over the classes   ``(t − u/‖x‖²) / (τ²‖x‖²)``
intra  ``1 − Pearson`` over the batch     ``N/(Cτ²) Σ_c w_c p_c² (1 − 2p_c + s_2)``
====== ================================== =====================================

with ``t = s_2 − 2s_3 + s_2²`` and ``u = s_4 − 2s_2 s_3 + s_2³``. Derivation:

- The softmax has the Jacobian ``S/τ``, ``S = diag(p) − ppᵀ``. The gradient of each distance is zero
  at the match, so the chain rule reduces to ``H = S M S / τ²``, where M is the Hessian of D with
  respect to the probabilities.
- kl: ``M = diag(1/p)`` and ``S diag(1/p) S = S``. ``trace(S) = 1 − s_2``.
- inter: D is ``½‖x̂_S − x̂_T‖²`` of the centered, normalized probabilities ``x̂ = x/‖x‖``,
  ``x = p − 1/C``, so that ``M = (I − 11ᵀ/C − x̂x̂ᵀ)/‖x‖²``. Because ``S1 = 0``,
  ``trace(H) = (trace(S²) − ‖Sx̂‖²) / (τ²‖x‖²)``, where
  ``trace(S²) = Σ_c p_c² (1 − 2p_c + s_2) = t`` and ``Sx = Sp = p(p − s_2)``, elementwise, gives
  ``‖Sx‖² = u``.
- intra: the same for the column ``x_c`` of a class in the batch, in which only one sample changes:
  ``M = N/C · diag(w)`` with ``w_c = (1 − 1/N − x̂_ic²)/‖x_c‖²``.

MMRazor's ``DISTLoss`` adds ``ε = 1e-8`` to the denominator of Pearson. This matters for a class or
an image whose probabilities hardly vary, ``‖x‖² ≲ ε``. The gradient at the match is then not zero,
and the second derivative of the softmax, ``Σ_k ∂²p_c/∂z_k² = 2p_c (s_2 − p_c)/τ²``, contributes.
With ``d = ‖x‖² + ε``, the distance has the gradient ``−εx/d²`` and the Hessian
``M = (P − x̂x̂ᵀ)‖x‖²/d² + 2ε xxᵀ/d³``, where P centers a vector.

H is N times the sample's block of the Hessian of D, so it does not shrink as the batch grows. The
cost is O(N·C).

With ``weight = τ²`` (``scale_by_tau2``, ``scale_cor_by_tau2`` of
:class:`~prkd_mm.losses.PRKDLoss`), the factor 1/τ² cancels.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn

from .losses.functional import has_spread

_BLOCK = 2**15  # elements processed at a time
_EPS_OF_DIST = 1e-8  # mmrazor/models/losses/dist_loss.py
DEFINED_FOR = (
    "PRKDLoss, KLDivergence(reduction='batchmean'), DISTLoss and "
    'L2Loss(normalize=False, div_element=True)'
)
KINDS = ('logit', 'kl', 'inter', 'intra')


class Term(NamedTuple):
    """``weight · D``, one term of a loss."""

    kind: str  # 'logit', 'kl', 'inter' or 'intra'
    tau: float = 1.0  # temperature; ignored by 'logit'
    weight: float = 1.0  # product of all factors of D, τ² included
    gather: bool = False  # whether the batches of all ranks form one; used by 'intra'
    eps: float = 0.0  # ε in the denominator of Pearson


def terms_of(loss: nn.Module) -> list[Term]:
    """The terms of a loss module with its current weights.

    Raises:
        ValueError: If the loss is not ``PRKDLoss``, or MMRazor's ``KLDivergence``, ``DISTLoss`` or
            ``L2Loss``, or has options that are not supported.
    """
    terms = _known_terms(loss)
    if terms is None:
        raise ValueError(
            f'the strength of {type(loss).__name__} is not known; it is defined for {DEFINED_FOR}'
        )
    return [term for term in terms if term.weight]


def has_strength(loss: nn.Module) -> bool:
    """Whether :func:`terms_of` supports a loss."""
    return _known_terms(loss) is not None


def losses_on_logits(distiller: Any) -> dict[str, nn.Module]:
    """The losses of a distiller that :func:`terms_of` supports, by name, if they get logits."""
    return {
        name: loss
        for name, loss in getattr(distiller, 'distill_losses', {}).items()
        if has_strength(loss) and not _is_on_features(distiller, name)
    }


def _is_on_features(distiller: Any, loss: str) -> bool:
    """Whether a loss compares outputs of the backbone or the neck."""
    records = getattr(distiller, 'loss_forward_mappings', {}).get(loss, {}).values()
    student, teacher = distiller.student_recorders, distiller.teacher_recorders
    sources = [
        (student if record['from_student'] else teacher).get_recorder(record['recorder']).source
        for record in records
    ]
    return compares_features(sources)


def compares_features(sources: Iterable[str]) -> bool:
    """Whether a loss with recorders of these sources compares outputs of the backbone or neck."""
    return any(source.partition('.')[0] in ('backbone', 'neck') for source in sources)


def _known_terms(loss: nn.Module) -> Optional[list[Term]]:
    find = _TERMS.get(type(loss).__name__)
    try:
        return find(loss) if find else None
    except AttributeError:  # another library's loss of the same name
        return None


def _terms_of_prkd(loss: Any) -> list[Term]:
    kl_scale = loss.tau**2 if loss.scale_by_tau2 else 1.0
    cor_scale = loss.tau_cor**2 if loss.scale_cor_by_tau2 else 1.0
    kl = loss.loss_weight * loss.kl_weight * kl_scale
    cor = loss.loss_weight * loss.cor_weight * cor_scale
    return [
        Term('kl', loss.tau, kl),
        Term('inter', loss.tau_cor, cor * loss.inter_weight),
        Term('intra', loss.tau_cor, cor * loss.intra_weight, loss.gather),
    ]


def _terms_of_kl(loss: Any) -> Optional[list[Term]]:
    if loss.reduction != 'batchmean':
        return None
    return [Term('kl', loss.tau, loss.loss_weight * loss.tau**2)]


def _terms_of_dist(loss: Any) -> list[Term]:
    weight = loss.loss_weight * loss.tau**2
    return [
        Term('inter', loss.tau, weight * loss.inter_loss_weight, eps=_EPS_OF_DIST),
        Term('intra', loss.tau, weight * loss.intra_loss_weight, eps=_EPS_OF_DIST),
    ]


def _terms_of_l2(loss: Any) -> Optional[list[Term]]:
    if not loss.div_element or loss.normalize or loss.dist:
        return None
    return [Term('logit', 1.0, 2 * loss.loss_weight)]


_TERMS = dict(
    PRKDLoss=_terms_of_prkd, KLDivergence=_terms_of_kl, DISTLoss=_terms_of_dist, L2Loss=_terms_of_l2
)


def strength(terms: Sequence[Term], logits: Tensor, batch_size: int = 64) -> float:
    """``trace(H)/C`` of a sum of terms at the match, averaged over the samples.

    ``float64`` logits ``(N, C)`` keep the most digits. For 'intra', ``batch_size`` consecutive
    samples form a batch, or ``batch_size`` times the number of ranks for a gathered term.
    """
    return sum(term.weight * _unweighted(term, logits, batch_size) for term in terms)


def _unweighted(term: Term, logits: Tensor, batch_size: int) -> float:
    # only 'intra' depends on the batch; rows that fit into a cache are faster
    rows = max(1, _BLOCK // logits.shape[1])
    if term.kind == 'intra':
        rows = batch_size * (_ranks() if term.gather else 1)
    trace_of = _TRACES[term.kind]
    trace = sum(float(trace_of(z, term.tau, term.eps).sum()) for z in logits.split(rows))
    return trace / logits.numel()


def _ranks() -> int:
    running = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if running else 1


def _trace_logit(z: Tensor, tau: float, eps: float) -> Tensor:
    return z.new_ones(len(z))


def _trace_kl(z: Tensor, tau: float, eps: float) -> Tensor:
    p = F.softmax(z / tau, 1)
    return (p * (1 - p)).sum(1) / tau**2


def _jacobian(p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``s_2`` as ``(N, 1)``, the diagonal of ``S²`` and ``Sp = p(p − s_2)``, both ``(N, C)``.

    For a sharp teacher's top class, ``1 − 2p + s_2`` and ``p − s_2`` would be differences of almost
    equal numbers. They are computed from the sums over the other classes instead.
    """
    highest, top = p.max(1, keepdim=True)
    others = p.scatter(1, top, 0.0)
    rest, rest_2 = others.sum(1, keepdim=True), others.square().sum(1, keepdim=True)
    s_2 = highest.square() + rest_2
    diagonal = p.square() * (1 - 2 * p + s_2).scatter(1, top, rest.square() + rest_2)
    return s_2, diagonal, p * (p - s_2).scatter(1, top, highest * rest - rest_2)


def _trace_inter(z: Tensor, tau: float, eps: float) -> Tensor:
    p = F.softmax(z / tau, 1)
    s_2, diagonal, S_p = _jacobian(p)
    length = (p - 1 / z.shape[1]).norm(dim=1, keepdim=True)
    varies = has_spread(length, s_2.sqrt())
    length = length.where(varies, 1.0)
    along_x = (S_p / length).square().sum(1, keepdim=True)
    trace = diagonal.sum(1, keepdim=True) - along_x
    if z.shape[1] == 2:  # 0 but for rounding
        trace = torch.zeros_like(trace)
    shrink = length.square() / (length.square() + eps)  # ‖x‖²/d
    trace = shrink**2 * trace + 2 * (eps / length.square()) * shrink**2 * (
        shrink * along_x + (p * S_p).sum(1, keepdim=True)
    )
    return (trace / (tau * length) ** 2).where(varies, 0.0)


def _trace_intra(z: Tensor, tau: float, eps: float) -> Tensor:
    N, C = z.shape
    p = F.softmax(z / tau, 1)
    _, diagonal, S_p = _jacobian(p)
    x = p - p.mean(0)
    length, size = x.norm(dim=0), p.norm(dim=0)
    varies = has_spread(length, size)
    length = length.where(varies, 1.0)
    square = length.square()
    d = square + eps
    w = (1 - 1 / N - (x / length).square()) * square / d**2 + 2 * eps * x.square() / d**3
    trace = w * diagonal + eps * x / d**2 * 2 * S_p
    return N / (C * tau**2) * trace.where(varies, 0.0).sum(1)


_TRACES = dict(logit=_trace_logit, kl=_trace_kl, inter=_trace_inter, intra=_trace_intra)


class StrengthMeter:
    """Strength of losses on the logits ``(N, C)`` of one teacher, in batches of the training.

    Each kind and temperature is computed once and cached, so a schedule of weights adds no cost.
    """

    def __init__(self, logits: Tensor, batch_size: int = 64) -> None:
        logits = logits.double()

        @cache
        def unweighted(term: Term) -> float:
            return _unweighted(term, logits, batch_size)

        self._unweighted = unweighted

    def terms(self, loss: nn.Module) -> dict[str, float]:
        """Strength of each term of a loss with its current weights; see :func:`terms_of`."""
        return {
            term.kind: term.weight * self._unweighted(term._replace(weight=1.0))
            for term in terms_of(loss)
        }

    def total(self, loss: nn.Module) -> float:
        """Strength of a loss with its current weights; see :func:`terms_of`."""
        return sum(self.terms(loss).values())


def largest_rebound(strengths: Sequence[float]) -> float:
    """Largest factor by which strengths over a run move against their overall trend.

    If the strengths relax (the last one is at most the first), this is the largest ratio of a value
    to an earlier value. If they tighten, time is reversed. The factor is 1 for a monotonic
    sequence.
    """
    values = list(strengths)
    if values[-1] > values[0]:
        values.reverse()
    lowest, factor = float('inf'), 1.0
    for value in values:
        lowest = min(lowest, value)
        if value > lowest:
            factor = max(factor, value / lowest if lowest > 0 else float('inf'))
    return factor
