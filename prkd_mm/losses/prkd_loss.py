import logging
import math
import sys
from typing import Any, Optional

import torch
from torch import Tensor, distributed, nn

from ..checks.number_checks import is_number
from .functional import pearson_distance
from .fused import kl_and_correlation

_WEIGHTS = ('kl_weight', 'cor_weight', 'inter_weight', 'intra_weight', 'loss_weight')
_NUMBERS = ('tau', 'tau_cor', *_WEIGHTS)  # checked whenever they are set


class PRKDLoss(nn.Module):
    r"""The loss of Progressively Relaxed Knowledge Distillation.

    .. math::
        L = loss\_weight · (kl\_weight · KL + cor\_weight · Cor)

        KL = τ^2 · KL(p^T_τ ‖ p^S_τ), \quad
        Cor = τ_{cor}^2 · (1 - Pearson(p^T_{τ_{cor}}, p^S_{τ_{cor}}))

    :class:`~prkd_mm.hooks.LossScheduleHook` changes ``tau``, ``kl_weight`` and ``cor_weight``
    during the run. With r = epoch/epochs:

    - PRKDa: ``tau`` from τ to τ_L
    - PRKDb: ``kl_weight`` = 1 − r, ``cor_weight`` = r
    - PRKD: all three schedules

    Gu, Jin & Li, "Progressively Relaxed Knowledge Distillation", IJCNN 2024.

    The factors τ² are a convention. In this table, ``s`` is the strength of a term, the mean
    curvature at the match (:mod:`prkd_mm.strength`), and ``k(τ) = mean(1 − Σp²)/C`` grows with τ:

    ================= =========================== ===========================
    option            True                        False
    ================= =========================== ===========================
    scale_by_tau2     ``KL = τ² KL(p^T ‖ p^S)``;  ``KL = KL(p^T ‖ p^S)``, as
                      MMRazor's ``KLDivergence``. in the paper's formula.
                      ``s = k(τ)``: a falling τ   ``s = k(τ)/τ²``: for soft
                      relaxes.                    teachers, a falling τ
                                                  tightens.
    scale_cor_by_tau2 ``Cor = τ_cor² (1 − ρ)``;   ``Cor = 1 − ρ``, as in the
                      MMRazor's ``DISTLoss`` and  paper's formula. ``s`` is
                      DIST. For soft teachers the τ_cor² times smaller: the
                      strongest of all terms.     weakest of all terms.
    ================= =========================== ===========================

    With ``kl_weight=1, cor_weight=0`` the loss equals ``KLDivergence``; with
    ``kl_weight=0, cor_weight=1`` it equals ``DISTLoss`` with the same temperature and intra
    weight.

    The unweighted terms of the last call are kept in ``terms``, a ``dict(kl=..., cor=...)`` of
    detached tensors that include τ².

    Args:
        tau (float): Temperature of the KL term, above 0. Defaults to 4.0.
        tau_cor (float, optional): Temperature of the correlation term, which stays constant.
            Defaults to None: the initial ``tau``.
        kl_weight (float): Weight of the KL term. Defaults to 1.0.
        cor_weight (float): Weight of the correlation term. Defaults to 0.0.
        inter_weight (float): Weight, inside Cor, of the correlation over a sample's classes, which
            the method uses. Defaults to 1.0.
        intra_weight (float): Weight, inside Cor, of the correlation over the batch, which DIST
            adds. Defaults to 0.0.
        loss_weight (float): Weight of the whole loss. Defaults to 1.0.
        scale_by_tau2 (bool): Multiply KL by ``tau**2``. Defaults to True.
        scale_cor_by_tau2 (bool): Multiply Cor by ``tau_cor**2``. Defaults to True.
        teacher_detach (bool): Detach the teacher's logits, so that it gets no gradient. Defaults to
            True.
        gather (bool): Compute the intra term over the batches of all ranks, with gradient; all
            ranks need the same batch size. Defaults to False.

    Raises:
        TypeError: If a temperature or weight is not a number.
        ValueError: If a temperature is not above 0, or a weight is negative.

    Examples:
        >>> loss = PRKDLoss(tau=4.0)
        >>> student = torch.randn(8, 100, requires_grad=True)
        >>> loss(student, torch.randn(8, 100)).backward()
        >>> loss.tau, loss.kl_weight, loss.cor_weight = 2.5, 0.5, 0.5
        >>> # in a config, as one of the losses of MMRazor's distiller
        >>> distill_losses = dict(loss_prkd=dict(type='PRKDLoss', tau=4.0, loss_weight=0.9))
    """

    def forward(
        self,
        preds_S: Optional[Tensor] = None,
        preds_T: Optional[Tensor] = None,
        logits_S: Optional[Tensor] = None,
        logits_T: Optional[Tensor] = None,
    ) -> Tensor:
        """Compute the loss in fp32 or better, also under autocast.

        Args:
            preds_S: Student logits, ``(N, C)``.
            preds_T: Teacher logits, ``(N, C)``.
            logits_S: ``preds_S`` under the name in MMRazor's ``DISTLoss``, so that its configs need
                no other mapping.
            logits_T: ``preds_T``, likewise.

        Returns:
            Tensor: The loss, 0-dim.

        Raises:
            TypeError: If the logits of either net are missing.
            ValueError: If the logits are not two matrices of the same shape.
        """
        preds_S, preds_T = _checked(preds_S, preds_T, logits_S, logits_T)
        if self.teacher_detach:
            preds_T = preds_T.detach()
        with torch.autocast(preds_S.device.type, enabled=False):
            preds_S, preds_T = _at_least_fp32(preds_S), _at_least_fp32(preds_T)
            kl, inter = kl_and_correlation(preds_S, preds_T, self.tau, self.tau_cor)
            cor = self.inter_weight * inter
            if self.intra_weight:
                cor = cor + self.intra_weight * self._intra(preds_S, preds_T)
            if self.scale_by_tau2:
                kl = self.tau**2 * kl
            if self.scale_cor_by_tau2:
                cor = self.tau_cor**2 * cor
            self.terms = dict(kl=kl.detach(), cor=cor.detach())
            return self.loss_weight * (self.kl_weight * kl + self.cor_weight * cor)

    def __init__(
        self,
        tau: float = 4.0,
        tau_cor: Optional[float] = None,
        kl_weight: float = 1.0,
        cor_weight: float = 0.0,
        inter_weight: float = 1.0,
        intra_weight: float = 0.0,
        loss_weight: float = 1.0,
        scale_by_tau2: bool = True,
        scale_cor_by_tau2: bool = True,
        teacher_detach: bool = True,
        gather: bool = False,
    ) -> None:
        super().__init__()
        self.tau = tau
        self.tau_cor = tau if tau_cor is None else tau_cor
        self.kl_weight = kl_weight
        self.cor_weight = cor_weight
        self.inter_weight = inter_weight
        self.intra_weight = intra_weight
        self.loss_weight = loss_weight
        self.scale_by_tau2 = scale_by_tau2
        self.scale_cor_by_tau2 = scale_cor_by_tau2
        self.teacher_detach = teacher_detach
        self.gather = gather
        self.terms = {}
        self.scheduled = False  # LossScheduleHook sets it
        self._warned = False

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _NUMBERS:
            value = _check_number(name, value, zero_allowed=name in _WEIGHTS)
        super().__setattr__(name, value)

    def _intra(self, preds_S: Tensor, preds_T: Tensor) -> Tensor:
        if self.gather and distributed.is_available() and distributed.is_initialized():
            # builds of torch without distributed support do not have it
            from torch.distributed.nn.functional import all_gather

            preds_S, preds_T = (torch.cat(all_gather(x)) for x in (preds_S, preds_T))
        p_S, p_T = (torch.softmax(x / self.tau_cor, 1) for x in (preds_S, preds_T))
        return pearson_distance(p_S, p_T, dim=0)

    def train(self, mode: bool = True) -> 'PRKDLoss':
        """Enter training mode; warn once if no hook changes the loss in a run of MMEngine."""
        if mode and not self.scheduled and not self._warned and 'mmengine.logging' in sys.modules:
            from mmengine.logging import print_log

            self._warned = True
            plain_kd = '' if self.cor_weight else ', which is plain KD'
            print_log(
                f'PRKDLoss: no LossScheduleHook changes this loss; it stays at tau={self.tau:g}, '
                f'kl_weight={self.kl_weight:g} and cor_weight={self.cor_weight:g}{plain_kd}. Add '
                'a LossScheduleHook (see configs/_base_/methods/prkd.py) or, if this is intended, '
                "one with shape='constant'.",
                logger='current',
                level=logging.WARNING,
            )
        return super().train(mode)

    def extra_repr(self) -> str:
        return ', '.join(f'{name}={getattr(self, name):g}' for name in _NUMBERS)


