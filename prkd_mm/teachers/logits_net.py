"""A classifier around any module that computes logits."""

from typing import Optional

from mmengine.model import BaseModel
from mmpretrain.models import ClsHead
from torch import Tensor, nn


class LogitsHead(ClsHead):
    """A head that receives logits as features.

    Recorders on ``head`` and on ``head.fc`` both record the logits. ``num_classes`` is None if it
    is unknown.
    """

    def __init__(self, num_classes: Optional[int]) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.fc = nn.Identity()

    def forward(self, feats: Tensor) -> Tensor:
        return self.fc(feats)


class LogitsNet(BaseModel):
    """A module that maps inputs to logits, with the interface of MMPretrain's classifiers.

    ``num_classes`` is None if it is unknown; ``data_preprocessor`` is the config of the module's
    own.
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: Optional[int],
        data_preprocessor: Optional[dict] = None,
    ) -> None:
        super().__init__(data_preprocessor)
        self.backbone = backbone
        self.head = LogitsHead(num_classes)

    def forward(self, inputs: Tensor, data_samples: Optional[list] = None, mode: str = 'tensor'):
        """Logits in mode 'tensor', data samples with scores in mode 'predict'."""
        logits = self.backbone(inputs)
        if mode == 'tensor':
            return self.head(logits)
        if mode == 'predict':
            return self.head.predict(logits, data_samples)
        raise ValueError(f"mode must be 'tensor' or 'predict' for a frozen net, got {mode!r}")
