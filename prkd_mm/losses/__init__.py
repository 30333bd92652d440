from .functional import correlation_distance, kl_divergence, pearson_distance
from .prkd_loss import PRKDLoss

__all__ = [
    'PRKDLoss', 'correlation_distance', 'kl_divergence', 'pearson_distance'
]