def _at_least_fp32(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.half, torch.bfloat16) else x


def _checked(
    preds_S: Optional[Tensor],
    preds_T: Optional[Tensor],
    logits_S: Optional[Tensor],
    logits_T: Optional[Tensor],
) -> tuple[Tensor, Tensor]:
    preds_S = logits_S if preds_S is None else preds_S
    preds_T = logits_T if preds_T is None else preds_T
    if preds_S is None or preds_T is None:
        raise TypeError(
            'PRKDLoss: map the logits of both nets in loss_forward_mappings, as preds_S and '
            'preds_T or as logits_S and logits_T'
        )
    if preds_S.shape != preds_T.shape or preds_S.dim() != 2:
        raise ValueError(
            'PRKDLoss: student and teacher logits must have the same shape (N, C), got '
            f'{tuple(preds_S.shape)} and {tuple(preds_T.shape)}; check that the recorders point at '
            "the classifiers ('head.fc') and that both nets have the same number of classes"
        )
    return preds_S, preds_T


def _check_number(name: str, value: Any, zero_allowed: bool) -> float:
    if not is_number(value):
        raise TypeError(
            f'PRKDLoss: {name} must be a number, got {value!r} of type {type(value).__name__}'
        )
    if not math.isfinite(value) or value < 0 or (value == 0 and not zero_allowed):
        limit = 'at least 0' if zero_allowed else 'above 0'
        raise ValueError(
            f'PRKDLoss: {name} must be finite and {limit}, got {value!r}; correct it in '
            'the config of the loss or in the schedule that sets it'
        )
    return float(value)
