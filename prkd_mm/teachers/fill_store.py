"""Fill a store with a teacher's logits."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Callable, Optional, Union

import numpy as np
import torch
from filelock import Timeout
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.logging import print_log
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS
from mmrazor.registry import MODELS
from rich.progress import MofNCompleteColumn, Progress
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..config_types import is_type
from ..datasets import BatchClsDataPreprocessor, ImageViews, PackedImages, hash_of_dataset
from ..datasets.packed.packed_images import whole_batch
from ..evaluation import evaluate_on
from ..randomness import untouched_random_state
from .logit_arrays import Chunk, check_topk, choose_topk, readable, size_in_bytes
from .logit_store import COMPARED, HEADER, TeacherLogits
from .teacher import Teacher

# on a CPU, the activations of more images do not fit into the cache: a WRN-40-2 is a fifth slower
BATCH_SIZE = 256 if torch.cuda.is_available() else 64


def is_net_config(teacher: object) -> bool:
    """Whether a teacher is the config of a net, not the name of a source or a list."""
    return isinstance(teacher, dict) and 'source' not in teacher


def default_folder(model: dict, views: int) -> Path:
    """Default folder of the logits of the teacher in the config of a model.

    It has the name of the config that trains the teacher. Without a single such config (several
    teachers, or one from a library, a file or the model zoo), it has a hash of the settings.
    """
    config, net, checkpoint = (model.get(f'teacher{key}') for key in ('_config', '', '_ckpt'))
    if isinstance(config, str) and is_net_config(net) and not isinstance(checkpoint, list):
        name = Path(config).stem
    else:
        settings = json.dumps(
            [net, checkpoint, model.get('teacher_mean')], sort_keys=True, default=str
        )
        name = f'teacher_{hashlib.sha256(settings.encode()).hexdigest()[:8]}'
    return Path('work_dirs') / f'{name}_{views}_views'


def store_teacher(
    cfg: Config,
    folder: Path,
    views: int,
    topk: Optional[int] = None,
    batch_size: int = BATCH_SIZE,
    seed: int = 0,
) -> TeacherLogits:
    """Store the logits of a pair's teacher for K views of each image.

    Prints how large the store will be, shows progress, and resumes an unfinished store. The header
    also holds the teacher's accuracy on the validation set.

    Args:
        cfg: A config with ``FrozenTeacherDistill``.
        folder: The folder of the store.
        views: Number of views K.
        topk: Number of logits to keep per image. None keeps 32 if there are 1,000 classes or more,
            else all. 0 keeps all.
        batch_size: Number of images per batch.
        seed: Seed of the views.

    Raises:
        ValueError: See :func:`check_config`; or if the folder holds another store.
        OSError: If there is not enough disk space.
    """
    model, dataset = build_live(cfg)
    model.to('cuda' if torch.cuda.is_available() else 'cpu').eval()
    preprocess = model.data_preprocessor
    store = create_store(folder, model.teacher, preprocess, dataset, views, topk, seed)
    missing = store.missing()
    workers = cfg.train_dataloader.get('num_workers', 0)
    total = store.views * len(dataset)
    done = total - sum(chunk.images for chunk in missing)
    with Progress(*Progress.get_default_columns(), MofNCompleteColumn()) as progress:
        bar = progress.add_task('images', total=total, completed=done)
        advance = partial(progress.advance, bar)
        fill(store, missing, model.teacher, preprocess, dataset, batch_size, workers, advance)
    _validate(cfg, store, model.teacher, preprocess)
    return store


def begin_store(cfg: Config, folder: Path, views: int) -> TeacherLogits:
    """Create the store that runs of a config are going to fill, or check the existing one.

    No logits are computed. Arguments and errors are as in :func:`store_teacher`.
    """
    model, dataset = build_live(cfg)
    return create_store(folder, model.teacher, model.data_preprocessor, dataset, views)


def build_live(cfg: Config) -> tuple[nn.Module, Union[PackedImages, ImageViews]]:
    """The model of a config with its live teacher, and the training images."""
    check_config(cfg)
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    settings = cfg.model.to_dict()
    settings.pop('teacher_logits', None)
    settings.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    return MODELS.build(settings), dataset


def create_store(
    folder: Path,
    teacher: Teacher,
    preprocess: BatchClsDataPreprocessor,
    dataset: Union[PackedImages, ImageViews],
    views: int,
    topk: Optional[int] = None,
    seed: int = 0,
) -> TeacherLogits:
    """Create or resume a store for a teacher and a data set; arguments as in :func:`store_teacher`.

    The logits that are stored already are verified, and computed again for some images.

    Raises:
        ValueError: If the student's preprocessor mixes images, the number of classes is unknown, or
            the folder holds another store, or one that is damaged.
        OSError: If there is not enough disk space.
    """
    if preprocess.batch_augments or preprocess.to_onehot:
        raise ValueError(
            'logits can only be stored for single images; remove batch_augments (mixup ...) and '
            'to_onehot from the data_preprocessor, and augments from train_cfg of the architecture'
        )
    if teacher.num_classes is None:
        raise ValueError(
            'logits can only be stored if the head of the teacher or of the student has '
            'num_classes; use the live teacher (for reproduce.py and tune.py: --store-views 0)'
        )
    # the fastest memory format, in every run, so that the same sums give the same bits
    teacher.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    topk = choose_topk(topk, teacher.num_classes)
    check_topk(topk, teacher.num_classes)
    size = size_in_bytes(views, len(dataset), teacher.num_classes, topk)
    kept = f'the {topk} largest of' if topk else 'all'
    print_log(
        f'Logits of {views} views of {len(dataset):,} images, {kept} {teacher.num_classes} '
        f'classes: {readable(size)} in {folder}',
        logger='current',
    )
    if not (folder / HEADER).exists():
        _check_space(folder.resolve(), size)
    shape = views, len(dataset), teacher.num_classes
    identity = dict(teacher=teacher.fingerprint(), normalization=teacher.input_normalization)
    identity.update(source=dataset.source, seed=seed)
    store = TeacherLogits.create(folder, *shape, topk, **identity)
    preprocess.seed = seed
    store.verify()
    _compare(store, teacher, preprocess, dataset)
    return store


def _compare(
    store: TeacherLogits,
    teacher: Teacher,
    preprocess: BatchClsDataPreprocessor,
    dataset: Union[PackedImages, ImageViews],
) -> None:
    """Compute the logits of some images that are stored, if any are, and compare them."""
    missing = set(store.missing())
    stored = [chunk for chunk in store.chunks() if chunk not in missing]
    if not stored:
        return
    view, start, end = stored[0]
    some = Chunk(view, start, min(end, start + COMPARED))
    with untouched_random_state():
        logits = _logits(teacher, _draw(some, preprocess, dataset))
        preprocess.choose_view(dataset)  # restore the view of the run
    store.compare(view, np.arange(some.start, some.end), logits)


def fill(
    store: TeacherLogits,
    chunks: list[Chunk],
    teacher: Teacher,
    preprocess: BatchClsDataPreprocessor,
    dataset: Union[PackedImages, ImageViews],
    batch_size: int = BATCH_SIZE,
    workers: int = 0,
    advance: Callable[[int], None] = lambda images: None,
) -> int:
    """Compute and store the logits of some chunks.

    Several processes can fill the same store: each skips the chunks that another one is working on,
    and waits for them at the end. ``advance`` is called with the number of images that have been
    finished.

    Returns:
        The number of images whose logits this process has computed.
    """
    computed = 0
    for timeout in (0, -1):  # skip the chunks that others are working on, then wait for them
        waiting, chunks = chunks, []
        for chunk in waiting:
            try:
                with store.lock(chunk).acquire(timeout=timeout):
                    store.refresh()
                    if chunk.name not in store.header['crc32']:
                        drawn = _draw(chunk, preprocess, dataset, batch_size, workers)
                        store.put(chunk, _logits(teacher, drawn, advance))
                        computed += chunk.images
                    else:
                        advance(chunk.images)
            except Timeout:
                chunks.append(chunk)
    preprocess.choose_view(dataset)  # restore the view of the run
    if not store.missing():
        store.remove_locks()
    return computed


def _draw(
    chunk: Chunk,
    preprocess: BatchClsDataPreprocessor,
    dataset: Union[PackedImages, ImageViews],
    batch_size: int = BATCH_SIZE,
    workers: int = 0,
) -> Iterator[Tensor]:
    """Draw the images of a chunk, regardless of the epoch of the run."""
    before = preprocess.epoch, preprocess.views
    preprocess.epoch, preprocess.views = chunk.view, None
    batches = [index.tolist() for index in torch.arange(chunk.start, chunk.end).split(batch_size)]
    try:
        preprocess.choose_view(dataset)
        for batch in DataLoader(
            dataset, batch_sampler=batches, num_workers=workers, collate_fn=whole_batch
        ):
            yield preprocess(batch, True)['inputs']
    finally:
        preprocess.epoch, preprocess.views = before


def _logits(
    teacher: Teacher,
    batches: Iterator[Tensor],
    advance: Callable[[int], None] = lambda images: None,
) -> Tensor:
    parts = []
    for inputs in batches:
        with torch.inference_mode():
            parts.append(teacher.logits(inputs).float().cpu())
        advance(len(inputs))
    return torch.cat(parts)


def check_config(cfg: Config) -> None:
    """Raise a ValueError if the logits of a config's teacher cannot be stored."""
    if not is_type(cfg.model, 'FrozenTeacherDistill'):
        raise ValueError(
            "to store a teacher's logits, the config's model must be a FrozenTeacherDistill, got "
            f'{cfg.model.get("type")!r}'
        )
    dataset = cfg.train_dataloader.dataset
    if not any(is_type(dataset, name) for name in ('PackedImages', 'ImageViews')):
        raise ValueError(
            "to store a teacher's logits, the config's training images must be PackedImages or "
            f'ImageViews, whose views can be reproduced, got {dataset.type!r}'
        )


def _check_space(folder: Path, size: int) -> None:
    disk = next(each for each in (folder, *folder.parents) if each.exists())
    free = shutil.disk_usage(disk).free
    if free < size:
        raise OSError(f'not enough space on {disk}: {readable(free)} free, {readable(size)} needed')


def _validate(
    cfg: Config, store: TeacherLogits, teacher: Teacher, preprocess: BatchClsDataPreprocessor
) -> None:
    """Note the accuracy of a teacher on the validation set in its store, unless it is known."""
    if not cfg.get('val_dataloader'):
        return
    loader = Runner.build_dataloader(cfg.val_dataloader, seed=0)
    images = hash_of_dataset(loader.dataset)
    if not store.has_metrics(images):
        evaluator = Evaluator(cfg.val_evaluator)
        evaluator.dataset_meta = getattr(loader.dataset, 'metainfo', None)
        metrics = teacher.metrics(partial(evaluate_on, loader, evaluator, preprocess))
        store.note(metrics, images)
