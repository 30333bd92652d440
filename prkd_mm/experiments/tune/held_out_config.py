"""Configs that validate on held-out training images."""

import os
from pathlib import Path
from typing import Optional

from mmengine.config import Config

from ...config import find_config, load_config
from ...config_types import type_name
from ...files import write_text


def _with_part(dataset: dict, part: str, every: int, pipeline: Optional[list] = None) -> dict:
    """The config of one part of a data set, which PackedImages or ImageViews may wrap."""
    split = dict(type='held_out_split', part=part, every=every)
    changes = dict(pipeline=pipeline) if pipeline else {}
    if type_name(dataset) not in ('PackedImages', 'ImageViews'):
        return dict(split, dataset=dataset, **changes)
    return dict(dataset, dataset=dict(split, dataset=dataset['dataset']), **changes)


def write_held_out(
    config: str,
    folder: Path,
    every: int = 5,
    options: Optional[dict] = None,
    teacher_options: Optional[dict] = None,
) -> tuple[Path, Optional[Path]]:
    """Write configs that train on a part of the training images and validate on the rest.

    The first is for the student. The second is for its teacher, which must not see the held-out
    images either; it requires a ``teacher_config`` and is None without one.

    Args:
        config, folder: The config of a pair, and the output folder.
        every: See :func:`~prkd_mm.datasets.held_out_split`.
        options, teacher_options: Overrides of the data of the two configs.

    Raises:
        ValueError: If the two configs have the same file name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    teacher_config = load_config(config).model.get('teacher_config')
    if not teacher_config:
        return _write_one(config, folder, every, options), None
    if Path(teacher_config).stem == Path(config).stem:
        raise ValueError(
            f'{config} and its teacher_config {teacher_config} must have different names'
        )
    teacher = _write_one(teacher_config, folder, every, teacher_options)
    model = dict(teacher_ckpt=f'work_dirs/{teacher.stem}', teacher_config=str(teacher))
    return _write_one(config, folder, every, options, model=model), teacher


def _write_one(
    config: str, folder: Path, every: int, options: Optional[dict] = None, **more
) -> Path:
    cfg = load_config(config, None, options)
    train = cfg.train_dataloader.dataset.to_dict()
    validation = cfg.val_dataloader.dataset
    held_out = dict(
        cfg.val_dataloader.to_dict(),
        _delete_=True,
        dataset=_with_part(
            train, 'held_out', every, validation.get('pipeline') or validation.dataset.pipeline
        ),
    )
    if collate := cfg.train_dataloader.get('collate_fn'):  # a wrapper such as ImageViews needs it
        held_out['collate_fn'] = collate
    rest = _with_part(train, 'rest', every)
    changes = Config(
        dict(
            train_dataloader=dict(dataset=dict(rest, _delete_=True)),
            val_dataloader=held_out,
            test_dataloader=held_out,
            work_dir=None,  # do not use the work dir of the original config
            **more,
        )
    )
    path = folder / f'{Path(config).stem}_held_out.py'
    base = os.path.abspath(find_config(config))
    if os.path.realpath(folder) == os.path.abspath(folder):  # '..' of a link leads elsewhere
        base = os.path.relpath(base, folder)
    write_text(
        path,
        f'# Trains on a part of the training images of\n# {config},\n'
        f'# and validates on the rest: every {every}th image of each class.\n'
        f'_base_ = {base!r}\n{changes.pretty_text}',
    )
    return path
