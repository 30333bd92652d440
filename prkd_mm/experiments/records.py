"""Results of finished runs, in files that are small enough for a repository."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional

from mmengine.config import Config

from ..files import write_json

# settings that affect the results of a run, and keys in them that affect only files and logs
_DECISIVE = (
    'method',
    'model',
    'data_preprocessor',
    'train_dataloader',
    'val_dataloader',
    'val_evaluator',
    'train_cfg',
    'optim_wrapper',
    'param_scheduler',
    'default_hooks',
    'custom_hooks',
    'randomness',
    'load_from',
    'auto_scale_lr',
)
_INCIDENTAL = ('data_root', 'pin_memory', 'checkpoint', 'logger', 'timer', 'seed', 'teacher_config')


@dataclass(frozen=True)
class RunRecord:
    """Results of a finished run.

    Attributes:
        title: Name of the method in tables.
        method: A key of :data:`~prkd_mm.config.METHODS`; None for a net trained alone.
        seed: Seed of the run.
        config: The config file.
        settings: :func:`settings_of` the run: equal for the runs of a method that differ in
            their seed only.
        seconds: Training time.
        parameters: Parameter count of the trained net.
        command: The training command.
        last, best: Top-1 in percent after the last epoch and after the best one; None if there
            is no log, as for a downloaded checkpoint.
        averaged: Top-1 in percent of the tail average; None without one.
        curve: Top-1 of the raw net by epoch.
        averaged_curve: Top-1 of the tail average by epoch.
    """

    title: str
    method: Optional[str]
    seed: int
    config: str
    settings: str
    seconds: float
    parameters: int
    command: str
    last: Optional[float]
    averaged: Optional[float]
    best: Optional[float]
    curve: dict[int, float]
    averaged_curve: dict[int, float]


def settings_of(cfg: Config, *others: Any) -> str:
    """Fingerprint of the settings that affect the results; it is the same on every machine.

    Data folders, the seed, logging and the number of kept checkpoints are not included.

    Args:
        cfg: Config of the run.
        *others: Other values that affect the results.
    """
    decisive = {key: value for key, value in cfg.to_dict().items() if key in _DECISIVE}
    text = json.dumps([_without_incidental(decisive), others], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _without_incidental(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_incidental(v) for k, v in value.items() if k not in _INCIDENTAL}
    if isinstance(value, (list, tuple)):
        return [_without_incidental(item) for item in value]
    return value


def record_path(folder: Path, name: str, settings: str) -> Path:
    """Path of a run's record; runs with other settings have other paths."""
    return folder / f'{name}-{settings[:8]}.json'


def write_record(record: RunRecord, path: Path) -> None:
    """Write a record as JSON; the folder is created if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, asdict(record))


def read_record(path: Path) -> RunRecord:
    """Read a record.

    Raises:
        ValueError: If the file is not a record.
    """
    try:
        fields = json.loads(path.read_text(encoding='utf-8'))
        for name in ('curve', 'averaged_curve'):
            fields[name] = {int(epoch): top1 for epoch, top1 in fields[name].items()}
        return RunRecord(**fields)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"'{path}' is not the record of a run ({error}); delete it") from error


def read_records(folder: Path) -> Sequence[RunRecord]:
    """All records in a folder, sorted by file name.

    Raises:
        FileNotFoundError: If there are no records.
    """
    records = [read_record(path) for path in sorted(folder.glob('*.json'))]
    if not records:
        raise FileNotFoundError(f"no records of runs (*.json) in '{folder}'")
    return records
