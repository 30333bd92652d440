from typing import Any, Optional

from mmrazor.models.algorithms import BaseAlgorithm
from mmrazor.registry import MODELS


@MODELS.register_module()
class StudentAlone(BaseAlgorithm):
    """The student with its own loss only: the baseline of a comparison.

    Takes the config of :class:`FrozenTeacherDistill` and leaves the teacher's
    part out, so that one config serves every method. The teacher is neither
    built nor loaded.

    Args:
        architecture (dict | BaseModel): The student.
        teacher, teacher_ckpt, teacher_config, teacher_logits,
            fold_teacher_bn: Ignored.
        **kwargs: As of MMRazor's ``BaseAlgorithm``.
    """

    def __init__(
        self,
        architecture: Any,
        teacher: Any = None,
        teacher_ckpt: Optional[str] = None,
        teacher_config: Optional[str] = None,
        teacher_logits: Any = None,
        fold_teacher_bn: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(architecture, **kwargs)
