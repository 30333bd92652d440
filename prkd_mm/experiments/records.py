"""Results of finished runs, in files that are small enough for a repository."""

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Optional

from mmengine.config import Config

from ..files import write_json
from ..methods import METHODS

# sections of a config that affect the results of a run
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
# keys in them, at any depth of the section, that affect only files and logs
_DATA = ('data_root', 'pin_memory')
_INCIDENTAL = dict(
    model=('teacher_config',),
    train_dataloader=_DATA,
    val_dataloader=_DATA,
    default_hooks=('checkpoint', 'logger', 'timer'),
    randomness=('seed',),
)
# Workers do not change the results either; these are the values in the settings of old records
_WORKERS = dict(num_workers=0, persistent_workers=False)


@dataclass(frozen=True)
class RunRecord:
    """Results of a finished run; top-1 in percent."""

    title: str  # title of the method in tables
    method: Optional[str]  # a key of METHODS; None for a net trained alone
    seed: int
    config: str  # the config file
    settings: str  # settings_of() the run: equal for runs that differ in their seed only
    seconds: float  # training time
    parameters: int  # number of parameters of the trained net
    command: str  # training command
    last: Optional[float]  # None without a log, as for a downloaded checkpoint
    averaged: Optional[float]  # None without a tail average
    best: Optional[float]  # best epoch
    curve: dict[int, float]  # top-1 of the net, without averaging, by epoch
    averaged_curve: dict[int, float]
    # strength of the supervision in the first and last epoch; None if it was not logged
    strength: Optional[tuple[float, float]] = None
    # distance between the students of the last two epochs, and the norm of their mean; None
    # without their checkpoints
    step: Optional[tuple[float, float]] = None
    # hashes of the training and validation images and of the teacher's weights; None if unknown
    images: Optional[str] = None
    teacher: Optional[str] = None

    @property
    def is_distilled(self) -> bool:
        """Whether the run had a teacher, as far as the record tells for a method of one's own."""
        own = self.method not in METHODS
        return bool(self.strength or self.teacher) if own else self.method != 'ce'


def settings_of(cfg: Config, *others: Any) -> str:
    """Fingerprint of the settings that affect the results; it is the same on every machine.

    Data folders, workers, the seed, logging and the number of kept checkpoints are not included.
    ``others`` are further values that affect the results.
    """
    decisive = {
        key: _without(value, _INCIDENTAL.get(key, ()))
        for key, value in cfg.to_dict().items()
        if key in _DECISIVE
    }
    for name in ('train_dataloader', 'val_dataloader'):
        loader = decisive.get(name) or {}
        loader.update((key, value) for key, value in _WORKERS.items() if key in loader)
    text = json.dumps([decisive, others], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _without(value: Any, keys: Collection[str]) -> Any:
    if isinstance(value, dict):
        return {key: _without(v, keys) for key, v in value.items() if key not in keys}
    if isinstance(value, (list, tuple)):
        return [_without(item, keys) for item in value]
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
        ValueError: If the file is not a record, or was written by a newer version.
    """
    try:
        values = json.loads(path.read_text(encoding='utf-8'))
        for name in ('curve', 'averaged_curve'):
            values[name] = {int(epoch): top1 for epoch, top1 in values[name].items()}
        for name in ('strength', 'step'):
            if (pair := values.get(name)) is not None:
                values[name] = float(pair[0]), float(pair[1])
        known = [field.name for field in fields(RunRecord)]
        record = RunRecord(**{name: values[name] for name in known if name in values})
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"'{path}' is not the record of a run ({error}); delete it") from error
    if newer := sorted(values.keys() - set(known)):
        raise ValueError(
            f"'{path}' was written by a newer version of prkd_mm, which has {', '.join(newer)}; "
            'update prkd_mm'
        )
    return record


def read_records(*folders: Path) -> Sequence[RunRecord]:
    """All records in the folders: nets trained alone, then methods in the order of ``METHODS``.

    Copies of a record count once.

    Raises:
        FileNotFoundError: If a folder has no records.
    """
    records: list[RunRecord] = []
    for folder in folders:
        paths = sorted(folder.glob('*.json'))
        if not paths:
            raise FileNotFoundError(f"no records of runs (*.json) in '{folder}'")
        found = map(read_record, paths)
        records += [record for record in found if record not in records]
    order = {method: i for i, method in enumerate([None, *METHODS])}
    return sorted(records, key=lambda record: order.get(record.method, len(order)))
