"""A teacher that replays stored logits."""

from typing import Optional

from torch import Tensor, nn

from ..datasets import BatchClsDataPreprocessor
from .logit_store import OWN_NORMALIZATION, TeacherLogits
from .logits_net import LogitsNet
from .normalization import Normalization
from .teacher import Evaluate, Teacher


class StoredTeacher(Teacher):
    """Teacher that replays stored logits.

    A subclass may create the store later; ``num_classes`` is then the number of classes.
    """

    is_live = False
    measured = 'when its logits were stored'

    def __init__(self, store: Optional[TeacherLogits], num_classes: Optional[int] = None) -> None:
        super().__init__(LogitsNet(nn.Identity(), store.num_classes if store else num_classes))
        self.store = store

    def adapt_to(self, preprocessor: nn.Module) -> None:
        """Make the student's data preprocessor draw the stored views; check its normalization."""
        check_draws_views(preprocessor)
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
        logits = self.store.get(sample.view, sample.sample_idx.numpy())
        return self.net(logits.to(inputs.device, non_blocking=True))

    def metrics(self, evaluate: Evaluate) -> dict[str, float]:
        return self.store.header.get('metrics', {})

    def stored_logits(self, count: int) -> Optional[Tensor]:
        return self.store.sample(count)

    def fingerprint(self) -> str:
        return self.store.header['teacher']


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
