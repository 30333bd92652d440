"""A teacher that stores its logits view by view, and replays them."""

import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Optional, Union

from mmengine.config import Config
from mmengine.logging import print_log
from torch import Tensor, nn

from ..checks.number_checks import check_whole_number
from ..config_types import is_type
from ..datasets import BatchClsDataPreprocessor, ImageViews, PackedImages
from ..randomness import untouched_random_state
from .fill_store import check_config, create_store, default_folder, fill
from .logit_store import TeacherLogits
from .stored_teacher import StoredTeacher, check_draws_views
from .teacher import Teacher

_LOG_SECONDS = 30  # between two messages about the progress of a view


class FillingTeacher(StoredTeacher):
    """A teacher that stores its logits view by view, and replays them.

    Before the first step on a view, :meth:`fill` computes the logits of all its images with the
    live teacher. Every step replays stored logits, so the student's weights equal those of a run
    whose store was filled beforehand, bit for bit on a CPU. The live teacher is released at the
    first step after all views are stored.

    Args:
        live: The live teacher.
        folder: The folder of the store. Several runs may fill one store.
        views: Number of views K of each image; epoch e uses view e mod K.
        topk, seed: See :func:`~prkd_mm.teachers.fill_store.store_teacher`.
    """

    fills_a_store = True

    def __init__(
        self,
        live: Teacher,
        folder: Union[str, Path],
        views: int,
        topk: Optional[int] = None,
        seed: int = 0,
    ) -> None:
        check_whole_number('teacher_logits: `views`', views)
        super().__init__(None, live, live.num_classes)
        self.folder, self.views, self.topk, self.seed = Path(folder), views, topk, seed
        self._all_stored = False

    def adapt_to(self, preprocessor: nn.Module) -> None:
        """Make the student's data preprocessor draw K views, if it can reproduce them."""
        check_draws_views(preprocessor)
        self.live.adapt_to(preprocessor)
        self.input_normalization = self.live.input_normalization
        preprocessor.views, preprocessor.seed = self.views, self.seed

    def open(
        self, preprocess: BatchClsDataPreprocessor, dataset: Union[PackedImages, ImageViews]
    ) -> None:
        """Create the store, or check the one in the folder."""
        if self.store is None:
            options = self.views, self.topk, self.seed
            self.store = create_store(self.folder, self.live, preprocess, dataset, *options)

    def fill(
        self,
        view: int,
        preprocess: BatchClsDataPreprocessor,
        dataset: Union[PackedImages, ImageViews],
        workers: int = 0,
    ) -> str:
        """Store the logits of all images in one view, unless they are stored.

        Returns:
            A message for the log: whether the logits were computed or replayed.
        """
        self.open(preprocess, dataset)
        missing = [chunk for chunk in self.store.missing() if chunk.view == view]
        title, source = f'Teacher logits of view {view + 1} of {self.views}', 'replayed'
        if missing:
            total = sum(chunk.images for chunk in missing)
            progress = _Progress(title, total)
            images = preprocess, dataset
            with untouched_random_state():
                own = fill(
                    self.store, missing, self.live, *images, workers=workers, advance=progress
                )
            others = total - own
            source = f'computed for {own:,} images and stored'
            if others:
                source += f', for {others:,} images by other processes'
        if not self.store.missing() and not self._all_stored:
            self._all_stored = True
            source += '; all views are stored, and the teacher is released'
        return f'{title}: {source} ({self.folder})'

    def logits(self, inputs: Tensor, data_samples: Optional[list] = None) -> Tensor:
        """Stored logits ``(B, C)`` of training images; a RuntimeError if there are none."""
        if self.store is None:
            raise RuntimeError(
                'teacher_logits=dict(views=...) needs the hook that fills the store: '
                "custom_hooks=[..., dict(type='FillStoreHook')]"
            )
        return super().logits(inputs, data_samples)

    def _is_complete(self) -> bool:
        return self._all_stored

    def stored_logits(self, count: int) -> Optional[Tensor]:
        """Logits of at most ``count`` images in one view; None until one is stored."""
        return None if self.store is None else super().stored_logits(count)

    def fingerprint(self) -> str:
        return super().fingerprint() if self.store else self.live.fingerprint()


