import logging
import math
from numbers import Real
from typing import Optional

import torch
from mmengine.dist import get_world_size
from mmengine.logging import print_log
from mmrazor.registry import MODELS
from torch import Tensor, nn

from .functional import correlation_distance
from .fused import kl_and_correlation

_IN_BUFFERS = ('tau', 'kl_weight', 'cor_weight')  # what the method changes


def _number(name: str, value: float, zero_allowed: bool) -> float:
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(
            f'PRKDLoss: {name} must be a number, got {value!r} of type {type(value).__name__}'
        )
    above = 'at least 0' if zero_allowed else 'above 0'
    if not math.isfinite(value) or value < 0 or not (value or zero_allowed):
        raise ValueError(
            f'PRKDLoss: {name} must be finite and {above}, got '
            f'{value!r}; correct it in the config of the loss '
            'or in the schedule that sets it'
        )
    return float(value)


def _checked(name: str, zero_allowed: bool) -> property:
    """A number that is checked whenever it is set.

    Eager code computes with the Python number, which is exact. Compiled code
    reads a 0-dim buffer where there is one: a new Python number would compile
    it again.
    """

    def get(self):
        if torch.compiler.is_compiling() and name in _IN_BUFFERS:
            return getattr(self, f'_{name}_buffer')
        return self._values[name]

    def set(self, value):
        self._driven = self._ready
        self._values[name] = _number(name, value, zero_allowed)
        if name in _IN_BUFFERS:
            getattr(self, f'_{name}_buffer').fill_(self._values[name])

    return property(get, set)


