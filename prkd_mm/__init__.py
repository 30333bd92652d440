"""Progressively Relaxed Knowledge Distillation for OpenMMLab.

Importing the package is all a user does: it mends what newer PyTorch broke in
the OpenMMLab wheels (:mod:`prkd_mm.compat`) and registers every class.
"""

from . import compat

compat.apply()  # before anything imports mmrazor.models

from . import algorithms, backbones, datasets, hooks, losses  # noqa: E402
from .version import __version__  # noqa: E402

__all__ = ['__version__', 'algorithms', 'backbones', 'datasets', 'hooks', 'losses']
