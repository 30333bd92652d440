import copy
from typing import Any, Optional

from mmengine.config import Config, ConfigDict
from mmrazor.models.algorithms import BaseAlgorithm
from mmrazor.registry import MODELS
from torch import nn


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
        super().__init__(**with_preprocessor(dict(kwargs, architecture=architecture)))


def with_preprocessor(arguments: dict) -> dict:
    """Complete the data preprocessor in the arguments of an algorithm.

    As in MMPretrain's classifiers, which MMRazor's algorithms contain, its type has a default, and
    ``train_cfg`` of the ``architecture`` is the default of ``batch_augments``.

    Raises:
        ValueError: If the ``architecture`` has a preprocessor of its own, which no image passes
            through, with other settings.
    """
    used, student = arguments.get('data_preprocessor') or {}, arguments.get('architecture')
    if isinstance(used, nn.Module) or not isinstance(student, dict):
        return arguments
    used = dict(used)
    own = dict(student.get('data_preprocessor') or {})
    for key in sorted(own.keys() - {'type'}):
        if key not in used or used[key] != own[key]:
            raise ValueError(
                f'model.architecture.data_preprocessor.{key} is not used, because the images pass '
                'through the data_preprocessor of the whole model; move it there: '
                f'data_preprocessor=dict(..., {key}={own[key]!r})'
            )
    if has_batch_augments(student):
        used.setdefault('batch_augments', student['train_cfg'])
    if not used:
        return arguments
    used.setdefault('type', 'mmpretrain.ClsDataPreprocessor')
    return dict(arguments, data_preprocessor=used)


def has_batch_augments(net: dict) -> bool:
    """Whether the config of a classifier mixes images by its ``train_cfg``, as with Mixup."""
    return bool((net.get('train_cfg') or {}).get('augments'))


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
