"""Helpers to log the strength of the losses of a run."""

from typing import Callable, Optional

import torch
from mmengine.dist import all_gather_object
from mmengine.runner import Runner
from torch import Tensor, nn

from ..evaluation import unwrap
from ..randomness import spread_indices
from ..strength import losses_on_logits
from ..teachers import Teacher

_MAX_IMAGES = 10000  # the strength of Cor varies between images by half of its mean: error 0.5 %
_MAX_LOGITS = 2**20  # fewer images if there are many classes
_MIN_IMAGES = 64
_SMALLEST_SCORE = 2.0**-149  # smaller ones are 0 in float32


def _images_to_keep(classes: int) -> int:
    return min(_MAX_IMAGES, max(_MIN_IMAGES, _MAX_LOGITS // classes))


class LogitSample:
    """Teacher logits of a sample of images, collected during validation.

    The images are spread over the ``total`` images of the data set, because many sets are sorted by
    class, and shuffled, because the intra correlation depends on the batch.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._kept: Optional[Tensor] = None
        self._rows: list[Tensor] = []
        self._seen = 0

    def watching(self, predict: Callable) -> Callable:
        """Wrap ``predict(inputs, data_samples)`` so that logits of its images are kept."""

        def predict_and_keep(inputs: Tensor, data_samples: list) -> list:
            predictions = predict(inputs, data_samples)
            # the logarithms of the scores are the logits up to a shift
            scores = torch.stack([prediction.pred_score for prediction in predictions])
            self.add(scores.double().clamp_min(_SMALLEST_SCORE).log())
            return predictions

        return predict_and_keep

    def add(self, logits: Tensor) -> None:
        """Keep some rows of the logits of the next batch, ``(B, C)``."""
        if self._kept is None:
            count = _images_to_keep(logits.shape[1])
            self._kept = torch.from_numpy(spread_indices(self.total, count))
        kept = self._kept
        here = kept[(kept >= self._seen) & (kept < self._seen + len(logits))] - self._seen
        self._rows.append(logits[here.to(logits.device)].double().cpu())
        self._seen += len(logits)

    def gather(self) -> Optional[Tensor]:
        """Gather the kept logits of all ranks, ``(N, C)``; None if there were no images."""
        # also a rank without images takes part
        rows = [row for rank in all_gather_object(self._rows) for row in rank]
        return _shuffle(torch.cat(rows)) if rows else None


def stored_sample(teacher: Teacher) -> Optional[Tensor]:
    """Logits ``(N, C)`` of some images of a stored teacher; None for a live one."""
    classes = teacher.num_classes
    logits = None if classes is None else teacher.stored_logits(_images_to_keep(classes))
    return None if logits is None else _shuffle(logits)


def _shuffle(logits: Tensor) -> Tensor:
    return logits[torch.randperm(len(logits), generator=torch.Generator().manual_seed(0))]


def known_losses(runner: Runner) -> dict[str, nn.Module]:
    """The distillation losses of a run whose strength is known, by name: those on the logits."""
    return losses_on_logits(getattr(unwrap(runner.model), 'distiller', None))


def log_without_smoothing(runner: Runner, key: str) -> None:
    """Log the current value of a key instead of its mean.

    LogProcessor averages every key with "loss" in it over its window
    (mmengine/runner/log_processor.py), and the name of a loss must contain "loss".
    """
    custom = runner.log_processor.custom_cfg
    if all(cfg['data_src'] != key for cfg in custom):
        custom.append(dict(data_src=key, method_name='current'))
