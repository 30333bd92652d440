"""Configs that validate on a part of the training images."""

import os
from pathlib import Path
from typing import Optional

from mmengine.config import Config

from ...config import load_config


def _with_part(dataset: dict, part: str, every: int, pipeline: Optional[list] = None) -> dict:
    """A data set's config for one part of it, inside PackedImages or ImageViews or not."""
    split = dict(type='held_out_split', part=part, every=every)
    if dataset['type'].endswith(('PackedImages', 'ImageViews')):
        outer = {k: v for k, v in dataset.items() if k != 'dataset'}
        inner = dict(split, dataset=dataset['dataset'])
        if pipeline:
            outer['pipeline'] = pipeline
        return dict(outer, dataset=inner)
    return dict(split, dataset=dataset, **(dict(pipeline=pipeline) if pipeline else {}))


def write_held_out(
    config: str,
    folder: Path,
    every: int = 5,
    options: Optional[dict] = None,
    teacher_options: Optional[dict] = None,
) -> tuple[Path, Optional[Path]]:
    """Write configs that train on a part and validate on what is held out.

    The student's, and its teacher's if ``teacher_config`` says how to train
    that: it must not have seen the held-out images either.

    Args:
        config (str): Of a pair.
        folder (Path): Where to.
        every (int): Which images are held out: see
            :func:`~prkd_mm.datasets.held_out_split`. Defaults to 5.
        options (dict, optional): Overrides of the student's config, of which
            those of its data count. Defaults to None.
        teacher_options (dict, optional): The same for the teacher. Defaults
            to None.

    Returns:
        tuple: The paths of the two; the second None if there is no
        ``teacher_config``.

    Raises:
        ValueError: The two configs have one name.
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
    rest = _with_part(train, 'rest', every)
    changes = Config(
        dict(
            train_dataloader=dict(dataset=dict(rest, _delete_=True)),
            val_dataloader=held_out,
            test_dataloader=held_out,
            work_dir=None,  # not that of the other experiment
            **more,
        )
    )
    path = folder / f'{Path(config).stem}_held_out.py'
    base = os.path.relpath(config, folder)
    path.write_text(
        f'# Trains on a part of the training images of\n# {config},\n'
        f'# and validates on the rest: every {every}th of a class.\n'
        f'_base_ = {base!r}\n{changes.pretty_text}'
    )
    return path
