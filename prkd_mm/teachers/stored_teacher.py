"""A teacher that replays stored logits."""

from contextlib import suppress
from typing import Optional

import torch
from mmengine.dist import all_gather_object
from torch import Tensor, nn

from ..datasets import BatchClsDataPreprocessor
from .logit_store import COMPARED, OWN_NORMALIZATION, TeacherLogits
from .logits_net import LogitsNet
from .normalization import Normalization
from .teacher import Evaluate, Teacher


class StoredTeacher(Teacher):
    """Teacher that replays stored logits.

    If the teacher itself is available, its logits for some images of the first batch are compared
    with the stored ones. Then it is released.

    Args:
        store: The store; None if a subclass creates it later.
        live: The teacher itself, or None.
        num_classes: Number of classes without a store.
    """

    is_live = False

    def __init__(
        self,
        store: Optional[TeacherLogits],
        live: Optional[Teacher] = None,
        num_classes: Optional[int] = None,
    ) -> None:
        super().__init__(LogitsNet(nn.Identity(), store.num_classes if store else num_classes))
        self.store, self.live = store, live
        self._compared = False

    def adapt_to(self, preprocessor: nn.Module) -> None:
        """Make the student's data preprocessor draw the stored views; check its normalization."""
        check_draws_views(preprocessor)
        if self.live is not None:
            self.live.adapt_to(preprocessor)
        self.input_normalization = self.store.header['normalization']
        if self.input_normalization != OWN_NORMALIZATION:
            self.store.check(normalization=Normalization.of(preprocessor).describe())
        preprocessor.views = self.store.views
        preprocessor.seed = self.store.header['seed']

    def logits(self, inputs: Tensor, data_samples: Optional[list] = None) -> Tensor:
        """Stored logits ``(B, C)`` of a batch of ``PackedImages`` or ``ImageViews``."""
        sample = data_samples[0] if data_samples else None
        if len(data_samples or ()) != 1 or 'view' not in sample:
            raise ValueError(
                'stored logits need batches of PackedImages or ImageViews, without mixup or '
                'other batch augmentations; for other batches, train with the live teacher'
            )
        self.store.check(source=sample.source)
        index = sample.sample_idx.numpy()
        if not self._compared and self.live is not None:
            with torch.autocast(inputs.device.type, enabled=False):  # as when they were stored
                some = self.live.logits(inputs[:COMPARED])
            self.store.compare(sample.view, index[:COMPARED], some)
        self._compared = True
        if self._is_complete():
            self.live = None
        logits = self.store.get(sample.view, index)
        return self.net(logits.to(inputs.device, non_blocking=True))

    def _is_complete(self) -> bool:
        return True

    def metrics(self, evaluate: Evaluate, images: Optional[str] = None) -> dict[str, float]:
        # all ranks evaluate, or none, even if another run stores the metrics meanwhile
        known = on_all_ranks(self.store is not None and self.store.has_metrics(images))
        if not known and on_all_ranks(self.live is not None):
            metrics = self.live.metrics(evaluate)
            if self.store is not None:
                with suppress(OSError):  # a complete store may be in a read-only place
                    self.store.note(metrics, images)
            return metrics
        self.measured = 'when its logits were stored'
        return self.store.header.get('metrics', {})

    def stored_logits(self, count: int) -> Optional[Tensor]:
        return self.store.sample(count)

    def fingerprint(self) -> str:
        return self.store.header['teacher']


def on_all_ranks(condition: bool) -> bool:
    """Whether a condition is true on every rank of a distributed run."""
    return all(all_gather_object(condition))


def check_draws_views(preprocessor: nn.Module) -> None:
    """Raise a ValueError if a data preprocessor cannot reproduce views of images, or mixes them."""
    if not isinstance(preprocessor, BatchClsDataPreprocessor):
        raise ValueError(
            'FrozenTeacherDistill: stored logits need a data_preprocessor of '
            "type='BatchClsDataPreprocessor', which can reproduce the stored views, got "
            f'{type(preprocessor).__name__}'
        )
    if preprocessor.batch_augments:
        raise ValueError(
            'FrozenTeacherDistill: stored logits need images without mixup or other batch '
            'augmentations; remove batch_augments from the data_preprocessor and augments from '
            'train_cfg of the architecture, or train with the live teacher'
        )
