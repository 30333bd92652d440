"""Check numbers of classes and metrics before a run computes anything."""

from typing import Any, Optional

from mmengine.runner import Runner
from mmpretrain.models import ImageClassifier

from ..config_types import is_type, type_name
from ..evaluation import unwrap
from .number_checks import check_whole_number

# What validation loops put before the names of metrics (mmrazor/engine/runner/distill_val_loop.py)
_OWNERS = dict(
    ValLoop=('',), SelfDistillValLoop=('student.',), SingleTeacherDistillValLoop=('', 'teacher.')
)


def check_metrics(cfg: dict) -> None:
    """Reject a top-k accuracy and a choice of the best checkpoint that cannot be computed.

    MMEngine reports both only after the first epoch.

    Raises:
        ValueError: If ``topk`` of an ``Accuracy`` is above the number of classes, or if
            ``save_best`` names a metric that the validation does not compute.
    """
    classes = num_classes(cfg.get('model'))
    check_whole_number('num_classes of the head', classes, optional=True)
    for name in ('val_evaluator', 'test_evaluator'):
        for metric in metrics_of(cfg.get(name)):
            if is_type(metric, 'Accuracy'):
                _check_topk(metric, name, classes)
    _check_save_best(cfg)


def num_classes(net: Any) -> Optional[int]:
    """Number of classes of a net, an algorithm or its config, or None if it is not declared."""
    net = _member(net, 'architecture') or net
    head = _member(net, 'head')  # which a TimmClassifier does not have
    return _member(net if head is None else head, 'num_classes')


def in_channels(model: Any) -> Optional[int]:
    """Number of image channels that the config of a net declares, or None."""
    net = _member(model, 'architecture') or model
    return _member(_member(net, 'backbone'), 'in_channels')


def metrics_of(evaluator: Any) -> list[dict]:
    """Configs of the metrics that the config of an evaluator contains."""
    if isinstance(evaluator, dict):
        evaluator = evaluator.get('metrics', [evaluator])
    return [metric for metric in _as_list(evaluator) if isinstance(metric, dict)]


def check_images(runner: Runner) -> None:
    """Raise a ValueError if the net has no head, or expects images with other channels."""
    model = unwrap(runner.model)
    net = getattr(model, 'architecture', model)
    # other classifiers, such as TimmClassifier, compute their loss without a head
    if isinstance(net, ImageClassifier) and not net.with_head:
        raise ValueError('the net has no head, so it has no loss; add model.head to the config')
    images = getattr(runner.train_dataloader.dataset, 'images', None)
    expected = in_channels(runner.cfg.get('model'))
    if images is None or expected is None:
        return
    mean = getattr(model.data_preprocessor, 'mean', None)
    channels = max(images.shape[1], 1 if mean is None else mean.numel())  # they are broadcast
    if channels != expected:
        raise ValueError(
            f'the training images have {channels} channels, but in_channels of the backbone is '
            f'{expected}'
        )


def _member(net: Any, name: str) -> Any:
    return net.get(name) if isinstance(net, dict) else getattr(net, name, None)


def _as_list(value: Any) -> list:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _check_topk(metric: dict, evaluator: str, classes: Optional[int]) -> None:
    for k in _as_list(metric.get('topk', 1)):
        check_whole_number(f'topk of {evaluator}', k)
        if classes is not None and k > classes:
            raise ValueError(
                f'topk of {evaluator} must be at most the number of classes, {classes}; got {k}'
            )


def _check_save_best(cfg: dict) -> None:
    """Compare ``save_best`` with the metrics, if the names of all metrics are known."""
    loop = cfg.get('val_cfg') or {}
    owners = _OWNERS.get(type_name(loop)) if loop.get('type') else ('',)
    if owners is None:
        return
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    known = []
    for metric in metrics_of(cfg.get('val_evaluator')):
        if not is_type(metric, 'Accuracy') or isinstance(metric.get('thrs'), (list, tuple)):
            return
        prefix = metric.get('prefix') or 'accuracy'
        topk = _as_list(metric.get('topk', 1))
        known += [f'{owner}{prefix}/top{k}' for owner in owners for k in topk]
    for name in _as_list(hook.get('save_best')):
        if name not in (None, 'auto', *known):
            raise ValueError(
                'default_hooks.checkpoint.save_best must be a metric of val_evaluator '
                f'({", ".join(known) or "it has none"}) or auto, got {name!r}'
            )
