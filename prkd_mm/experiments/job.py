"""One training run of a comparison: its command and its results."""

import argparse
import contextlib
import hashlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Optional, Union

from mmrazor.registry import MODELS
from torch import nn

from ..algorithms.student_alone import is_alone
from ..analysis.spread.measure import last_step
from ..averaging import trained_weights
from ..checkpoints import read, resolve
from ..cli import command_of
from ..config import add_train_arguments, load_config
from ..files import write_json
from ..scalars import read_scalars
from ..start.folder_lock import set_aside
from ..start.recorded_config import changes, parse
from ..teachers.filling_teacher import prepare_store
from .provenance import agree, available_images_of, teacher_of
from .records import RunRecord, read_record, record_path, settings_of, write_record
from .run_server import Run, start_run
from .training_log import TOP1, Report, TrainingLog

AVERAGED_TOP1 = f'student_avg/{TOP1}'
_POLL_SECONDS = 0.5
_LINES_OF_AN_ERROR = 30


class TrainingFailed(RuntimeError):
    """A training command ended with an error."""


class Job:
    """One training run: its command, and the results in its work dir.

    Args:
        title, arguments: Name shown for its method, and the command line of ``tools/train.py``.
        method: A key of :data:`~prkd_mm.methods.METHODS`; None for a net trained alone.
        seed: Seed of the run, for its title and record.
        teacher: The job that trains its teacher, if one does.
        records: Folder of :class:`RunRecord` files; None: none are read or written.

    Raises:
        ValueError: If ``--store-views`` does not fit the config.
    """

    def __init__(
        self,
        title: str,
        arguments: list[str],
        method: Optional[str] = None,
        seed: int = 0,
        teacher: Optional['Job'] = None,
        records: Optional[Path] = None,
    ) -> None:
        parser = argparse.ArgumentParser()
        add_train_arguments(parser)
        self.args = parser.parse_args(arguments)
        self.name, self.method, self.seed = title, method, seed
        self.arguments, self.teacher, self.records = arguments, teacher, records
        self.cfg = load_config(
            self.args.config, self.args.method, self.args.cfg_options, self.args.work_dir
        )
        prepare_store(self.cfg, self.args.store_views)
        self.work_dir = Path(self.cfg.work_dir)
        self._notes = self.work_dir / 'job.json'
        self._process: Optional[Run] = None
        self._stopped = False

    @property
    def title(self) -> str:
        """Name of the run."""
        return f'{self.name}, seed {self.seed}' if self.seed else self.name

    @property
    def fingerprint(self) -> str:
        """Hash that identifies a run on this machine: options, config, file of the teacher."""
        teacher = self.cfg.model.get('teacher_ckpt')
        if teacher and not is_alone(self.cfg):
            several = isinstance(teacher, (list, tuple))
            teacher = list(map(_with_time, teacher)) if several else _with_time(teacher)
        text = json.dumps([self.args.amp, self.cfg.to_dict(), teacher], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def settings(self) -> str:
        """Hash of everything that affects the results on any machine, except the seed."""
        teacher = None if is_alone(self.cfg) else self.teacher
        own_seed = self.cfg.get('randomness', {}).get('seed')
        # --teacher-options may set a seed, which tells this teacher from that of the config
        seeds = [] if own_seed in (None, self.seed) else [own_seed]
        return settings_of(self.cfg, self.args.amp, teacher and teacher.settings, *seeds)

    @property
    def was_made_by_hand(self) -> bool:
        """Whether the work dir has checkpoints that were not made by a comparison."""
        return not self._notes.exists() and (self.work_dir / 'last_checkpoint').exists()

    @property
    def has_results(self) -> bool:
        """Whether the work dir has the finished run, and not another one of the same name."""
        return 'finished' in self.notes() or (self.method is None and self.was_made_by_hand)

    def epochs_done(self) -> int:
        """Epochs completed in the latest checkpoint."""
        return read(str(self.work_dir))['meta'].get('epoch', 0)

    def notes(self) -> dict:
        """Content of ``job.json`` if it belongs to this experiment; otherwise empty."""
        try:
            noted = json.loads(self._notes.read_text()) if self._notes.is_file() else {}
        except ValueError as error:
            raise ValueError(
                f"'{self._notes}' is damaged; move '{self.work_dir}' away, and run the same "
                'command again'
            ) from error
        same = noted.get('fingerprint') == self.fingerprint
        return noted if same and agree(noted.get('images'), available_images_of(self.cfg)) else {}

    def note(self, **values) -> None:
        """Add values to ``job.json``."""
        known = dict(fingerprint=self.fingerprint, images=available_images_of(self.cfg))
        noted = dict(self.notes(), **known, **values)
        self.work_dir.mkdir(parents=True, exist_ok=True)
        write_json(self._notes, noted, indent=1)

    def curve(self, metric: str) -> dict[int, float]:
        """A validation metric by epoch (the last value logged for each)."""
        rows = read_scalars(self.work_dir)
        return {row['step']: row[metric] for row in rows if metric in row}

    def strength_ends(self) -> Optional[tuple[float, float]]:
        """First and last logged strength of all losses together, of the first and last epoch."""
        strengths = [
            (row['epoch'], sum(value for key, value in row.items() if key.endswith('.strength')))
            for row in read_scalars(self.work_dir)
            if 'epoch' in row and any(key.endswith('.strength') for key in row)
        ]
        # several rows of an epoch differ if the schedule follows the iterations
        first = [value for epoch, value in strengths if epoch == 1][:1]
        last = [
            value for epoch, value in strengths if epoch == self.cfg.train_cfg.get('max_epochs')
        ]
        return (first[0], last[-1]) if first and last else None

    @property
    def record_file(self) -> Optional[Path]:
        """Path of the run's record; None without a records folder."""
        return self.records and record_path(self.records, self.work_dir.name, self.settings)

    @property
    def is_recorded(self) -> bool:
        """Whether the run has a record; its work dir is then not needed."""
        return bool(self.record_file and self.record_file.is_file())

    def record(self) -> RunRecord:
        """Results of the run, from its record or else from its work dir.

        Raises:
            ValueError: If the log has no validation after the last epoch.
        """
        if self.record_file and self.is_recorded:
            return read_record(self.record_file)
        raw, averaged = self.curve(TOP1), self.curve(AVERAGED_TOP1)
        # a net that was trained by hand may have more epochs than its config
        by_hand = self.was_made_by_hand
        epochs = self.epochs_done() if by_hand else self.cfg.train_cfg.max_epochs
        for curve, what in ((raw, 'validation'), (averaged, 'validation of the average')):
            if curve and epochs not in curve and not by_hand:
                raise ValueError(
                    f"the log in '{self.work_dir}' has no {what} after the last epoch, {epochs}; "
                    'move that folder away and run the same command again'
                )
        return RunRecord(
            self.name,
            self.method,
            self.seed,
            self.args.config,
            self.settings,
            round(self.notes().get('seconds', 0.0), 1),
            self.num_parameters(),
            f'{command_of("train.py")} {shlex.join(self.arguments)}',
            raw.get(epochs),
            averaged.get(epochs),
            max(raw.values(), default=None),
            raw,
            averaged,
            self.strength_ends(),
            self.last_step(),
            available_images_of(self.cfg),
            teacher_of(self.cfg),
        )

    def num_parameters(self) -> int:
        """Parameter count of the net that is trained."""
        return sum(parameter.numel() for parameter in self._net().parameters())

    def last_step(self) -> Optional[tuple[float, float]]:
        """Distance between the students of the last two epochs, and the norm of their mean."""
        return last_step(self.work_dir, trained_weights(self._net())) if self.method else None

    def _net(self) -> nn.Module:
        """The net that is trained, with random weights."""
        model = self.cfg.model.get('architecture', self.cfg.model)
        scope = self.cfg.get('default_scope', 'mmpretrain')
        return MODELS.build({'_scope_': scope, **model.to_dict()})

    def stop(self) -> None:
        """Terminate the process, or keep it from starting."""
        self._stopped = True
        if self._process:
            self._process.terminate()

    def run(
        self, train_py: str, report: Report, environment: Optional[dict[str, str]] = None
    ) -> None:
        """Train from the start, resume, or do nothing if the run is finished.

        ``environment`` has variables to set for the command.

        Raises:
            TrainingFailed: If the command fails; the message has the last lines of its output.
        """
        if not self._is_finished(report):
            command = [train_py, *self.arguments]
            if (self.work_dir / 'last_checkpoint').exists():
                command.append('--resume')
            self._train(command, report, dict(os.environ, **(environment or {})))
            self.note(finished=True)
        if self.record_file:
            write_record(self.record(), self.record_file)

    def _is_finished(self, report: Report) -> bool:
        """Whether the run is finished; if not, its work dir is prepared for the run."""
        if 'finished' in self.notes():
            report('already finished', 1, 1)
            return True
        if self.method is None and self.was_made_by_hand:
            if self.epochs_done() >= self.cfg.train_cfg.max_epochs:
                # kept with any settings: the training may have taken days
                report('; '.join(['found a finished checkpoint', *self._changed_settings()]), 1, 1)
                return True
            self.note(seconds=0.0)  # the run will resume
        if not self.notes():
            if self.work_dir.exists():
                report(f'renamed another experiment to {set_aside(self.work_dir)}', 0, 1)
            self.note(seconds=0.0)
        return False

    def _changed_settings(self) -> list[str]:
        """Differences of the run in the work dir from this one, if it recorded its settings."""
        meta = read(str(self.work_dir))['meta']
        if 'cfg' not in meta:
            return []
        return changes(parse(meta['cfg']), self.cfg.to_dict(), meta.get('world_size')).decisive

    def _train(self, command: list[str], report: Report, environment: dict[str, str]) -> None:
        before, start = self.notes()['seconds'], time.monotonic()
        progress = TrainingLog(self.work_dir, self.cfg.train_cfg.max_epochs, report)
        with tempfile.TemporaryFile('w+') as output:
            process = self._process = start_run(command, output, environment)
            if self._stopped:  # stop() was called while the process started
                process.terminate()
            try:
                while process.poll() is None:
                    progress.show()
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(_POLL_SECONDS)
            finally:
                process.terminate()  # still running only after an interrupt
                self.note(seconds=before + time.monotonic() - start)
            if process.returncode:
                output.seek(0)
                last = ''.join(_error(output))
                raise TrainingFailed(
                    f'{shlex.join([sys.executable, *command])} failed with exit status '
                    f'{process.returncode}:\n{last}'
                )
            progress.show()


def _error(output: Iterable[str]) -> list[str]:
    """The error that ends the output of a command, or else its last lines."""
    last = list(deque(output, _LINES_OF_AN_ERROR))
    reported = [i for i, line in enumerate(last) if line.startswith('error: ')]
    return last[reported[-1] :] if reported else last


def _with_time(checkpoint: str) -> Union[str, tuple[str, int]]:
    """The path of a file and the time of its last change; unchanged if there is no file."""
    with contextlib.suppress(FileNotFoundError):
        path = resolve(checkpoint)
        return path, Path(path).stat().st_mtime_ns
    return checkpoint
