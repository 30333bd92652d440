from mmengine.model import BaseModel
from torch import Tensor, nn

from .logit_store import TeacherLogits


class StoredTeacher(BaseModel):
    """What stands in for a teacher whose logits are stored.

    Its ``head.fc`` passes the stored logits on, so that recorders that look
    there find them.

    Args:
        store (TeacherLogits): The logits.
    """

    def __init__(self, store: TeacherLogits) -> None:
        super().__init__()
        self.store = store
        self.head = nn.Module()
        self.head.fc = nn.Identity()
        self.head.num_classes = store.num_classes

    def forward(self, inputs: Tensor, data_samples: list, mode: str = 'tensor') -> Tensor:
        """The stored logits of a batch of ``PackedImages``, ``(B, C)``.

        Raises:
            ValueError: The batch is not whole, or of other images.
        """
        sample = data_samples[0] if data_samples else None
        if len(data_samples or ()) != 1 or 'view' not in sample:
            raise ValueError(
                'stored logits belong to whole batches of PackedImages, which '
                'BatchClsDataPreprocessor augments (and nothing else: no '
                'mixup); without those, train with the teacher itself'
            )
        self.store.check(source=sample.source)
        logits = self.store.get(sample.view, sample.sample_idx.numpy())
        return self.head.fc(logits.to(inputs.device, non_blocking=True))
