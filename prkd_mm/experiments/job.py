"""One training run of a comparison: its command and what it leaves."""

import argparse
import contextlib
import hashlib
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import Callable, Optional

from mmrazor.registry import MODELS

from ..checkpoints import read, resolve
from ..config import add_common_arguments, load_config

TOP1, AVERAGED_TOP1 = 'accuracy/top1', 'student_avg/accuracy/top1'
_STEP = re.compile(
    r'Epoch\(train\)\s+\[(\d+)\]\[\s*(\d+)/(\d+)\].*?'
    r'\sloss: (\S+)'
)
_EVALUATION = re.compile(r'Epoch\(val\).*? accuracy/top1: (\S+)')


def set_aside(folder: Path) -> Path:
    """Rename what another experiment has left: ``.1``, ``.2``, ..."""
    names = (folder.with_name(f'{folder.name}.{i}') for i in itertools.count(1))
    return folder.rename(next(name for name in names if not name.exists()))


class Job:
    """One training run: a command, and what it leaves in its work dir.

    Args:
        title (str): What the user reads.
        arguments (list[str]): The command line of ``tools/train.py``.
        method (str, optional): Of :data:`~prkd_mm.experiments.METHODS`.
            Defaults to None: a net alone, as a teacher.
        seed (int): Which of the runs of this method. Defaults to 0.
    """

    def __init__(
        self, title: str, arguments: list[str], method: Optional[str] = None, seed: int = 0
    ) -> None:
        parser = argparse.ArgumentParser()
        parser.add_argument('config')
        parser.add_argument('--amp', action='store_true')
        add_common_arguments(parser)
        args = parser.parse_args(arguments)
        self.title, self.method, self.seed = title, method, seed
        self.arguments = arguments
        self.cfg = load_config(args.config, args.method, args.cfg_options, args.work_dir)
        self.work_dir = Path(self.cfg.work_dir)
        self._record = self.work_dir / 'job.json'
        self._process: Optional[subprocess.Popen] = None
        self._stopped = False

    @property
    def fingerprint(self) -> str:
        """Of all that makes a run another experiment: its command, its
        resolved config, its teacher's file."""
        teacher = self.cfg.model.get('teacher_ckpt')
        if teacher and self.cfg.get('method') != 'ce':
            with contextlib.suppress(FileNotFoundError):
                path = resolve(teacher)
                teacher = path, Path(path).stat().st_mtime_ns
        text = json.dumps(
            ['--amp' in self.arguments, self.cfg.to_dict(), teacher], sort_keys=True, default=str
        )
        return hashlib.sha256(text.encode()).hexdigest()

    def stop(self) -> None:
        """End the command if it runs, and let it not begin."""
        self._stopped = True
        if self._process:
            self._process.terminate()

    @property
    def was_made_by_hand(self) -> bool:
        """Whether checkpoints are there that no comparison has made."""
        return not self._record.exists() and (self.work_dir / 'last_checkpoint').exists()

    def epochs_done(self) -> int:
        """Of the latest checkpoint."""
        return read(str(self.work_dir))['meta'].get('epoch', 0)

    def record(self) -> dict:
        """What was noted of this very experiment: empty if nothing."""
        if not self._record.is_file():
            return {}
        noted = json.loads(self._record.read_text())
        return noted if noted['fingerprint'] == self.fingerprint else {}

    def note(self, **values) -> None:
        """Add to what is noted of this very experiment."""
        noted = dict(self.record(), fingerprint=self.fingerprint, **values)
        self.work_dir.mkdir(parents=True, exist_ok=True)
        self._record.write_text(json.dumps(noted, indent=1))

    def scalars(self) -> list[dict]:
        """All that the run logged, in order."""
        return [
            json.loads(line)
            for file in sorted(self.work_dir.glob('*/vis_data/scalars.json'))
            for line in file.read_text().splitlines()
        ]

    def curve(self, metric: str) -> dict[int, float]:
        """A validation metric by epoch (the last value logged for each)."""
        return {row['step']: row[metric] for row in self.scalars() if metric in row}

    def num_parameters(self) -> int:
        """Of the net that is trained."""
        model = self.cfg.model.get('architecture', self.cfg.model)
        net = MODELS.build(model.to_dict())
        return sum(parameter.numel() for parameter in net.parameters())


class TrainingFailed(RuntimeError):
    """A training command ended with an error."""


def run(
    job: Job,
    train_py: str,
    report: Callable[[str, int, int], None],
    environment: Optional[dict[str, str]] = None,
) -> None:
    """Run a job: from the start, from where it was cut off, or not at all.

    Args:
        job (Job): The job.
        train_py (str): Path of ``tools/train.py``.
        report (Callable): Called as ``report(state, done, total)``, in
            iterations.
        environment (dict, optional): Variables to set besides those that are
            set here. Defaults to None.

    Raises:
        TrainingFailed: With the last lines that the command printed.
    """
    if 'finished' in job.record():
        return report('done before', 1, 1)
    epochs, accuracy, tail = job.cfg.train_cfg.max_epochs, '', deque(maxlen=30)
    if job.method is None and job.was_made_by_hand:
        if job.epochs_done() >= epochs:
            return report('is there', 1, 1)  # it may have taken days
        job.note(seconds=0.0)  # so it goes on
    if not job.record():
        if job.work_dir.exists():
            kept = set_aside(job.work_dir)
            report(f'kept another experiment as {kept}', 0, 1)
        job.note(seconds=0.0)
    resume = (job.work_dir / 'last_checkpoint').exists()
    command = [sys.executable, train_py, *job.arguments]
    command += ['--resume'] * resume
    before, start = job.record()['seconds'], time.monotonic()
    process = job._process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=dict(os.environ, **(environment or {})),
    )
    if job._stopped:  # meanwhile
        process.terminate()
    try:
        for line in process.stdout:
            tail.append(line)
            if found := _EVALUATION.search(line):
                accuracy = f'  top-1 {float(found[1]):.1f} %'
            elif found := _STEP.search(line):
                epoch, step, steps = map(int, found.groups()[:3])
                report(
                    f'epoch {epoch}/{epochs}  loss {found[4]}{accuracy}',
                    (epoch - 1) * steps + step,
                    epochs * steps,
                )
        process.wait()
    finally:
        process.terminate()  # only if we were interrupted is it still there
        job.note(seconds=before + time.monotonic() - start)
    if process.returncode:
        raise TrainingFailed(
            f'{shlex.join(command)} failed with exit status {process.returncode}:\n{"".join(tail)}'
        )
    job.note(finished=True)
    report(f'epoch {epochs}/{epochs}{accuracy}', 1, 1)
