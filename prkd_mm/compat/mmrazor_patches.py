"""Patches for MMRazor 1.0 on PyTorch 2."""

import functools
import importlib
import importlib.util
import sys
import types
from typing import Any, Callable

import torch

from .imports import forget
from .wrapping import wrap

_LIMIT_BEFORE = sys.getrecursionlimit()  # this module is imported before MMRazor
_LIMIT_OF_TRACERS = 2**20  # what MMRazor sets for the whole process


class _NoQuantization(dict):
    """Replacement for MMRazor's ``BackendConfigs`` whose lookups raise."""

    def __missing__(self, backend):
        raise RuntimeError(
            f'quantization for {backend!r} needs torch 1.13: MMRazor 1.0 does '
            f'not support it on torch {torch.__version__}'
        )


def quantization() -> bool:
    """Import MMRazor although its quantization does not support this PyTorch.

    mmrazor/structures/quantization/backend_config builds its tables from helpers that torch 2.0
    removed, and every MMRazor model imports it. It has a code path for a torch older than these
    helpers, which it uses if the version is 0 during the import. All MMRazor modules stay
    registered; a quantizer that needs a table raises.
    """
    import mmrazor

    name = 'mmrazor.structures.quantization'
    try:
        importlib.import_module(name)
        return False
    except (ImportError, AttributeError):
        forget(name)
    digit_version = mmrazor.digit_version

    def digit_version_of_an_old_torch(version: str):
        return digit_version('0' if version == torch.__version__ else version)

    mmrazor.digit_version = digit_version_of_an_old_torch
    try:
        importlib.import_module(name)
    finally:
        mmrazor.digit_version = digit_version
    configs = _NoQuantization()
    for module in (
        'mmrazor.structures',
        name,
        f'{name}.backend_config',
        f'{name}.backend_config.mapping',
    ):
        sys.modules[module].BackendConfigs = configs
    return True


class _LazyAttribute:
    """Attribute of a module that is imported when the attribute is first used."""

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def _get(self) -> Any:
        return getattr(importlib.import_module(self._module), self._name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._get(), name)

    def __call__(self, *args, **kwargs) -> Any:
        return self._get()(*args, **kwargs)


class _LazyModule(types.ModuleType):
    """Placeholder for a module, with lazy attributes."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__'):
            raise AttributeError(name)
        return _LazyAttribute(self.__name__, name)


def lazy_predictors() -> bool:
    """Import scipy.stats and sklearn.tree only when MMRazor's search calls them.

    Its predictors of the accuracy of searched nets (mmrazor/models/task_modules/predictor) and one
    distiller import them at the top, which takes longer than the rest of MMRazor.
    """
    missing = {
        name: _LazyModule(name)
        for name in ('scipy.stats', 'sklearn.tree')
        if name not in sys.modules and importlib.util.find_spec(name.partition('.')[0])
    }
    if not missing or 'mmrazor.models' in sys.modules:
        return False
    sys.modules.update(missing)
    try:
        importlib.import_module('mmrazor.models')
    finally:
        for name in missing:
            del sys.modules[name]
    return True


def _with_the_limit_of_tracers(function: Callable, *args, **kwargs) -> Any:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(_LIMIT_OF_TRACERS, before))
    try:
        return function(*args, **kwargs)
    finally:
        sys.setrecursionlimit(before)


def recursion_limit() -> bool:
    """Keep Python's recursion limit, which importing MMRazor sets to 1,048,576.

    With that limit an endless recursion fills the memory of the machine instead of raising
    RecursionError. MMRazor sets it at import (mmrazor/structures/graph/channel_flow.py and
    mmrazor/models/task_modules/tracer/fx_tracer.py); here it holds only while one of its tracers
    runs.
    """
    importlib.import_module('mmrazor.models')
    if sys.getrecursionlimit() <= _LIMIT_BEFORE:
        return False
    sys.setrecursionlimit(_LIMIT_BEFORE)
    tracer = 'mmrazor.models.task_modules.tracer'
    graph = 'mmrazor.structures.graph.channel_graph'
    for module, owner, name in (
        (f'{tracer}.backward_tracer', 'BackwardTracer', 'trace'),
        (f'{tracer}.fx_tracer', 'FxTracer', 'trace'),
        (f'{tracer}.fx.custom_tracer', 'CustomTracer', 'trace'),
        (f'{tracer}.channel_analyzer', 'ChannelAnalyzer', 'analyze'),
        (graph, 'ChannelGraph', 'forward'),
        (graph, 'ChannelGraph', 'generate_units_config'),
    ):
        cls = getattr(importlib.import_module(module), owner)
        wrap(cls, name, _with_the_limit_of_tracers)
    return True


def _set_module_inplace_false(self, architecture: Any, varstr: str) -> None:
    """Make every activation of ``architecture`` write to a new tensor."""
    for module in architecture.modules():
        if hasattr(module, 'inplace'):
            module.inplace = False


def in_place_activations() -> bool:
    """Let feature recorders keep a layer's output, without the in-place ReLU after it.

    MMRazor switches ``inplace`` off in student and teacher (mmrazor/models/algorithms/base.py), but
    looks only at children that are held in an ``OrderedDict``. From torch 2.13 on they are held in
    a ``dict``, and a recorder of a batch norm then returns its output after the ReLU.
    """
    from mmrazor.models.algorithms.base import BaseAlgorithm

    net = torch.nn.Sequential(torch.nn.ReLU(inplace=True))
    algorithm = types.SimpleNamespace(net=net)
    algorithm.set_module_inplace_false = functools.partial(
        BaseAlgorithm.set_module_inplace_false, algorithm
    )
    algorithm.set_module_inplace_false(net, 'self.net')  # MMRazor evaluates it as Python
    if not net[0].inplace:
        return False
    BaseAlgorithm.set_module_inplace_false = _set_module_inplace_false
    return True


def _keep_output(self, module: torch.nn.Module, inputs: tuple, outputs: Any) -> Any:
    """Record the output of ``module``, and let the net continue with a copy of it."""
    if not self.recording:
        return None
    self.data_buffer.append(outputs)
    return outputs.clone() if isinstance(outputs, torch.Tensor) else None


def recorded_outputs() -> bool:
    """Let feature recorders keep a layer's output where the net then changes it in place.

    In MMPretrain's residual blocks, ``out += identity`` changes the output of
    the last batch norm, which a recorder of it then returned as the sum.
    """
    from mmrazor.models.task_modules.recorder import ModuleOutputsRecorder

    net = torch.nn.Sequential(torch.nn.Identity(), torch.nn.ReLU(inplace=True))
    recorder = ModuleOutputsRecorder('0')
    recorder.initialize(net)
    with recorder:
        net(-torch.ones(1))
    if recorder.get_record_data() < 0:
        return False
    ModuleOutputsRecorder.forward_hook = _keep_output
    return True
