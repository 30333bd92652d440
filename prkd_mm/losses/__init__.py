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
