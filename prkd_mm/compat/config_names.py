"""Names under which MMEngine finds configs: ``prkd_mm::``, ``mmcls::`` and ``read_base``."""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os.path as osp
import sys
import types
from typing import Callable

from .wrapping import wrap

PACKAGE = 'prkd_mm'
CONFIGS = osp.join(osp.dirname(osp.dirname(osp.abspath(__file__))), '.mim', 'configs')


class _MMPretrainAsMMCls(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Import ``mmcls.x`` as the module ``mmpretrain.x``."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition('.')[0] == 'mmcls':
            return importlib.machinery.ModuleSpec(fullname, self)
        return None

    def create_module(self, spec) -> types.ModuleType:
        module = importlib.import_module('mmpretrain' + spec.name[len('mmcls') :])
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        # The import system has replaced the specification of the module.
        module.__spec__ = module.__spec__.loader_state


def mmcls_name() -> bool:
    """Let the name ``mmcls`` stand for MMPretrain, its successor.

    MMRazor 1.0 imports MMPretrain under that name, and its distillation
    configs inherit from ``mmcls::`` and build types such as
    ``mmcls.ImageNet``. Nothing changes if MMClassification is installed.
    """
    from mmengine.config.utils import MODULE2PACKAGE
    from mmengine.registry import Registry

    if importlib.util.find_spec('mmcls') is not None:
        return False
    sys.meta_path.insert(0, _MMPretrainAsMMCls())
    MODULE2PACKAGE['mmcls'] = 'mmpretrain'
    registries = vars(importlib.import_module('mmpretrain.registry')).values()
    for registry in [each for each in registries if isinstance(each, Registry)]:
        alias = Registry(
            registry.name,
            scope='mmcls',
            parent=registry.parent,
            build_func=registry.build_func,
            locations=registry._locations,
        )
        alias._module_dict = registry._module_dict
    return True


def _path_without_own_scope(get_path: Callable, cfg_path: str, filename: str) -> tuple:
    package, _, name = cfg_path.partition('::')
    if package == PACKAGE and name:
        return osp.join(CONFIGS, name), None
    return get_path(cfg_path, filename)


def prkd_mm_name() -> bool:
    """Let a config inherit from ``prkd_mm::prkd/<config>.py``.

    MMEngine must know the package. It also adds ``_scope_='prkd_mm'`` to everything that is
    inherited, and then no ``collate_fn`` can be built (mmengine/runner/runner.py). This patch omits
    the scope, so that such a base means the same as the file.
    """
    from mmengine.config import Config
    from mmengine.config.utils import MODULE2PACKAGE

    MODULE2PACKAGE[PACKAGE] = PACKAGE
    return wrap(Config, '_get_cfg_path', _path_without_own_scope)


def _parse_either_style(parse_lazy_import: Callable, filename: str) -> tuple:
    from mmengine.config import Config

    own = osp.realpath(filename).startswith(osp.realpath(CONFIGS) + osp.sep)
    if own and not Config._is_lazy_import(filename):
        return Config.fromfile(filename, lazy_import=False)._cfg_dict, set()
    return parse_lazy_import(filename)


def _folder_of_configs(get_installed_path: Callable, package: str) -> str:
    return osp.dirname(CONFIGS) if package == PACKAGE else get_installed_path(package)


def config_bases() -> bool:
    """Let pure-Python configs inherit from the configs of this package.

    ``with read_base(): from prkd_mm.configs.prkd.x import *`` expects the base to be a pure-Python
    config, too, but the configs of this package inherit by ``_base_``. They exist only in the
    folder ``.mim``, since OpenMMLab's ``mim`` finds a config by its file name and rejects a name
    that it finds twice.
    """
    module = importlib.import_module('mmengine.config.config')
    wrap(module, 'get_installed_path', _folder_of_configs)
    return wrap(module.Config, '_parse_lazy_import', _parse_either_style)
