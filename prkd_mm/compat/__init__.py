"""Patches for what newer PyTorch and setuptools broke in the OpenMMLab wheels.

MMRazor 1.0, MMPretrain 1.2 and MMEngine 0.10 were written for PyTorch 1.13. :func:`apply` makes
them work on newer versions, and lets them load the students of a run. Each patch first checks
whether it is needed (no version is compared) and changes nothing if not; it returns whether it was
needed. ``import prkd_mm`` calls :func:`apply` before ``mmrazor.models`` is imported.
"""

import logging
from typing import Optional

from . import (
    config_names,
    imports,
    mmcv_patches,
    mmengine_patches,
    mmrazor_patches,
    student_checkpoints,
)

_PATCHES = (
    imports.torchvision_ops,
    config_names.mmcls_name,
    mmrazor_patches.quantization,
    mmrazor_patches.lazy_predictors,
    mmrazor_patches.recursion_limit,
    mmrazor_patches.in_place_activations,
    mmrazor_patches.recorded_outputs,
    student_checkpoints.plain_student,
    student_checkpoints.nets_of_other_libraries,
    student_checkpoints.student_of_algorithm,
    student_checkpoints.checkpoint_as_model,
    student_checkpoints.pipeline_for_files,
    mmengine_patches.checkpoint_globals,
    mmengine_patches.checkpoint_loaders,
    mmengine_patches.package_lookup,
    mmengine_patches.config_format,
    mmcv_patches.named_images,
    config_names.prkd_mm_name,
    config_names.config_bases,
)
_applied: Optional[tuple[str, ...]] = None  # None until `apply` has run

__all__ = ['apply', 'describe']


def apply() -> tuple[str, ...]:
    """Apply the patches that are needed here. Later calls do nothing.

    Returns:
        The names of the patches applied in this process.
    """
    global _applied
    if _applied is None:
        imports.import_quietly()
        _applied = tuple(patch.__name__ for patch in _PATCHES if patch())
        logging.getLogger(__name__).debug('patches applied: %s', _applied or 'none')
    return _applied


def describe() -> dict[str, str]:
    """Name each applied patch and, in one sentence, what it is for."""
    reasons = {patch.__name__: (patch.__doc__ or '').partition('\n')[0] for patch in _PATCHES}
    return {name: reasons[name] for name in apply()}
