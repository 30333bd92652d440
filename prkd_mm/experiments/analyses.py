"""Run the studies for the report of a comparison."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Optional

from rich.console import Console

from ..analysis import STUDIES
from ..analysis.output import Report
from ..analysis.runs import Run
from ..methods import METHODS
from .job import Job

# the methods whose landscapes the paper compares; each takes several hundred passes
_LANDSCAPES = ('kd', 'dist', 'prkd')


def analyze(
    jobs: Sequence[Job], names: Sequence[str], folder: Path, console: Console
) -> list[Path]:
    """Run studies on the students of seed 0; the landscape study uses all seeds.

    A run whose work dir is missing, or has another experiment, is reported and skipped; so is a
    study that lacks something (a teacher, the checkpoints of the tail). ``names`` are keys of
    :data:`~prkd_mm.analysis.STUDIES`. Returns the figures as PNG files.
    """
    # without methods all jobs train the same net
    students = [job for job in jobs if job.method] or list(jobs)
    missing = [job.title for job in students if not job.has_results]
    if names and missing:
        console.print(
            f'Not in the studies, since only their records are here: {", ".join(missing)}'
        )
    students = [job for job in students if job.has_results]
    if not students:
        return []
    several_seeds = any(job.seed for job in students)
    runs = {job.method: _run(job, students) for job in students if not job.seed}
    figures: list[Path] = []
    for name in names:
        chosen = _choose(name, runs)
        if not chosen:
            console.print(f'No {name} figure: it needs a distilled student')
            continue
        if len(chosen) < len(runs):
            console.print(f'{name}: only {", ".join(map(str, chosen))}')
        options = STUDIES[name].options()
        if name == 'landscape' and several_seeds:
            options = replace(options, seeds=1)  # one draw for each training
        report = Report(folder, name, console)
        try:
            STUDIES[name].run(list(chosen.values()), report, options)
        except (FileNotFoundError, ValueError) as error:
            report.note(f'No {name} figure: {error}', soft_wrap=True)
        figures += report.pictures
    return figures


def _run(job: Job, students: Sequence[Job]) -> Run:
    """The run of seed 0 with the work dirs of its other seeds."""
    others = {
        each.seed: str(each.work_dir)
        for each in students
        if each.method == job.method and each.seed
    }
    return Run(METHODS.get(job.method or '', job.title), job.cfg, repeats=others)


def _choose(name: str, runs: dict[Optional[str], Run]) -> dict[Optional[str], Run]:
    """The runs that a study can use."""
    distilled = {method: run for method, run in runs.items() if 'distiller' in run.cfg.model}
    if name == 'strength':
        return distilled
    if name == 'compare':
        return runs if distilled else {}  # the study needs a teacher
    if name == 'landscape':
        return {method: run for method, run in runs.items() if method in _LANDSCAPES} or runs
    return runs
