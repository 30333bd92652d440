"""Both terms of the method at once, with their gradients in closed form.

Autograd walks over some forty matrices of the logits' size. Here a few samples
at a time go through all steps while they are in the cache, and all that is
kept for the backward pass are the two gradients.
"""

import torch
from torch import Tensor
from torch.autograd import Function

from .functional import correlation_distance, has_spread, kl_divergence

_CPU_BLOCK, _GPU_BLOCK = 2**17, 2**24  # numbers of a block: 0.5 and 64 MiB


def _kl(z_S: Tensor, z_T: Tensor, tau: float, grad: Tensor) -> Tensor:
    """``Σ_i KL(p^T_i ‖ p^S_i)``; into ``grad`` its gradient by ``z_S``."""
    u_S, u_T = ((z - z.amax(1, keepdim=True)).div_(tau) for z in (z_S, z_T))
    p_S, p_T = u_S.softmax(1), u_T.softmax(1)
    torch.sub(p_S, p_T, out=grad).div_(tau)
    # log p = u + log max p, since u is 0 where p has its maximum
    shift = p_T.amax(1).log_().sub_(p_S.amax(1).log_())
    return u_T.sub_(u_S).mul_(p_T).sum() + shift.sum()


def _standardize(p: Tensor) -> tuple[Tensor, Tensor]:
    """As in :mod:`.functional` over a row; also what ``p`` is scaled by."""
    x = p - p.mean(1, keepdim=True)
    length, size = (torch.linalg.vector_norm(v, dim=1, keepdim=True) for v in (x, p))
    varies = has_spread(length, size)
    scale = varies / length.where(varies, 1.0)
    return x.mul_(scale), scale


def _inter(z_S: Tensor, z_T: Tensor, tau: float, grad: Tensor) -> Tensor:
    """``Σ_i ½‖x̂_i − ŷ_i‖²``; into ``grad`` its gradient by ``z_S``."""
    p_S = (z_S / tau).softmax(1)
    x, scale = _standardize(p_S)
    y, _ = _standardize((z_T / tau).softmax(1))
    gap = torch.sub(x, y, out=y)
    value = gap.square().sum() / 2
    # by x̂ the gradient is the gap; back through the scaling, the softmax
    gap.addcmul_(x, _row_dot(x, gap), value=-1)
    gap.sub_(_row_dot(p_S, gap)).mul_(scale / tau)
    torch.mul(gap, p_S, out=grad)
    return value


def _row_dot(x: Tensor, y: Tensor) -> Tensor:
    return torch.linalg.vecdot(x, y, dim=1).unsqueeze(1)


class _Fused(Function):
    @staticmethod
    def forward(ctx, preds_S, preds_T, tau, tau_cor):
        (n, c), on_cpu = preds_S.shape, preds_S.device.type == 'cpu'
        rows = max(1, (_CPU_BLOCK if on_cpu else _GPU_BLOCK) // c)
        grads = [preds_S.new_empty(n, c) for _ in range(2)]
        terms = preds_S.new_zeros(2)
        for blocks in zip(*(x.split(rows) for x in (preds_S, preds_T, *grads))):
            z_S, z_T, grad_kl, grad_cor = blocks
            terms[0] += _kl(z_S, z_T, tau, grad_kl)
            terms[1] += _inter(z_S, z_T, tau_cor, grad_cor)
        ctx.save_for_backward(preds_S, preds_T, *grads)
        ctx.tau, ctx.tau_cor = tau, tau_cor
        return tuple(terms / n)

    @staticmethod
    def backward(ctx, weight_kl, weight_cor):
        preds_S, preds_T, grad_kl, grad_cor = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph: it is differentiated again
            terms = _plain(preds_S, preds_T, ctx.tau, ctx.tau_cor)
            (grad,) = torch.autograd.grad(
                terms, preds_S, (weight_kl, weight_cor), create_graph=True
            )
        else:
            n = len(preds_S)
            grad = (grad_kl * (weight_kl / n)).addcmul_(grad_cor, weight_cor / n)
        return grad, None, None, None


def _plain(preds_S, preds_T, tau, tau_cor):
    return (kl_divergence(preds_S, preds_T, tau), correlation_distance(preds_S, preds_T, tau_cor))


def kl_and_correlation(
    preds_S: Tensor, preds_T: Tensor, tau: float, tau_cor: float
) -> tuple[Tensor, Tensor]:
    """:func:`kl_divergence` and :func:`correlation_distance` *inter*.

    The same numbers and gradients, faster and in less memory where only the
    student's logits get a gradient. That gradient may be differentiated again
    (``create_graph=True``). A teacher with a gradient, logits of two types,
    :mod:`torch.func` and :func:`torch.compile` get the plain functions.

    Args:
        preds_S (Tensor): Student logits, ``(N, C)``.
        preds_T (Tensor): Teacher logits, ``(N, C)``.
        tau (float): Temperature of KL, above 0.
        tau_cor (float): Temperature of the correlation, above 0.

    Returns:
        tuple[Tensor, Tensor]: The two terms, each 0-dim.
    """
    plain = (
        preds_T.requires_grad
        or preds_S.dtype != preds_T.dtype
        or torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
    )
    terms = _plain if plain else _Fused.apply
    return terms(preds_S, preds_T, tau, tau_cor)
