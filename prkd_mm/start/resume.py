"""Find the checkpoint to resume from, and check that it belongs to the same run."""

import os.path as osp
from pathlib import Path
from typing import NamedTuple, Optional, Union

from mmengine.config import Config
from mmengine.dist import all_gather_object, get_world_size
from torch import nn
from torch.utils.data import Dataset

from ..checkpoints import checkpoint_name, filename_template, read
from ..evaluation import unwrap
from ..hooks.safe_checkpoint_hook import IMAGES, TEACHER, images_hash, teacher_hash
from .recorded_config import changes, parse

_STATE = ('meta', 'state_dict', 'optimizer', 'message_hub')  # what a resume needs


class Resumed(NamedTuple):
    """Result of :func:`set_resume`."""

    notes: list[str]  # messages for the user, one sentence each
    meta: dict  # the `meta` of the checkpoint; empty without one


class ResumePoint(NamedTuple):
    """The checkpoint from which a run resumes."""

    path: Optional[str]  # None to train from the beginning
    checkpoint: dict  # its content; empty without one
    notes: list[str]  # messages for the user, one sentence each


def find_resume_point(work_dir: Union[str, Path], template: Optional[str] = None) -> ResumePoint:
    """The newest readable checkpoint of a work dir.

    The search starts at the checkpoint named in ``last_checkpoint`` and continues with older ones.
    Only its file name is used, so that copied and moved work dirs use their own files. Without a
    usable ``last_checkpoint``, the search starts at the highest number. ``template`` is the
    ``filename_tmpl`` of the checkpoint hook; None stands for ``epoch_{}.pth`` or ``iter_{}.pth``.

    Raises:
        ValueError: If the work dir has checkpoints, but none can be read, or it has none, but
            ``last_checkpoint`` names an existing file elsewhere.
    """
    work_dir = Path(work_dir)
    candidates, notes = _candidates(work_dir, template), []
    recorded = _last_checkpoint(work_dir)
    if not candidates:
        if osp.isfile(recorded):  # in the `out_dir` of the checkpoint hook
            raise ValueError(
                f"the checkpoints of '{work_dir}' are elsewhere; to resume from the last one, use "
                f'--resume {recorded}; to train from the beginning, leave out --resume'
            )
        notes.append(f"there is no checkpoint in '{work_dir}': training from the beginning")
        return ResumePoint(None, {}, notes)
    last = work_dir / osp.basename(recorded)
    if last in candidates:
        candidates = candidates[candidates.index(last) :]
    else:
        notes.append(
            f"'{work_dir}/last_checkpoint' names no checkpoint of this folder; looking for the "
            'newest one'
        )
    for path in candidates:
        try:
            return ResumePoint(str(path), read_for_resume(str(path)), notes)
        except (OSError, ValueError) as error:
            notes.append(f'skipped a checkpoint: {error}')
    raise ValueError(
        f"no checkpoint in '{work_dir}' can be read: {'; '.join(notes)}. To train from the "
        'beginning, run the command without --resume'
    )


def _candidates(work_dir: Path, template: Optional[str]) -> list[Path]:
    """The checkpoints of a run, newest first."""
    name = checkpoint_name(template)
    numbered = [
        (match.groupdict().get('unit', ''), int(match['number']), path)
        for path in work_dir.glob('*')
        if (match := name.fullmatch(path.name))
    ]
    return [path for *_, path in sorted(numbered, reverse=True)]


def _last_checkpoint(work_dir: Path) -> str:
    """The path that ``last_checkpoint`` names; empty without one."""
    try:
        return (work_dir / 'last_checkpoint').read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ''


def read_for_resume(path: str) -> dict:
    """Read a checkpoint; a ValueError names the parts of the training state that it lacks."""
    checkpoint = read(path)
    missing = [key for key in _STATE if key not in checkpoint]
    if missing:
        raise ValueError(
            f'{path!r} cannot be resumed: it holds weights, but no {", ".join(missing)}; to start '
            f'a training from these weights, use --cfg-options load_from={path}'
        )
    return checkpoint


def set_resume(
    cfg: Config, checkpoint: str = 'auto', allow_changes: bool = False, processes: int = 1
) -> Resumed:
    """Set up a run to resume, if the checkpoint belongs to the same run.

    Args:
        cfg: The config of the run; ``resume`` and ``load_from`` are set.
        checkpoint: A checkpoint, a work dir, or 'auto' for the newest intact checkpoint in the
            run's own work dir.
        allow_changes: Whether to resume even if settings that affect the result have changed.
        processes: Number of processes of the run.

    Raises:
        FileNotFoundError: If the checkpoint does not exist.
        ValueError: If no checkpoint can be read, or it belongs to another run.
    """
    folder = cfg.work_dir if checkpoint == 'auto' else osp.expanduser(checkpoint)
    if checkpoint == 'auto' or osp.isdir(folder):
        point = find_resume_point(folder, filename_template(cfg))
        if point.path is None and checkpoint != 'auto':
            raise FileNotFoundError(f'no checkpoint in the work dir {checkpoint!r}')
    else:
        point = ResumePoint(checkpoint, read_for_resume(checkpoint), [])
    notes = list(point.notes)
    if point.path is not None:
        notes += check_same_run(point, cfg, allow_changes, processes)
    cfg.resume = point.path is not None
    cfg.load_from = point.path
    return Resumed(notes, point.checkpoint.get('meta', {}))