@MODELS.register_module()
class PRKDLoss(nn.Module):
    r"""The loss of Progressively Relaxed Knowledge Distillation.

    .. math::
        L = loss\_weight · (kl\_weight · KL + cor\_weight · Cor)

        KL = τ^2 · KL(p^T_τ ‖ p^S_τ), \quad
        Cor = τ_{cor}^2 · (1 - Pearson(p^T_{τ_{cor}}, p^S_{τ_{cor}}))

    ``tau``, ``kl_weight`` and ``cor_weight`` are meant to be changed during
    the run by :class:`~prkd_mm.hooks.LossScheduleHook`; with r = epoch/epochs

    - PRKDa: ``tau`` from τ to τ_L
    - PRKDb: ``kl_weight`` = 1 − r, ``cor_weight`` = r
    - PRKD: all three

    With ``kl_weight=1, cor_weight=0`` it equals MMRazor's ``KLDivergence``;
    with 0, 1 MMRazor's ``DISTLoss``. Gu, Jin & Li, "Progressively Relaxed
    Knowledge Distillation", IJCNN 2024.

    The last call's unweighted terms stand in ``terms``: ``dict(kl, cor)``,
    detached, each with its τ² and without any weight.

    Args:
        tau (float): Temperature of the KL term, above 0. Defaults to 4.0.
        tau_cor (float, optional): Temperature of the correlation term, which
            stays constant. Defaults to None: the initial ``tau``.
        kl_weight (float): Weight of the KL term. Defaults to 1.0.
        cor_weight (float): Weight of the correlation term. Defaults to 0.0.
        inter_weight (float): Share of the correlation over a sample's classes
            in Cor: what the method uses. Defaults to 1.0.
        intra_weight (float): Share of the correlation over the batch in Cor,
            which DIST adds. Defaults to 0.0.
        loss_weight (float): Weight of the whole. Defaults to 1.0.
        scale_by_tau2 (bool): Multiply each term by its own τ², as MMRazor's
            losses do, so that the gradients keep their size as τ moves.
            Defaults to True.
        teacher_detach (bool): No gradient into the teacher. Defaults to True.
        gather (bool): Compute the intra term over the batches of all ranks,
            with gradient; they must be of one size. Defaults to False.

    Raises:
        TypeError: A temperature or weight is not a number.
        ValueError: A temperature is not above 0, or a weight is negative.

    Examples:
        >>> loss = PRKDLoss(tau=4.0)
        >>> student = torch.randn(8, 100, requires_grad=True)
        >>> loss(student, torch.randn(8, 100)).backward()
        >>> loss.tau, loss.kl_weight, loss.cor_weight = 2.5, 0.5, 0.5
    """

    tau = _checked('tau', zero_allowed=False)
    tau_cor = _checked('tau_cor', zero_allowed=False)
    kl_weight = _checked('kl_weight', zero_allowed=True)
    cor_weight = _checked('cor_weight', zero_allowed=True)
    inter_weight = _checked('inter_weight', zero_allowed=True)
    intra_weight = _checked('intra_weight', zero_allowed=True)
    loss_weight = _checked('loss_weight', zero_allowed=True)

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
        teacher_detach: bool = True,
        gather: bool = False,
    ) -> None:
        super().__init__()
        self._ready = self._driven = False
        self._values = {}
        for name in _IN_BUFFERS:
            self.register_buffer(f'_{name}_buffer', torch.zeros(()), persistent=False)
        self.tau = tau
        self.tau_cor = tau if tau_cor is None else tau_cor
        self.kl_weight = kl_weight
        self.cor_weight = cor_weight
        self.inter_weight = inter_weight
        self.intra_weight = intra_weight
        self.loss_weight = loss_weight
        self.scale_by_tau2 = scale_by_tau2
        self.teacher_detach = teacher_detach
        self.gather = gather
        self.terms = {}
        self._ready = True

    def forward(self, preds_S: Tensor, preds_T: Tensor) -> Tensor:
        """Compute the loss in fp32 or better, whatever autocast says.

        Args:
            preds_S (Tensor): Student logits, ``(N, C)``.
            preds_T (Tensor): Teacher logits, ``(N, C)``.

        Returns:
            Tensor: The loss, 0-dim.

        Raises:
            ValueError: The logits are not two matrices of one shape.
        """
        if preds_S.shape != preds_T.shape or preds_S.dim() != 2:
            raise ValueError(
                'PRKDLoss: student and teacher logits must have one shape '
                f'(N, C), got {tuple(preds_S.shape)} and '
                f'{tuple(preds_T.shape)}; check that the recorders point at '
                "the classifiers ('head.fc') and that both nets have the same "
                'number of classes'
            )
        if self.teacher_detach:
            preds_T = preds_T.detach()
        with torch.autocast(preds_S.device.type, enabled=False):
            preds_S, preds_T = (
                x.float() if x.dtype in (torch.half, torch.bfloat16) else x
                for x in (preds_S, preds_T)
            )
            tau, tau_cor = self.tau, self.tau_cor
            kl, inter = kl_and_correlation(preds_S, preds_T, tau, tau_cor)
            cor = self.inter_weight * inter
            if self.intra_weight:
                if self.gather and get_world_size() > 1:
                    # not every build of torch has it
                    from torch.distributed.nn.functional import all_gather

                    preds_S, preds_T = (torch.cat(all_gather(x)) for x in (preds_S, preds_T))
                cor = cor + correlation_distance(preds_S, preds_T, tau_cor, 0.0, self.intra_weight)
            if self.scale_by_tau2:
                kl, cor = tau**2 * kl, tau_cor**2 * cor
            self.terms = dict(kl=kl.detach(), cor=cor.detach())
            return self.loss_weight * (self.kl_weight * kl + self.cor_weight * cor)

    def train(self, mode: bool = True) -> 'PRKDLoss':
        """Enter training mode; say so if no schedule drives the loss."""
        if mode and not self._driven:
            self._driven = True  # once is enough
            print_log(
                'PRKDLoss: no schedule drives this loss, so '
                f'tau={self.tau:g}, kl_weight={self.kl_weight:g} and '
                f'cor_weight={self.cor_weight:g} hold for the whole run. '
                'That is not PRKD'
                f'{"; it is plain KD" if not self.cor_weight else ""}. Add a '
                'LossScheduleHook (configs/_base_/methods/prkd.py shows it) '
                "or, if you mean it, one with shape='constant'.",
                logger='current',
                level=logging.WARNING,
            )
        return super().train(mode)

    def extra_repr(self) -> str:
        names = (
            'tau',
            'tau_cor',
            'kl_weight',
            'cor_weight',
            'inter_weight',
            'intra_weight',
            'loss_weight',
        )
        return ', '.join(f'{name}={getattr(self, name):g}' for name in names)
