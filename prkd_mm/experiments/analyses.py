"""The analyses of a comparison's students, for its report."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ..analysis import STUDIES
from ..analysis.device import choose_device
from ..analysis.output import Report
from ..analysis.runs import Run
from ..config import METHODS
from .job import Job

# whose landscapes the paper sets side by side; each costs some hundred passes
_LANDSCAPES = ('kd', 'dist', 'prkd')


def analyse(
    jobs: Sequence[Job], names: Sequence[str], folder: Path, console: Console
) -> list[Path]:
    """Look at the students of seed 0; at the landscapes of all seeds.

    What an analysis lacks (a teacher, the checkpoints of the tail) is told,
    and the others go on.

    Args:
        jobs (Sequence[Job]): Finished, of :func:`plan`.
        names (Sequence[str]): Of :data:`~prkd_mm.analysis.STUDIES`.
        folder (Path): Where to.
        console (Console): Where progress and numbers are shown.

    Returns:
        list[Path]: The figures, as PNG.
    """
    # of a config without methods all jobs are the same net's
    students = [job for job in jobs if job.method] or jobs
    runs = {
        job.method: Run(
            METHODS.get(job.method, job.title).replace('student, ', ''),
            job.cfg,
            (),
            [
                str(other.work_dir)
                for other in students
                if other.method == job.method and other.seed
            ],
        )
        for job in students
        if job.seed == 0
    }
    options = (
        dict(landscape=dict(seeds=1))
        if max(job.seed for job in students)
        else {}  # a draw for each training
    )
    distilled = {name: run for name, run in runs.items() if 'distiller' in run.cfg.model}
    chosen = dict(
        strength=distilled,
        compare=runs if distilled else {},  # with the teacher
        landscape={name: run for name, run in runs.items() if name in _LANDSCAPES} or runs,
    )
    pictures = []
    for name in names:
        of = chosen.get(name, runs)
        if not of:
            console.print(f'No figure of {name}: it needs a student that was distilled')
            continue
        if len(of) < len(runs):
            console.print(f'{name}: of {", ".join(of)}')
        report = Report(folder, name, console)
        try:
            STUDIES[name](
                list(of.values()), report, device=choose_device(), **options.get(name, {})
            )
        except (FileNotFoundError, ValueError) as error:
            console.print(f'No figure of {name}: {error}', highlight=False, soft_wrap=True)
        pictures += report.pictures
    return pictures
