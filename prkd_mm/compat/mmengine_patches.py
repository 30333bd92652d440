"""Patches for MMEngine 0.10 on newer PyTorch and setuptools."""

import codecs
import importlib
import importlib.util
import io
import os.path as osp
import pickle
import sys
import types
from collections.abc import Callable
from typing import Any, Optional

import numpy as np
import torch

from .wrapping import wrap


def _stored_function(owner, name: str):
    """Replacement for ``getattr`` in a checkpoint: finds the functions that MMEngine stores."""
    from mmengine.logging import HistoryBuffer
    from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler

    if owner is HistoryBuffer and not name.startswith('_'):
        function = vars(owner).get(name)
    elif owner is OneCycleParamScheduler and name in ('_annealing_cos', '_annealing_linear'):
        function = getattr(owner, name)
    else:
        function = None
    if not isinstance(function, types.FunctionType):
        raise pickle.UnpicklingError(f'a checkpoint may not call getattr({owner!r}, {name!r})')
    return function


def checkpoint_globals() -> bool:
    """Let torch.load read MMEngine's own checkpoints with ``weights_only=True``.

    MMEngine 0.10 (mmengine/runner/checkpoint.py) stores its log histories in
    every checkpoint, the annealing function of a one-cycle schedule, and the
    ``metainfo`` of the training set, which may contain parts of a config. Only
    the types that these consist of are allowed; the check itself stays on.
    """
    from mmengine.config import ConfigDict
    from mmengine.logging import HistoryBuffer
    from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler

    file = io.BytesIO()
    torch.save(HistoryBuffer([1.0], [1]), file)
    file.seek(0)
    try:
        torch.load(file, weights_only=True)
        return False
    except pickle.UnpicklingError:
        pass
    dtypes = {type(np.dtype(code)) for code in '?bhilqBHILQefdFDUSMm'}
    allowed = [HistoryBuffer, OneCycleParamScheduler, ConfigDict, np.ndarray, np.dtype, *dtypes]
    allowed.append(_under_name(_stored_function, 'builtins', 'getattr'))
    # torch 2.4 allows neither sets nor complex numbers, nor the bytes of arrays
    allowed += [set, complex, codecs.encode]
    # numpy 1 and numpy 2 store different module names for these two functions; allow both.
    array: Any = np.zeros(1).__reduce__()[0]
    scalar: Any = np.float64(0).__reduce__()[0]
    for core in ('numpy.core', 'numpy._core'):
        allowed.append(_under_name(array, f'{core}.multiarray', '_reconstruct'))
        allowed.append(_under_name(scalar, f'{core}.multiarray', 'scalar'))
    torch.serialization.add_safe_globals(allowed)
    return True


def _under_name(function: Any, module: str, name: str) -> Callable:
    """A copy of a function under another name.

    torch 2.4 and 2.5 accept no pair of function and name in ``add_safe_globals``.
    """

    def call(*args):
        return function(*args)

    call.__module__, call.__name__, call.__qualname__ = module, name, name
    return call


def checkpoint_loaders() -> bool:
    """Let MMEngine read all files and URLs with ``weights_only=True`` and say why it refuses one.

    MMEngine 0.10 (mmengine/runner/checkpoint.py) does not pass ``weights_only``. Without it, torch
    before 2.6 executes code that is in a file, and every version executes code that is in the file
    of a URL (torch/hub.py).
    """
    from ..checkpoints import load_from_local, read_url

    module = importlib.import_module('mmengine.runner.checkpoint')
    if module.load_url is read_url:
        return False
    module.CheckpointLoader.register_scheme('', load_from_local, force=True)
    module.load_url = read_url
    return True


def _folder(package: str) -> Optional[str]:
    """Folder that ``import package`` would use, or None."""
    spec = importlib.util.find_spec(package)
    return osp.dirname(spec.origin) if spec and spec.origin else None


def _is_installed(is_installed: Callable, package: str) -> bool:
    return _folder(package) is not None or is_installed(package)


def _get_installed_path(get_installed_path: Callable, package: str) -> str:
    return _folder(package) or get_installed_path(package)


def package_lookup() -> bool:
    """Let MMEngine find the folder of a package as ``import`` does, for ``package::config``.

    Its own lookup (mmengine/utils/package_utils.py) does not follow editable installs, and it
    reloads pkg_resources each time, which is slow and warns, and which setuptools 82 removed.
    """
    found = []
    for name in ('utils', 'utils.package_utils', 'config.config', 'hub.hub'):
        module = sys.modules.get(f'mmengine.{name}')
        for function in (_is_installed, _get_installed_path):
            own_name = function.__name__[1:]
            if hasattr(module, own_name):  # each module holds its own reference
                found.append(wrap(module, own_name, function))
    return any(found)


_last_text: dict[str, tuple] = {}


def _format_once(format_code: Callable, text: str, *args, **kwargs) -> tuple:
    key = repr((text, args, kwargs))
    if key not in _last_text:
        formatted = format_code(text, *args, **kwargs)
        _last_text.clear()
        _last_text[key] = formatted
    return _last_text[key]


def config_format() -> bool:
    """Format the text of a config once, not for each log entry and checkpoint.

    MMEngine writes the config into every checkpoint. Formatting it takes 0.1 s, which is a large
    part of a short epoch.
    """
    return wrap(importlib.import_module('mmengine.config.config'), 'FormatCode', _format_once)
