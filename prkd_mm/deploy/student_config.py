"""The plain MMPretrain config of a run's student, without teacher and distillation."""

import copy
import json
from typing import Any, Callable, Optional

from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS

from ..algorithms.student_alone import net_config
from ..checks.metric_checks import num_classes
from ..config_types import is_type, type_name, types_in
from ..datasets.pipelines import loads, pipeline_of, reads_files, set_pipeline, unwrapped

_PREPROCESSORS = ('BatchClsDataPreprocessor', 'ClsDataPreprocessor', 'ImgDataPreprocessor')


def student_config(cfg: Config) -> Config:
    """Config with which MMPretrain alone builds, tests and runs the student (or a net alone).

    Raises:
        ValueError: If the config has no data preprocessor or no test images, or does not tell how
            these are loaded and prepared.
    """
    net = copy.deepcopy(net_config(cfg.model.get('architecture', cfg.model)))
    net.pop('_scope_', None)
    net.pop('data_preprocessor', None)
    plain: dict[str, Any] = dict(
        default_scope='mmpretrain', model=net, data_preprocessor=_preprocessor(cfg, net)
    )
    for key in ('test_dataloader', 'test_evaluator', 'test_cfg'):
        if cfg.get(key) is not None:
            plain[key] = copy.deepcopy(cfg[key])
    if 'test_dataloader' not in plain:
        raise ValueError('the config has no test_dataloader, which defines how images are prepared')
    loader = plain['test_dataloader']
    loader.dataset = unwrapped(loader.dataset)
    if len(plain['data_preprocessor']['mean']) == 3:
        reads_files(loader.dataset)  # fails before an export swaps red and blue
    loader.pop('collate_fn', None)
    loader.collate_fn = dict(type='default_collate')
    loader.num_workers, loader.persistent_workers = 0, False
    loader.pop('worker_init_fn', None)
    if any(_is_own(kind) for kind in types_in(plain)):
        # the net alone may be used where this package is not installed, its test images not
        needed = any(_is_own(kind) for kind in types_in(net))
        plain['custom_imports'] = dict(imports=['prkd_mm'], allow_failed_imports=not needed)
    return Config(Config(plain).to_dict())


def _preprocessor(cfg: Config, net: dict) -> dict:
    found = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor')
    if not found:
        raise ValueError('the config has no data_preprocessor, which defines how images are scaled')
    kind = type_name(found) if 'type' in found else 'ClsDataPreprocessor'
    if kind not in _PREPROCESSORS:
        raise ValueError(
            f'the data preprocessor {kind!r} of the student has no equivalent in MMPretrain; '
            f'supported: {", ".join(_PREPROCESSORS)}'
        )
    to_rgb = found.get('to_rgb', found.get('bgr_to_rgb', False))
    return dict(
        type='ClsDataPreprocessor',
        mean=list(found.mean),
        std=list(found.std),
        to_rgb=to_rgb,
        num_classes=found.get('num_classes', num_classes(net)),
    )


def _is_own(kind: str) -> bool:
    from mmpretrain.registry import DATASETS
    from mmpretrain.registry import MODELS as NETS

    for registry in (NETS, MODELS, DATASETS):
        found = registry.module_dict.get(kind)
        if found is not None:
            return found.__module__.startswith('prkd_mm.')
    return False


def _image_size(pipeline: Optional[list]) -> Optional[int]:
    """Side length of the images after a pipeline; None if it neither crops nor resizes."""
    for step in reversed(pipeline or []):
        size = step.get('crop_size') or step.get('scale')
        if size:
            return int(size if isinstance(size, (int, float)) else size[0])
    return None


def preparation(plain: Config, size: int) -> list[dict]:
    """Steps of the test pipeline between loading and packing an image, for images of any size.

    If the pipeline of the config neither crops nor resizes, the shorter edge is resized to
    ``size``, then the center is cropped; the latter also if it only resizes one edge, which is
    enough for square images.
    """
    pipeline = pipeline_of(plain.test_dataloader.dataset)
    steps = [step for step in pipeline if not loads(step) and not is_type(step, 'PackInputs')]
    sizing = [step for step in steps if step.get('crop_size') or step.get('scale')]
    crop = dict(type='CenterCrop', crop_size=size)
    if not sizing:
        resize = dict(type='ResizeEdge', scale=size, backend='pillow')  # which antialiases
        return [resize, crop, *steps]
    return [*steps, crop] if is_type(sizing[-1], 'ResizeEdge') else steps


