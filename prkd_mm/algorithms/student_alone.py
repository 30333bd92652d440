import copy
from typing import Any, Optional

from mmengine.config import Config, ConfigDict
from mmengine.hub import get_config
from mmrazor.models.algorithms import BaseAlgorithm
from mmrazor.registry import MODELS

from ..config_types import is_type


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


# settings of a data preprocessor that change the images or labels
_PREPROCESSING = ('mean', 'std', 'to_rgb', 'to_onehot', 'batch_augments')


def with_preprocessor(arguments: dict) -> dict:
    """Complete the data preprocessor in the arguments of an algorithm.

    As in MMPretrain's classifiers, which MMRazor's algorithms contain, its type has a default, and
    ``train_cfg`` of the ``architecture`` is the default of ``batch_augments``. Without one, MMRazor
    uses that of the ``architecture``.

    Raises:
        ValueError: If the ``architecture`` also has one, which no image passes through, with other
            settings.
    """
    used, student = arguments.get('data_preprocessor'), arguments.get('architecture')
    if not isinstance(used, dict):
        return arguments
    student = net_config(student) if isinstance(student, dict) else {}
    own = student.get('data_preprocessor') or {}
    for key in _PREPROCESSING:
        wanted, found = (_plain(settings.get(key)) for settings in (own, used))
        if wanted and wanted != found:
            raise ValueError(
                f'model.architecture.data_preprocessor.{key} is not used, because the images pass '
                'through the data_preprocessor of the whole model; move it there: '
                f'data_preprocessor=dict(..., {key}={wanted!r})'
            )
    used = dict(used)
    used.setdefault('type', 'mmpretrain.ClsDataPreprocessor')
    if has_batch_augments(student):
        used.setdefault('batch_augments', student['train_cfg'])
    return dict(arguments, data_preprocessor=used)


def net_config(net: dict) -> dict:
    """The config of a net, read from the package that its ``cfg_path`` names, if it has one."""
    return get_config(net['cfg_path']).model if 'cfg_path' in net else net


def has_batch_augments(net: dict) -> bool:
    """Whether the config of a classifier mixes images by its ``train_cfg``, as with Mixup."""
    return bool((net_config(net).get('train_cfg') or {}).get('augments'))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value


def is_alone(cfg: Config) -> bool:
    """Whether a run ignores the teacher in its config, because it trains :class:`StudentAlone`."""
    return is_type(cfg.model, 'StudentAlone')


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
