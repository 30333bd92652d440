"""Configs that validate on a part of the training images."""
import os
from pathlib import Path
from typing import Optional, Tuple

from mmengine.config import Config

from ..runs import load_config


def _with_part(dataset: dict, part: str, every: int,
               pipeline: Optional[list] = None) -> dict:
    """A data set's config for one part of it, PackedImages or not."""
    split = dict(type='held_out_split', part=part, every=every)
    if dataset['type'].endswith('PackedImages'):
        outer = {k: v for k, v in dataset.items() if k != 'dataset'}
        inner = dict(split, dataset=dataset['dataset'])
        if pipeline:
            outer['pipeline'] = pipeline
        return dict(outer, dataset=inner)
    return dict(split, dataset=dataset, **(
        dict(pipeline=pipeline) if pipeline else {}))


def write_held_out(config: str, folder: Path, every: int = 5
                   ) -> Tuple[Path, Optional[Path]]:
    """Write configs that train on a part and validate on what is held out.

    The student's, and its teacher's if ``teacher_config`` says how to train
    that: it must not have seen the held-out images either.

    Args:
        config (str): Of a pair.
        folder (Path): Where to.
        every (int): Which images are held out: see
            :func:`~prkd_mm.datasets.held_out_split`. Defaults to 5.

    Returns:
        tuple: The paths of the two; the second None if there is no
        ``teacher_config``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = load_config(config).model
    path, teacher = _write_one(config, folder, every, {}), None
    if model.get('teacher_config'):
        teacher = _write_one(model.teacher_config, folder, every, {})
        path = _write_one(
            config, folder, every,
            dict(
                model=dict(
                    teacher_ckpt=f'work_dirs/{teacher.stem}',
                    teacher_config=str(teacher))))
    return path, teacher


def _write_one(config: str, folder: Path, every: int, more: dict) -> Path:
    cfg = load_config(config)
    pipeline = cfg.val_dataloader.dataset.get(
        'pipeline') or cfg.val_dataloader.dataset.dataset.pipeline
    held_out = dict(
        cfg.val_dataloader.to_dict(),
        _delete_=True,
        dataset=_with_part(cfg.train_dataloader.dataset.to_dict(), 'held_out',
                           every, pipeline))
    rest = _with_part(cfg.train_dataloader.dataset.to_dict(), 'rest', every)
    changes = Config(
        dict(
            train_dataloader=dict(dataset=dict(rest, _delete_=True)),
            val_dataloader=held_out,
            test_dataloader=held_out,
            **more))
    path = folder / f'{Path(config).stem}_held_out.py'
    base = os.path.relpath(config, folder)
    path.write_text(
        f'# Trains on a part of the training images of {config}, and\n'
        f'# validates on the rest, every {every}th.\n'
        f'_base_ = {base!r}\n{changes.pretty_text}')
    return path