def shorter_edge(steps: list[dict]) -> Optional[int]:
    """Shorter edge to which images are resized before their center is cropped.

    It is None if these are not all of the steps.
    """
    types = ['ResizeEdge', 'CenterCrop']
    if len(steps) != len(types) or not all(map(is_type, steps, types)):
        return None
    return steps[0]['scale'] if steps[0].get('edge', 'short') == 'short' else None


def preparation_text(steps: list[dict]) -> str:
    """Description of the :func:`preparation` of an image, for programs without MMPretrain."""
    if shorter_edge(steps) is None:
        return 'turned upright; then the steps in `pipeline`, which are transforms of MMPretrain'
    how = steps[0].get('interpolation', 'bilinear')
    with_pillow = steps[0].get('backend') == 'pillow'
    how += ', Pillow, antialiased' if with_pillow else ', OpenCV, not antialiased'
    return f'turned upright; shorter edge resized to `resize` ({how}); center cropped to `size`'


def reads_bgr(plain: Config) -> bool:
    """Whether the color images of a plain config are BGR, as MMCV reads files; arrays are RGB."""
    return reads_files(plain.test_dataloader.dataset)


def at_size(described: dict[str, Any], size: int) -> dict[str, Any]:
    """The result of :func:`describe` with test and training images of another size.

    Pipelines that neither crop nor resize stay as they are.
    """
    described = copy.deepcopy(described)
    images = described['config']['test_dataloader']['dataset']
    pipeline = pipeline_of(images)
    old = _image_size(pipeline)
    described['size'] = size
    if not old or old == size:
        return described

    def scaled(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return tuple(scaled(each) for each in value)
        return value * size // old

    for step in pipeline:
        step.update((key, scaled(step[key])) for key in ('scale', 'crop_size') if step.get(key))
    for dataset in filter(None, (images, described.get('train_dataset'))):
        set_pipeline(dataset, pipeline)
    return described


def pipeline_for_files(plain: Config, size: int) -> list[dict]:
    """Pipeline of a plain config for image files of any size, which MMCV reads as BGR."""
    pipeline = pipeline_of(plain.test_dataloader.dataset)
    loading = [step for step in pipeline if loads(step)]
    if not loading:  # the images of the data set are RGB arrays
        loading = [dict(type='NumpyToPIL', to_rgb=True), dict(type='PILToNumpy')]
    packing = [step for step in pipeline if is_type(step, 'PackInputs')]
    return [*loading, *preparation(plain, size), *packing]


def describe(cfg: Config) -> dict[str, Any]:
    """What a checkpoint stores about the config of its run, in plain types.

    ``config`` is that of :func:`student_config`. The others are None if they are unknown: the
    ``size`` of the images, the ``train_dataset``, prepared as the test images are, and the
    ``teacher``.

    Raises:
        ValueError: As :func:`student_config` does.
    """
    plain = student_config(cfg)
    test_pipeline, train, size = pipeline_of(plain.test_dataloader.dataset), None, None
    if cfg.get('train_dataloader'):
        train, size = _training_images(cfg.train_dataloader.dataset, test_pipeline)
    teacher = cfg.model.get('teacher')
    return Config(
        dict(
            config=plain.to_dict(),
            size=_image_size(test_pipeline) or size,
            train_dataset=train,
            teacher=teacher if isinstance(teacher, dict) and 'type' in teacher else None,
        )
    ).to_dict()


def _training_images(
    dataset: ConfigDict, test_pipeline: list[dict]
) -> tuple[Optional[dict], Optional[int]]:
    """Training images, prepared as the test images are, and their size; None if unknown."""
    dataset = unwrapped(copy.deepcopy(dataset))
    try:
        size = _image_size(pipeline_of(dataset))
    except ValueError:
        return None, None
    set_pipeline(dataset, test_pipeline)
    return dataset.to_dict(), size


def describe_config(cfg: Config) -> str:
    """JSON text of :func:`describe`, for a checkpoint's ``meta``."""
    return json.dumps(describe(cfg))


def describe_if_possible(cfg: Config, file: str, warn: Callable[[str], None]) -> dict[str, str]:
    """``student_config`` for the ``meta`` of a file; without it, after a warning, if unknown."""
    try:
        return dict(student_config=describe_config(cfg))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        warn(f'{file} does not contain its config: {error}')
        return {}
