"""Imports that warn about, or fail on, parts that distillation does not use."""

import contextlib
import importlib
import importlib.util
import sys
import warnings
from collections.abc import Iterator

import torch

_libraries: list[torch.library.Library] = []  # operator schemas exist only as long as their Library


@contextlib.contextmanager
def without_warning(start: str) -> Iterator[None]:
    """Suppress the warnings of a block whose message begins with ``start``."""
    with warnings.catch_warnings(record=True) as caught:
        yield
    for warning in caught:
        if not str(warning.message).startswith(start):
            warnings.showwarning(
                warning.message, warning.category, warning.filename, warning.lineno
            )


def import_quietly() -> None:
    """Import modules whose import-time warnings are noise, with those warnings suppressed."""
    if importlib.util.find_spec('mmcv') is None:
        raise ImportError(
            'prkd_mm needs MMCV: `pip install mmcv-lite==2.1.0`, or mmcv '
            'itself if you use its compiled operators (never both)'
        )
    # Some versions of torch warn about TorchScript regardless of the filters, whenever
    # MMEngine is imported (mmengine/optim/optimizer/zero_optimizer.py).
    with without_warning('`TorchScript` support'), contextlib.suppress(ImportError):
        importlib.import_module('torch.distributed.optim')
    # Leaving a block resets the warning filters that its imports set, so each
    # block imports as little as possible.
    importlib.import_module('mmengine.model')
    # mmcv-lite: a compiled operator that only detection models use.
    with without_warning('Fail to import ``MultiScaleDeformableAttention``'):
        importlib.import_module('mmcv.cnn.bricks.transformer')


def forget(package: str) -> None:
    """Drop a package whose import failed halfway, so that it can be imported again."""
    for name in list(sys.modules):
        if name == package or name.startswith(package + '.'):
            del sys.modules[name]


def torchvision_ops() -> bool:
    """Import torchvision even if its compiled operators cannot be loaded.

    This happens if torch is a CPU build and torchvision a CUDA build:
    torchvision/_meta_registrations.py then describes an operator that is not defined. A bare schema
    is enough for transforms and models. The operators themselves remain unusable. Because
    torchvision raises an error when one is called, there is no warning here.
    """
    try:
        importlib.import_module('torchvision')
        return False
    except RuntimeError as error:
        if 'torchvision::nms' not in str(error):
            raise
    forget('torchvision')
    library = torch.library.Library('torchvision', 'FRAGMENT')
    for name in ('nms', 'qnms'):
        library.define(f'{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
    _libraries.append(library)
    importlib.import_module('torchvision')
    return True
