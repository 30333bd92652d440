"""Fill a store of a teacher's logits, from the config of a pair."""

import shutil
from pathlib import Path
from typing import Optional

import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS
from mmrazor.registry import MODELS

from ..checkpoints import plain_state_dict, read
from ..datasets import PackedImages
from ..evaluation import evaluate_on
from .logit_store import OWN, TeacherLogits, describe_normalisation, hash_of_weights, size_in_bytes


def default_folder(cfg: Config, views: int) -> Path:
    """Where a pair's store goes if nobody says."""
    teacher = Path(cfg.model.get('teacher_config') or 'teacher').stem
    return Path('work_dirs') / f'{teacher}_{views}_views'


def store_teacher(
    cfg: Config,
    folder: Path,
    views: int,
    topk: Optional[int] = None,
    batch_size: int = 256,
    seed: int = 0,
) -> TeacherLogits:
    """Store the logits of a pair's teacher for K views of each image.

    Says how large the store will be, shows progress, and goes on with what is
    unfinished. The teacher's accuracy on the validation set is noted, too.

    Args:
        cfg (Config): A config with ``FrozenTeacherDistill``.
        folder (Path): Where to.
        views (int): K.
        topk (int, optional): Keep only that many logits of an image. Defaults
            to None: all.
        batch_size (int): Images at a time. Defaults to 256.
        seed (int): Of the views. Defaults to 0.

    Raises:
        ValueError: The config has no frozen teacher, its training images are
            not :class:`~prkd_mm.datasets.PackedImages`, or the folder holds
            something else.
        OSError: There is no room.
    """
    if cfg.model.get('type', '').split('.')[-1] != 'FrozenTeacherDistill':
        raise ValueError(
            f"the config's model must be a FrozenTeacherDistill, got {cfg.model.get('type')!r}"
        )
    if cfg.train_dataloader.dataset.type != 'PackedImages':
        raise ValueError(
            "the config's training images must be PackedImages, whose views "
            f'can be drawn again, got {cfg.train_dataloader.dataset.type!r}'
        )
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    settings = cfg.model.to_dict()
    settings.pop('teacher_logits', None)  # which this is going to make
    if not settings.get('teacher_ckpt'):
        raise ValueError(
            'the config has no teacher_ckpt, so there is no telling whose logits these would be'
        )
    settings.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    model = MODELS.build(settings)
    model.to('cuda' if torch.cuda.is_available() else 'cpu').eval()
    preprocessor = model.data_preprocessor
    if preprocessor.batch_augments or preprocessor.to_onehot:
        raise ValueError(
            'stored logits are of single images: no mixup or other batch_augments, no to_onehot'
        )
    classes = model.teacher.head.num_classes
    size = size_in_bytes(views, len(dataset), classes, topk)
    print(
        f'{views} views of {len(dataset):,} images, {classes} classes: '
        f'{size / 1e9:.3g} GB in {folder}',
        flush=True,
    )
    disk = next(path for path in (folder / 'x').resolve().parents if path.exists())
    free = shutil.disk_usage(disk).free
    if not (folder / 'store.json').exists() and free < size:
        raise OSError(f'there is no room for them: {disk} has {free / 1e9:.3g} GB left')
    store = TeacherLogits.create(
        folder,
        views,
        len(dataset),
        classes,
        topk,
        teacher=hash_of_weights(plain_state_dict(read(settings['teacher_ckpt']))[0]),
        normalisation=OWN if model.has_own_normalisation else describe_normalisation(preprocessor),
        source=dataset.source,
        seed=seed,
    )
    _record(model, dataset, store, batch_size)
    if 'metrics' not in store.header:
        store.note(metrics=_validate(cfg, model))
    return store


def _record(model: BaseModel, dataset: PackedImages, store: TeacherLogits, batch_size: int) -> None:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    preprocess = model.data_preprocessor
    preprocess.seed, preprocess.views = store.header['seed'], None
    total = store.views * len(dataset)
    missing = store.missing()
    done = total - sum(end - start for _, start, end in missing)
    with Progress(
        TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    ) as progress:
        bar = progress.add_task('images', total=total, completed=done)
        for chunk in missing:
            preprocess.epoch, start, end = chunk
            logits = []
            for first in range(start, end, batch_size):
                index = list(range(first, min(first + batch_size, end)))
                inputs = preprocess(dataset.__getitems__(index), True)
                with torch.inference_mode():
                    logits.append(
                        model.teacher(model.teacher_inputs(inputs['inputs']), mode='tensor')
                        .float()
                        .cpu()
                    )
                progress.advance(bar, len(index))
            store.put(chunk, torch.cat(logits))


def _validate(cfg: Config, model: BaseModel) -> dict:
    if not cfg.get('val_dataloader'):
        return {}
    loader = Runner.build_dataloader(cfg.val_dataloader, seed=0)
    evaluator = Evaluator(cfg.val_evaluator)
    evaluator.dataset_meta = getattr(loader.dataset, 'metainfo', None)

    def predict(inputs: torch.Tensor, data_samples: list) -> list:
        return model.teacher(model.teacher_inputs(inputs), data_samples, mode='predict')

    return evaluate_on(loader, evaluator, model.data_preprocessor, predict)