def check_same_run(
    point: ResumePoint, cfg: Config, allow_changes: bool = False, processes: int = 1
) -> list[str]:
    """Compare the settings of a run with those in its checkpoint; returns allowed changes.

    Raises:
        ValueError: If a setting that affects the result has changed.
    """
    meta = point.checkpoint['meta']
    for done, total in (('epoch', 'max_epochs'), ('iter', 'max_iters')):
        length = cfg.train_cfg.get(total)
        if length is not None and meta.get(done, 0) > length:
            raise ValueError(
                f'{point.path!r} is from {done} {meta[done]}, but train_cfg.{total} is {length}; '
                'train longer, or resume from an earlier checkpoint'
            )
    if 'cfg' not in meta:
        return [f'{point.path!r} does not record its settings, so they cannot be compared']
    try:
        before = parse(meta['cfg'])
    except ValueError as error:
        raise ValueError(f'{point.path!r} cannot be resumed: {error}') from error
    found = changes(before, cfg.to_dict(), meta.get('world_size'), processes)
    return _allowed(found.decisive, point.path, allow_changes) + _changed(found.harmless)


def check_same_teacher(
    model: nn.Module, meta: dict, path: Optional[str], allow_changes: bool = False
) -> list[str]:
    """Compare the teacher of a run with the hash of the teacher in the ``meta`` of its checkpoint.

    This detects a teacher that was replaced under the same path. Checkpoints without the hash are
    accepted. Returns messages for the user, which name the checkpoint by its path.

    Raises:
        ValueError: If the teacher has changed, unless changes are allowed.
    """
    before = meta.get(TEACHER)
    if before is None:
        return []
    now = teacher_hash(model)
    if now == before:
        return []
    text = (
        f'the teacher (its weights, or its own normalization) had the hash {before[:8]} and now '
        f'has {str(now)[:8]}'
    )
    return _allowed([text], path, allow_changes)


def check_same_images(
    dataset: Dataset, meta: dict, path: Optional[str], allow_changes: bool = False
) -> list[str]:
    """Compare the training images of a run with their hash in the ``meta`` of its checkpoint.

    This detects images that were added, removed or renamed in the same folder. Checkpoints without
    the hash are accepted. Returns messages for the user, which name the checkpoint by its path.

    Raises:
        ValueError: If the images or their labels have changed, unless changes are allowed.
    """
    before, now = meta.get(IMAGES), images_hash(dataset)
    if before is None or now is None or now == before:
        return []
    text = 'the training images or their labels have changed (files, classes or their order)'
    return _allowed([text], path, allow_changes)


def check_same_start(
    model: nn.Module, dataset: Dataset, meta: dict, checkpoint: Optional[str]
) -> None:
    """Check that all processes of a run start from the same files.

    Args:
        model, dataset: The model, and the training set.
        meta: The ``meta`` of the checkpoint that this process resumes from, empty without one.
        checkpoint: Path of this checkpoint, or of other initial weights.

    Raises:
        ValueError: In all processes, if the name or iteration of the checkpoint, the teacher's
            weights, or the images differ.
    """
    if get_world_size() == 1:
        return
    start = {
        'checkpoint': f'{checkpoint and osp.basename(checkpoint)}, iteration {meta.get("iter", 0)}',
        'teacher': teacher_hash(model),
        'images': images_hash(dataset),
    }
    starts = all_gather_object(start)
    for name in start:
        found = [each[name] for each in starts]
        if len(set(found)) > 1:
            raise ValueError(
                f'the processes have different files ({name}: '
                + '; '.join(f'process {rank} {value}' for rank, value in enumerate(found))
                + '): copy the work dir, the data set and the teacher to all machines, or share '
                'one folder'
            )


def check_initial_weights(model: nn.Module, path: str) -> None:
    """Reject weights of another net, for which MMEngine logs a warning and loads nothing.

    Raises:
        ValueError: If no name and shape in the checkpoint is that of a weight of the model.
    """
    own = {(name, value.shape) for name, value in unwrap(model).state_dict().items()}
    checkpoint = read(path)
    for name, value in checkpoint.get('state_dict', checkpoint).items():
        name, shape = name.removeprefix('module.'), getattr(value, 'shape', None)
        if {(name, shape), (f'architecture.{name}', shape)} & own:
            return
    raise ValueError(
        f'load_from={path!r} has no weight with the name and shape of one of the model; give a '
        'checkpoint of this net'
    )


def _allowed(changed: list[str], path: Optional[str], allow_changes: bool) -> list[str]:
    if changed and not allow_changes:
        raise ValueError(
            f'{path!r} belongs to a run with different settings: {"; ".join(changed)}. Use '
            'another --work-dir for the new settings, or add --allow-changes to resume with them'
        )
    return _changed(changed)


def _changed(texts: list[str]) -> list[str]:
    return [f'resuming with a changed setting: {text}' for text in texts]
