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

    Args:
        store: The logits.
    """

    is_live = False
    measured = 'when its logits were stored'

    def __init__(self, store: TeacherLogits) -> None:
        super().__init__(LogitsNet(nn.Identity(), store.num_classes))
        self.store = store

    def adapt_to(self, preprocessor: nn.Module) -> None:
        """Let the student's data preprocessor draw the stored views.

        Raises:
            ValueError: If the preprocessor cannot draw them, or normalizes
                images in another way than when the logits were stored.
        """
        check_draws_views(preprocessor)
        self.input_normalization = self.store.header['normalization']
        if self.input_normalization != OWN_NORMALIZATION:
            self.store.check(normalization=Normalization.of(preprocessor).describe())
        preprocessor.views = self.store.views
        preprocessor.seed = self.store.header['seed']

    def logits(self, inputs: Tensor, data_samples: Optional[list] = None) -> Tensor:
        """Stored logits ``(B, C)`` of a batch of ``PackedImages`` or ``ImageViews``.

        Raises:
            ValueError: If the images arrived one by one, or are not those of
                the store.
        """
        return self.net(replay(self.store, data_samples).to(inputs.device, non_blocking=True))

    def metrics(self, evaluate: Evaluate) -> dict[str, float]:
        """The metrics that were measured when the logits were stored."""
        return self.store.header.get('metrics', {})

    def stored_logits(self, count: int) -> Tensor:
        """Logits of at most ``count`` evenly spaced images in the first view, ``(N, C)``."""
        return self.store.sample(count)

    def fingerprint(self) -> str:
        """Hash of the weights of the teacher whose logits these are."""
        return self.store.header['teacher']


def check_draws_views(preprocessor: nn.Module) -> None:
    """Check that a data preprocessor can draw the same views of images again.

    Raises:
        ValueError: If it cannot.
    """
    if not isinstance(preprocessor, BatchClsDataPreprocessor):
        raise ValueError(
            'FrozenTeacherDistill: stored logits need a data_preprocessor '
            "of type='BatchClsDataPreprocessor', which draws the same "
            f'views again, got {type(preprocessor).__name__}'
        )


def replay(store: TeacherLogits, data_samples: Optional[list]) -> Tensor:
    """Stored logits ``(B, C)`` of a batch, on the CPU.

    Raises:
        ValueError: If the images arrived one by one, or are not those of the
            store.
    """
    sample = data_samples[0] if data_samples else None
    if len(data_samples or ()) != 1 or 'view' not in sample:
        raise ValueError(
            'stored logits belong to whole batches of PackedImages or ImageViews, with '
            'no mixup or other batch augmentations; for other images, train with the '
            'teacher itself'
        )
    store.check(source=sample.source)
    return store.get(sample.view, sample.sample_idx.numpy())
