from importlib.util import find_spec

from .functional import correlation_distance, kl_divergence, pearson_distance
from .fused import kl_and_correlation
from .prkd_loss import PRKDLoss

__all__ = [
    'PRKDLoss',
    'correlation_distance',
    'kl_and_correlation',
    'kl_divergence',
    'pearson_distance',
]

if find_spec('mmrazor'):  # in plain PyTorch there is no registry
    from mmrazor.registry import MODELS

    MODELS.register_module(module=PRKDLoss)