class _Progress:
    """Logs the number of finished images and the remaining time, at most every 30 seconds."""

    def __init__(self, title: str, total: int) -> None:
        self.title, self.total, self.done = title, total, 0
        self.start = self.last = time.monotonic()

    def __call__(self, images: int) -> None:
        self.done += images
        now = time.monotonic()
        if now - self.last < _LOG_SECONDS:
            return
        self.last = now
        left = timedelta(seconds=round((now - self.start) * (self.total / self.done - 1)))
        print_log(
            f'{self.title}: {self.done:,} of {self.total:,} images, eta: {left}', logger='current'
        )


def is_complete(folder: Union[str, Path]) -> bool:
    """Whether a folder contains a complete store."""
    with suppress(FileNotFoundError):
        return not TeacherLogits(folder, complete=False).missing()
    return False


def fills_a_store(logits: object) -> bool:
    """Whether ``teacher_logits`` of a config describes a store to fill during the run."""
    return isinstance(logits, dict) and 'views' in logits


def prepare_store(cfg: Config, views: Optional[int] = None) -> None:
    """Make a run fill a logit store of ``views`` views, or as its config requests.

    Adds the :class:`~prkd_mm.hooks.FillStoreHook` to the config. The config of a student without a
    teacher is not changed.

    Raises:
        ValueError: If ``views`` is given and there is no frozen teacher, the logits are stored
            already, or the views of the images cannot be reproduced.
    """
    if is_type(cfg.model, 'StudentAlone'):
        if views is not None:
            raise ValueError('--store-views needs a teacher, but the student is trained alone')
        return
    if views is not None:
        check_config(cfg)
        if stored := cfg.model.get('teacher_logits'):
            raise ValueError(
                '--store-views fills a store, but the config already has '
                f'model.teacher_logits={stored!r}; use only one of them'
            )
        folder = default_folder(cfg.model, views)
        cfg.model.teacher_logits = dict(views=views, folder=str(folder))
    logits = cfg.model.get('teacher_logits')
    if fills_a_store(logits) and cfg.train_cfg.get('max_epochs') == 1 and logits['views'] != 1:
        folder = logits.get('folder') or default_folder(cfg.model, logits['views'])
        if not is_complete(folder):
            raise ValueError(
                'the run has one epoch, in which each iteration would have a view of its own, but '
                f'{logits["views"]} views are to be stored; use one view, or the live teacher'
            )
    hooks = cfg.get('custom_hooks') or []
    added = any(is_type(hook, 'FillStoreHook') for hook in hooks)
    if fills_a_store(cfg.model.get('teacher_logits')) and not added:
        cfg.custom_hooks = [*hooks, dict(type='mmengine.FillStoreHook')]


def use_views_of_run(cfg: Config, preprocess: object, epoch: int, seed: int) -> None:
    """Make a data preprocessor draw the augmented views of a run, outside of that run.

    Only a ``BatchClsDataPreprocessor`` is changed. The epoch is 0-based; the seed is that of the
    run.
    """
    if isinstance(preprocess, BatchClsDataPreprocessor):
        preprocess.epoch = epoch
        if stored := _first_store(cfg.model.get('teacher_logits')):
            preprocess.views, preprocess.seed = stored_views(stored)
        if preprocess.seed is None:
            preprocess.seed = seed


def _first_store(logits: Any) -> Any:
    """The first store in ``teacher_logits`` of a config; in a list, None is a live teacher."""
    return next(filter(None, logits), None) if isinstance(logits, list) else logits


def stored_views(logits: Union[str, dict, list]) -> tuple[int, int]:
    """Number and seed of the views that ``teacher_logits`` of a config specifies."""
    logits = _first_store(logits)
    if isinstance(logits, dict) and fills_a_store(logits):
        return logits['views'], logits.get('seed', 0)
    options = dict(folder=logits) if isinstance(logits, str) else dict(logits)
    store = TeacherLogits(**dict(options, verify=False))
    return store.views, store.header['seed']
