"""The images of a data loader's config: how they are chosen, loaded and prepared."""

import inspect
from collections.abc import Iterator
from typing import Any, Optional

from mmengine.config import ConfigDict
from mmpretrain.registry import DATASETS, TRANSFORMS

from ..config_types import type_name

_WHOLE = 'PackedImages', 'ImageViews'  # wrappers that leave the choice of the images as it is
_ARRAYS = {'CIFAR10', 'CIFAR100', 'Digits', 'FashionMNIST', 'MNIST'}  # which need no loader
_LIBRARIES = 'mmcv', 'mmpretrain', 'prkd_mm', 'torchvision'


def unwrapped(dataset: ConfigDict) -> ConfigDict:
    """A data set without ``PackedImages`` and ``ImageViews``, but with their pipeline.

    Other wrappers, such as ``KFoldDataset``, choose some of the images, so they stay. The config is
    modified.
    """
    if type_name(dataset) in _WHOLE:
        inner = unwrapped(dataset.dataset)
        if dataset.get('pipeline'):
            inner.pipeline = dataset.pipeline
        return inner
    if _members(dataset):
        if 'datasets' in dataset:
            dataset.datasets = [unwrapped(member) for member in dataset.datasets]
        else:
            dataset.dataset = unwrapped(dataset.dataset)
    return dataset


def pipeline_of(dataset: dict) -> list[dict]:
    """The pipeline of a data set, or of those that it wraps.

    Raises:
        ValueError: If the config does not contain it, or the wrapped data sets have several.
    """
    found = []
    for holder in _holders(dataset):
        steps = holder.get('pipeline')
        if steps is None and not _has_arrays(holder):
            raise ValueError(
                f'the data set {type_name(holder)!r} has no `pipeline` in the config, so it is '
                'unknown how its images are loaded and prepared: write the pipeline into the '
                'config, as pipeline=[...] of the data set'
            )
        found.append(steps or [])
    if any(steps != found[0] for steps in found):
        raise ValueError(
            f'the data sets inside of {type_name(dataset)!r} have different pipelines, so it is '
            'unknown how an image is prepared: give all of them the same pipeline'
        )
    return found[0]


def set_pipeline(dataset: dict, pipeline: list[dict]) -> None:
    """Let a data set, or those that it wraps, prepare their images by another pipeline."""
    for holder in _holders(dataset):
        holder['pipeline'] = pipeline


def reads_files(dataset: dict) -> bool:
    """Whether the images of a data set are files, which MMCV reads as BGR; arrays are RGB.

    Raises:
        ValueError: If this is unknown, because a transform of another package may load them, or
            differs between wrapped data sets.
    """
    answers = {_reads_files(holder) for holder in _holders(dataset)}
    if len(answers) > 1:
        raise ValueError(
            f'some data sets inside of {type_name(dataset)!r} read files, in which MMCV has BGR, '
            'and others are RGB arrays: let all of them load their images in one way'
        )
    return answers.pop()


def _reads_files(dataset: dict) -> bool:
    pipeline = pipeline_of(dataset)
    if any(map(loads, _steps(pipeline))):
        return True
    if not pipeline or _of_libraries(pipeline[0]) or all(map(_has_arrays, _leaves(dataset))):
        return False
    name = type_name(pipeline[0])
    registered = _class_of(pipeline[0], TRANSFORMS)
    cause = 'is no subclass of LoadImageFromFile' if registered else 'is not registered here'
    advice = (
        'let it inherit from LoadImageFromFile if it loads the images, or else put it after a '
        'transform of MMPretrain'
        if registered
        else 'use a config whose custom_imports name its module (--config)'
    )
    raise ValueError(
        f'the pipeline begins with {name!r}, which {cause}, so it is unknown whether the '
        f'images are BGR, as in files that MMCV reads, or RGB, as in arrays: {advice}'
    )


def loads(step: dict) -> bool:
    """Whether a step of a pipeline loads image files, as ``LoadImageFromFile`` does."""
    return _is_a(step, TRANSFORMS, {'LoadImageFromFile'})


def _steps(value: Any) -> Iterator[dict]:
    """The transforms in a pipeline, also those inside of others such as ``RandomChoice``."""
    if isinstance(value, dict):
        if value.get('type'):
            yield value
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for each in value:
            yield from _steps(each)


def _members(dataset: dict) -> list[dict]:
    """The data sets inside of a wrapper."""
    inner = dataset['datasets'] if 'datasets' in dataset else [dataset.get('dataset')]
    inner = inner if isinstance(inner, (list, tuple)) else [inner]
    return [member for member in inner if isinstance(member, dict)]


def _holders(dataset: dict) -> Iterator[dict]:
    """The data sets whose ``pipeline`` applies: a wrapper's own replaces those inside."""
    members = _members(dataset)
    if dataset.get('pipeline') is not None or not members:
        yield dataset
        return
    for member in members:
        yield from _holders(member)


def _leaves(dataset: dict) -> Iterator[dict]:
    members = _members(dataset)
    if not members:
        yield dataset
    for member in members:
        yield from _leaves(member)


def _has_arrays(dataset: dict) -> bool:
    return _is_a(dataset, DATASETS, _ARRAYS)


def _of_libraries(step: dict) -> bool:
    kind = _class_of(step, TRANSFORMS)
    return kind is not None and kind.__module__.partition('.')[0] in _LIBRARIES


def _is_a(cfg: dict, registry: Any, names: set[str]) -> bool:
    """Whether a config builds a class of one of these names, or a subclass."""
    kind = _class_of(cfg, registry)
    if kind is None:
        return type_name(cfg) in names
    return any(parent.__name__ in names for parent in inspect.getmro(kind))


def _class_of(cfg: dict, registry: Any) -> Optional[type]:
    kind = cfg.get('type')
    found = registry.get(kind) if isinstance(kind, str) else kind
    return found if inspect.isclass(found) else None
