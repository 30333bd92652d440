import os.path as osp
from contextlib import suppress
from pathlib import Path
from typing import Optional, Union

import torch
from mmengine.dist import broadcast_object_list, get_world_size, is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

from ..datasets import ImageViews, PackedImages
from ..evaluation import unwrap
from ..files import sync_file, write_bytes, write_text
from ..scalars import validated_steps
from ..teachers import Teacher
from .progress import is_iter_based

# Keys in the `meta` of a checkpoint
TEACHER = 'teacher'  # hash of the frozen teacher
IMAGES = 'images'  # hash of the training images


@register_backend('atomic')
class AtomicLocalBackend(LocalBackend):
    """MMEngine's local files, written atomically and synced.

    ``hold_removals`` collects the files to remove, so that a caller can write the new file first.
    """

    def __init__(self) -> None:
        self.hold_removals: Optional[list[str]] = None

    def put(self, obj: bytes, filepath: Union[str, Path]) -> None:
        """Write a file, see :func:`~prkd_mm.files.atomic_file`."""
        Path(filepath).parent.mkdir(parents=True, exist_ok=True)
        write_bytes(filepath, obj)

    def remove(self, filepath: Union[str, Path]) -> None:
        """Remove a file now, or later if removals are held."""
        if self.hold_removals is None:
            super().remove(filepath)
        else:
            self.hold_removals.append(str(filepath))


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """MMEngine's ``CheckpointHook``, safe against crashes and bad weights.

    - ``epoch_N.pth`` and ``last_checkpoint`` are written to temporary files, synced and renamed, so
      they are either complete or absent.
    - An old checkpoint is removed only after the new one has been written to disk.
      ``CheckpointHook`` removes it first.
    - Weights that are not finite are not saved; the run stops instead.
    - A resumed run first validates the epoch of its checkpoint if the run was killed between the
      checkpoint and the end of its validation.

    The arguments are those of ``CheckpointHook``, for checkpoints on a local disk. ``meta`` in a
    checkpoint also gets ``world_size``, the number of processes, ``teacher``, the hash of a frozen
    teacher, and ``images``, the hash of the training images (``source`` of :class:`PackedImages`
    and :class:`ImageViews`).

    Raises:
        FloatingPointError: If weights to be saved are not finite.
        OSError: If a checkpoint cannot be written, for example because the disk is full.

    Examples:
        >>> default_hooks = dict(
        ...     checkpoint=dict(type='SafeCheckpointHook', interval=1, max_keep_ckpts=2))
    """

    def __init__(self, *args, **kwargs) -> None:
        kwargs.setdefault('backend_args', dict(backend='atomic'))
        super().__init__(*args, **kwargs)
        self._teacher: Optional[str] = None

    def before_run(self, runner: Runner) -> None:
        super().before_run(runner)
        if is_main_process():
            self._teacher = teacher_hash(runner.model)

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        if _missed_validation(runner):
            runner.logger.info(
                f'The run was stopped before the validation of step {_step(runner)} ended: '
                'validating now'
            )
            _validate_at_original_position(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        checkpoint['meta']['world_size'] = get_world_size()
        if self._teacher is not None:
            checkpoint['meta'][TEACHER] = self._teacher
        if images := images_hash(runner.train_dataloader.dataset):
            checkpoint['meta'][IMAGES] = images
        for name, value in checkpoint['state_dict'].items():
            if value.is_floating_point() and not torch.isfinite(value).all():
                raise FloatingPointError(
                    f'{name} has values that are not finite, so no checkpoint was saved; resume '
                    'from the previous one with a lower learning rate or with gradient clipping '
                    '(optim_wrapper.clip_grad)'
                )

    def after_train_epoch(self, runner: Runner) -> None:
        super().after_train_epoch(runner)
        _sync_scalars(runner)

    def after_val_epoch(self, runner: Runner, metrics: dict) -> None:
        super().after_val_epoch(runner, metrics)
        _sync_scalars(runner)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        outdated = self._outdated(runner, step)
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            write_text(osp.join(runner.work_dir, 'last_checkpoint'), self.last_ckpt)
            self._remove(outdated)

    def _outdated(self, runner: Runner, step: int) -> list[str]:
        """Record a step to keep, and return the checkpoints to remove."""
        if self.max_keep_ckpts <= 0 or (self.keep_ckpt_ids and self.keep_ckpt_ids[-1] == step):
            return []
        steps = [*self.keep_ckpt_ids, step]
        self.keep_ckpt_ids.append(step)  # a deque of max_keep_ckpts
        runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        return [
            self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(old))
            for old in steps
            if old not in self.keep_ckpt_ids
        ]

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        if not self.save_best or not isinstance(self.file_backend, AtomicLocalBackend):
            return super()._save_best_checkpoint(runner, metrics)
        held: list[str] = []
        self.file_backend.hold_removals = held
        try:
            super()._save_best_checkpoint(runner, metrics)
        finally:
            self.file_backend.hold_removals = None
        several = getattr(self, 'best_ckpt_path_dict', {})
        best = [getattr(self, 'best_ckpt_path', None), *several.values()]
        self._remove([path for path in held if path not in best])

    def _remove(self, paths: list[str]) -> None:
        for path in paths:
            with suppress(FileNotFoundError):
                self.file_backend.remove(path)


