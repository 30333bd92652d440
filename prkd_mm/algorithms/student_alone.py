import copy
from typing import Any, Optional

from mmengine.config import Config, ConfigDict
from mmrazor.models.algorithms import BaseAlgorithm
from mmrazor.registry import MODELS


@MODELS.register_module()
class StudentAlone(BaseAlgorithm):
    """The student trained only with its own loss, as a baseline.

    It accepts the config of :class:`FrozenTeacherDistill` and ignores the teacher, so that one
    config works for every method. The teacher is neither built nor loaded.

    Args:
        architecture (dict | BaseModel): The student.
        teacher, teacher_ckpt, teacher_config, teacher_logits, teacher_mean, fold_teacher_bn:
            Ignored.
        **kwargs: Arguments of MMRazor's ``BaseAlgorithm``.
    """

    def __init__(
        self,
        architecture: Any,
        teacher: Any = None,
        teacher_ckpt: Optional[str] = None,
        teacher_config: Optional[str] = None,
        teacher_logits: Any = None,
        teacher_mean: Any = None,
        fold_teacher_bn: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(architecture, **typed_preprocessor(kwargs))


def typed_preprocessor(arguments: dict) -> dict:
    """Add a missing type to the data preprocessor in the arguments of an algorithm.

    MMPretrain's classifiers have a default type; MMRazor's algorithms do not.
    """
    preprocessor = arguments.get('data_preprocessor')
    if isinstance(preprocessor, dict) and 'type' not in preprocessor:
        typed = dict(preprocessor, type='mmpretrain.ClsDataPreprocessor')
        return dict(arguments, data_preprocessor=typed)
    return arguments


def student_alone(cfg: Config) -> ConfigDict:
    """Config of the net that a run trains, without the teacher, and of its data preprocessor."""
    model = copy.deepcopy(cfg.model)
    preprocessor = model.get('data_preprocessor', cfg.get('data_preprocessor'))
    if 'architecture' in model:
        kept = {key: model[key] for key in ('_scope_', 'architecture') if key in model}
        model = ConfigDict(kept, type='mmrazor.StudentAlone')
    if preprocessor is not None:
        model['data_preprocessor'] = copy.deepcopy(preprocessor)  # building modifies it
    return model
