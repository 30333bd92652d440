"""Figures of a comparison: accuracy over the epochs, and the schedule."""

import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path

from ..visualization import plot_accuracy
from .job import Job
from .results import Row, labels

Curve = dict[int, float]  # top-1 by epoch


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Mean over the runs, at the epochs that all runs have."""
    epochs = set(curves[0]).intersection(*curves)
    return {epoch: statistics.fmean(curve[epoch] for curve in curves) for epoch in sorted(epochs)}


def draw_accuracy(rows: Sequence[Row], path: Path) -> list[Path]:
    """Plot the means over the seeds; no figure if no row has a log."""
    curves = {
        row.name: (
            mean_curve([run.curve for run in row.runs]),
            mean_curve([run.averaged_curve for run in row.runs]),
        )
        for row in rows
    }
    logged = {name: pair for name, pair in curves.items() if pair[0]}
    if not logged:
        return []
    plot_accuracy(logged, path, labels(rows))
    return [path]


def copy_schedule(jobs: Sequence[Job], folder: Path) -> list[Path]:
    """Copy the schedule figure of the last method that has one."""
    for job in reversed(jobs):
        if job.has_results and (job.work_dir / 'schedule.png').exists():
            return [Path(shutil.copy(job.work_dir / 'schedule.png', folder))]
    return []