def teacher_hash(model: nn.Module) -> Optional[str]:
    """Hash of the frozen teacher of a model, or None if it has none."""
    teacher = getattr(unwrap(model), 'teacher', None)
    return teacher.fingerprint() if isinstance(teacher, Teacher) else None


def images_hash(dataset: Dataset) -> Optional[str]:
    """Hash of the training images and their labels, or None for a data set that has none."""
    return dataset.source if isinstance(dataset, (PackedImages, ImageViews)) else None


def _step(runner: Runner) -> int:
    return runner.iter if is_iter_based(runner) else runner.epoch


def _missed_validation(runner: Runner) -> bool:
    """Whether a resumed run lacks the validation that follows its checkpoint."""
    loop, step = runner.train_loop, _step(runner)
    if not step or runner.val_loop is None or step < loop.val_begin:
        return False
    if hasattr(loop, '_decide_current_val_interval'):  # the loop has still the first interval
        loop._decide_current_val_interval()
    total = runner.max_iters if is_iter_based(runner) else runner.max_epochs
    if step % loop.val_interval and step != total:
        return False
    resumed_from = osp.dirname(runner.message_hub.get_info('last_ckpt', ''))
    logged = any(step in validated_steps(folder) for folder in {runner.work_dir, resumed_from})
    answer = [not logged or _depends_on_metrics(runner)]
    broadcast_object_list(answer)  # the ranks may see different files
    return answer[0]


def _validate_at_original_position(runner: Runner) -> None:
    """Validate with the epoch and iteration of an uninterrupted run."""
    hub = runner.message_hub
    position = {name: hub.get_info(name) for name in ('epoch', 'iter')}
    # MMEngine updates both before each epoch and iteration, so validation sees those of the last
    # one; BatchClsDataPreprocessor derives its crops from the epoch
    hub.update_info('iter', runner.iter - 1)
    if not is_iter_based(runner):
        hub.update_info('epoch', runner.epoch - 1)
    runner.val_loop.run()
    for name, value in position.items():
        hub.update_info(name, value)


def _depends_on_metrics(runner: Runner) -> bool:
    """Whether the state of the run depends on metrics that the checkpoint lacks."""
    if any(getattr(hook, 'save_best', None) for hook in runner.hooks):
        return True
    schedulers = runner.param_schedulers or []
    if isinstance(schedulers, dict):
        schedulers = [each for group in schedulers.values() for each in group]
    return any(getattr(each, 'need_val_args', False) for each in schedulers)


def _sync_scalars(runner: Runner) -> None:
    if is_main_process():
        for file in Path(runner.log_dir).glob('vis_data/scalars.json'):
            sync_file(file)
