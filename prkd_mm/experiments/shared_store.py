"""The logit store that the runs of a comparison or a search fill together."""

from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config
from rich.console import Console

from ..algorithms.student_alone import has_batch_augments
from ..config_types import is_type
from ..start.folder_lock import set_aside
from ..teachers.fill_store import begin_store, check_config
from ..teachers.logit_store import StoreMismatch
from .job import Job

DEFAULT_VIEWS = 8
_STORED = {'head', 'head.fc'}  # modules of a stored teacher that a recorder can read


def default_views(cfg: Config) -> int:
    """Number of views to store for a student: its epochs, at most :data:`DEFAULT_VIEWS`.

    It is 0, which means a live teacher, if there is no frozen teacher, if its logits are stored
    already, if the images are neither ``PackedImages`` nor ``ImageViews``, if they are mixed
    (mixup), or if a loss reads features of the teacher.
    """
    try:
        check_config(cfg)
    except ValueError:
        return 0
    preprocess = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    recorders = cfg.model.distiller.get('teacher_recorders') or {}
    if (
        cfg.model.get('teacher_logits')
        or not is_type(preprocess, 'BatchClsDataPreprocessor')
        or preprocess.get('batch_augments', has_batch_augments(cfg.model.architecture))
        or preprocess.get('to_onehot')
        or not {recorder.get('source') for recorder in recorders.values()} <= _STORED
    ):
        return 0
    return min(cfg.train_cfg.get('max_epochs') or 0, DEFAULT_VIEWS)


def teacher_source(model: dict) -> str:
    """Source of the teacher's logits in the config of a model; empty without a teacher."""
    stored = model.get('teacher_logits')
    if isinstance(stored, dict) and 'views' in stored:
        return f'stored logits, {stored["views"]} views'
    if stored:
        return f'stored logits, {stored}'
    return 'live teacher' if model.get('teacher') else ''


def begin_shared_store(jobs: Sequence[Job], console: Console) -> None:
    """Create or check the store of the unfinished jobs with ``--store-views``.

    They have the same images and the same teacher, which must be trained. The folder is renamed
    if it holds the logits of another teacher or of other images.

    Raises:
        ValueError: If the student's preprocessor mixes images.
        FileNotFoundError: If the teacher's checkpoint is missing.
        OSError: If there is not enough space.
    """
    filling = [job for job in jobs if job.args.store_views and 'finished' not in job.notes()]
    if not filling:
        return
    cfg = filling[0].cfg
    views, folder = cfg.model.teacher_logits['views'], Path(cfg.model.teacher_logits['folder'])
    try:
        begin_store(cfg, folder, views)
    except StoreMismatch as error:
        console.print(f'{error}\nThese logits are kept as {set_aside(folder)}', highlight=False)
        begin_store(cfg, folder, views)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise OSError(f'{error}; with --store-views 0, each run has a live teacher') from error
