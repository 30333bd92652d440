"""Patches for MMEngine 0.10 on newer PyTorch and setuptools."""

import importlib
import importlib.metadata
import importlib.util
import io
import os.path as osp
import pickle
import sys
import types
import warnings
from typing import Optional

import numpy as np
import torch

PACKAGE = 'prkd_mm'


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

    That is the default from torch 2.6 on. MMEngine 0.10
    (mmengine/runner/checkpoint.py) uses the default, and stores its log
    histories in every checkpoint, and the annealing function of a one-cycle
    schedule. Only the types that these consist of are allowed; the check
    itself stays on.

    Returns:
        Whether the patch was needed.
    """
    from mmengine.logging import HistoryBuffer
    from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler

    file = io.BytesIO()
    torch.save(HistoryBuffer([1.0], [1]), file)
    file.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # 2.4 and 2.5 announce the change
            torch.load(file)
        return False
    except pickle.UnpicklingError:
        pass
    dtypes = {type(np.dtype(code)) for code in '?bhilqBHILQefd'}
    allowed = [HistoryBuffer, OneCycleParamScheduler, np.ndarray, np.dtype, *dtypes]
    allowed += [(_stored_function, 'builtins.getattr')]
    # The modules that numpy 1 and numpy 2 store for these two: read files of both.
    array, scalar = (x.__reduce__()[0] for x in (np.zeros(1), np.float64(0)))
    for core in ('numpy.core', 'numpy._core'):
        allowed += [
            (array, f'{core}.multiarray._reconstruct'),
            (scalar, f'{core}.multiarray.scalar'),
        ]
    torch.serialization.add_safe_globals(allowed)
    return True


def _folder(package: str) -> Optional[str]:
    """Folder that ``import package`` would use, or None."""
    spec = importlib.util.find_spec(package)
    return osp.dirname(spec.origin) if spec and spec.origin else None


def _lookup_works() -> bool:
    """Whether mmengine/utils/package_utils.py finds this package."""
    if importlib.util.find_spec('pkg_resources') is None:
        return False  # removed from setuptools 82
    try:
        installed = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return True  # a bare checkout: it uses the import system itself
    # It expects a package next to its metadata, which an editable install is not.
    package = osp.dirname(osp.dirname(__file__))
    return osp.realpath(str(installed.locate_file(PACKAGE))) == osp.realpath(package)


def package_lookup() -> bool:
    """Let MMEngine find the folder of a package, for ``package::config``.

    If its own lookup does not work here, the import system comes first.

    Returns:
        Whether the patch was needed.
    """
    utils = importlib.import_module('mmengine.utils')
    if _lookup_works():
        return False
    was_installed, installed_path = (utils.is_installed, utils.get_installed_path)

    def is_installed(package: str) -> bool:
        return _folder(package) is not None or was_installed(package)

    def get_installed_path(package: str) -> str:
        return _folder(package) or installed_path(package)

    for name in (
        'mmengine.utils',
        'mmengine.utils.package_utils',
        'mmengine.config.config',
        'mmengine.hub.hub',
    ):
        if name in sys.modules:  # each holds its own reference to both
            sys.modules[name].is_installed = is_installed
            sys.modules[name].get_installed_path = get_installed_path
    return True
