"""Follow the log of a training run while it is written."""

import json
from collections.abc import Callable
from pathlib import Path

TOP1 = 'accuracy/top1'

Report = Callable[[str, int, int], None]  # report(state, epochs done, all epochs)


class TrainingLog:
    """Report the scalars that a training run logs from now on, of ``epochs`` in total."""

    def __init__(self, work_dir: Path, epochs: int, report: Report) -> None:
        self.work_dir, self.epochs, self.report = work_dir, epochs, report
        self._earlier = set(self._files())
        self._position = 0
        self._loss = self._accuracy = ''

    def _files(self) -> list[Path]:
        return sorted(self.work_dir.glob('*/vis_data/scalars.json'))

    def show(self) -> None:
        """Report every epoch and loss logged since the last call."""
        new = [path for path in self._files() if path not in self._earlier]
        if not new:
            return
        with new[-1].open() as file:
            file.seek(self._position)
            while (line := file.readline()).endswith('\n'):  # otherwise it is still being written
                self._position = file.tell()
                self._report(json.loads(line))

    def _report(self, row: dict) -> None:
        if TOP1 in row:
            epoch, done = row['step'], row['step']
            self._accuracy = f'  top-1 {row[TOP1]:.1f} %'
        elif 'loss' in row:
            epoch, done = row['epoch'], row['epoch'] - 1
            self._loss = f'  loss {row["loss"]:.4f}'
        else:
            return
        self.report(f'epoch {epoch}/{self.epochs}{self._loss}{self._accuracy}', done, self.epochs)
