"""Progressively Relaxed Knowledge Distillation for OpenMMLab.

``import prkd_mm`` is all that a program needs: it patches what newer versions of PyTorch broke in
the OpenMMLab packages (:mod:`prkd_mm.compat`), then registers every class. Without MMRazor it does
neither, and only :mod:`prkd_mm.losses` and :mod:`prkd_mm.schedules` can be used, which need nothing
but PyTorch.
"""

from importlib.util import find_spec

from .version import __version__

__all__ = ['__version__']

if find_spec('mmrazor'):
    from . import compat

    compat.apply()  # before anything imports mmrazor.models

    from . import algorithms, backbones, datasets, hooks, losses

    __all__ += ['algorithms', 'backbones', 'compat', 'datasets', 'hooks', 'losses']
