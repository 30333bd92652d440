"""Find the checkpoint to resume a run from, and check that it is this run's."""

import os.path as osp
import re
from pathlib import Path
from typing import NamedTuple, Optional, Union

from mmengine.config import Config

from .checkpoints import read
from .recorded_config import changes, parse

_NAME = re.compile(r'(epoch|iter)_(\d+)\.pth')
_STATE = ('meta', 'state_dict', 'optimizer', 'message_hub')  # what a resume needs


class ResumePoint(NamedTuple):
    """Where a run resumes.

    Attributes:
        path (str, optional): The checkpoint; None to train from the beginning.
        checkpoint (dict): Its content; empty for None.
        notes (list[str]): What the user should know, one sentence each.
    """

    path: Optional[str]
    checkpoint: dict
    notes: list[str]


def find_resume_point(work_dir: Union[str, Path]) -> ResumePoint:
    """The newest checkpoint of a work dir that can be read.

    It starts with the one that ``last_checkpoint`` names, by its file name
    only, so that copied and moved work dirs use their own files, and goes back
    from there. Without a usable ``last_checkpoint`` it starts with the highest
    number.

    Raises:
        ValueError: If the work dir has checkpoints, but none can be read.
    """
    work_dir = Path(work_dir)
    candidates = _candidates(work_dir)
    notes = []
    if candidates:
        last = _last_checkpoint(work_dir)
        if last in candidates:
            candidates = candidates[candidates.index(last) :]
        else:
            notes.append(
                f"'{work_dir}/last_checkpoint' names no checkpoint of this folder; looking for "
                'the newest one'
            )
    for path in candidates:
        try:
            checkpoint = read_for_resume(str(path))
        except (OSError, ValueError) as error:
            notes.append(f'skipped a checkpoint: {error}')
            continue
        return ResumePoint(str(path), checkpoint, notes)
    if candidates:
        raise ValueError(
            f"no checkpoint in '{work_dir}' can be read: {'; '.join(notes)}. To train from the "
            'beginning, run the command without --resume'
        )
    return ResumePoint(
        None, {}, [f"there is no checkpoint in '{work_dir}': training from the beginning"]
    )


def _candidates(work_dir: Path) -> list[Path]:
    """Checkpoints of training states, from the newest to the oldest."""
    numbered = [
        (match[1], int(match[2]), path)
        for path in work_dir.glob('*.pth')
        if (match := _NAME.fullmatch(path.name))
    ]
    return [path for *_, path in sorted(numbered, reverse=True)]


def _last_checkpoint(work_dir: Path) -> Optional[Path]:
    try:
        text = (work_dir / 'last_checkpoint').read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
    return work_dir / osp.basename(text)


def read_for_resume(path: str) -> dict:
    """Read a checkpoint that holds the whole state of a training.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read or lacks what a resume needs.
    """
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
) -> list[str]:
    """Let a run resume, after a check that the checkpoint is of this run.

    Args:
        cfg (Config): The config of the run; gets ``resume`` and ``load_from``.
        checkpoint (str): A checkpoint, a work dir, or 'auto' for the newest
            intact checkpoint in the run's own work dir.
        allow_changes (bool): Whether to resume although settings that decide
            the result have changed.
        processes (int): Number of processes of the run.

    Returns:
        list[str]: What the user should know.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If no checkpoint can be read, or if it is of another run.
    """
    folder = cfg.work_dir if checkpoint == 'auto' else osp.expanduser(checkpoint)
    if checkpoint == 'auto' or osp.isdir(folder):
        point = find_resume_point(folder)
        if point.path is None and checkpoint != 'auto':
            raise FileNotFoundError(f'no checkpoint in the work dir {checkpoint!r}')
    else:
        point = ResumePoint(checkpoint, read_for_resume(checkpoint), [])
    notes = list(point.notes)
    if point.path is not None:
        notes += check_same_run(point, cfg, allow_changes, processes)
    cfg.resume = point.path is not None
    cfg.load_from = point.path
    return notes


def check_same_run(
    point: ResumePoint, cfg: Config, allow_changes: bool = False, processes: int = 1
) -> list[str]:
    """Compare a run's settings with those that its checkpoint recorded.

    Returns:
        list[str]: The changes that are allowed.

    Raises:
        ValueError: If a setting has changed that decides the result.
    """
    meta = point.checkpoint['meta']
    if 'cfg' not in meta:
        return [f'{point.path!r} does not record its settings, so they cannot be compared']
    before = parse(meta['cfg'])
    found = changes(before, cfg.to_dict(), meta.get('world_size'), processes)
    if found.decisive and not allow_changes:
        raise ValueError(
            f'{point.path!r} is of another run, which had other settings: '
            f'{"; ".join(found.decisive)}. Use another --work-dir for the new settings, or add '
            '--allow-changes to resume with them'
        )
    return [f'resuming with a changed setting: {text}' for text in found.decisive + found.harmless]
