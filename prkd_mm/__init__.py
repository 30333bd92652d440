"""Progressively Relaxed Knowledge Distillation for OpenMMLab.

``import prkd_mm`` is all that a program needs: it patches what newer versions
of PyTorch broke in the OpenMMLab packages (:mod:`prkd_mm.compat`), then
registers every class.
"""

from . import compat

compat.apply()  # before anything imports mmrazor.models

from . import algorithms, backbones, datasets, hooks, losses  # noqa: E402
from .version import __version__  # noqa: E402

__all__ = ['__version__', 'algorithms', 'backbones', 'compat', 'datasets', 'hooks', 'losses']
