"""A comparison of methods from end to end: train, report, analyze."""

from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from rich.console import Console

from ..checkpoints import AVERAGE
from .analyses import analyze
from .comparison_report import protocol, write_report
from .figures import copy_schedule, draw_accuracy
from .job import Job
from .plan import DEFAULT_SEEDS, plan
from .pool import run_all
from .records import read_records
from .relaxation_figure import draw_relaxation
from .results import LAST_EPOCH, Row, recorded_sources, rows_of, tables
from .run_options import ComparisonOptions


def run_comparison(
    options: ComparisonOptions, train_py: str, command: str, console: Console
) -> None:
    """Train what is missing, print the tables and write the report, which shows ``command``.

    Raises:
        FileNotFoundError: If a config or a checkpoint does not exist.
        ValueError: If the options do not match the config.
        TrainingFailed: If a training run fails.
    """
    folder = options.out or Path('results') / Path(options.config).stem
    seeds = options.seeds or DEFAULT_SEEDS
    jobs = plan(
        options.config,
        options.methods,
        options.cfg_options,
        options.teacher_options,
        seeds,
        options.amp,
        next(iter(options.records), None),
        options.store_views,
    )
    run_all(jobs, train_py, console, options.jobs)
    rows = rows_of([job.record() for job in jobs])
    folder.mkdir(parents=True, exist_ok=True)
    pictures = _draw(rows, folder) + copy_schedule(jobs, folder)
    about = dict(
        command=command,
        config=options.config,
        seeds=', '.join(map(str, range(seeds))),
        **protocol(jobs),
    )
    title = Path(options.config).stem
    write_report(rows, folder, title, about, pictures)  # in case the figures fail
    show(rows, about, console)
    if options.figures:
        pictures += analyze(jobs, options.figures, folder, console)
        write_report(rows, folder, title, about, pictures)
    console.print(f'Report: {folder / "report.html"}', highlight=False, soft_wrap=True)
    _show_student(jobs, console)


def report_records(
    records: Sequence[Path],
    out: Optional[Path],
    command: str,
    console: Console,
    methods: Optional[Sequence[str]] = None,
    seeds: Optional[int] = None,
) -> None:
    """Print the tables and write the report of runs recorded in one or more folders.

    ``methods`` and ``seeds`` are the options of ``tools/reproduce.py``; None: all.

    Raises:
        FileNotFoundError: If a folder has no records, or there is none of one of the methods.
        ValueError: If the report would be written to a folder of records, or if two records are
            of the same method, settings and seed.
    """
    name = '+'.join(each.name for each in records)
    places = ', '.join(map(str, records))
    folder = out or Path('results') / name
    if folder.resolve() in [each.resolve() for each in records]:
        raise ValueError(f"the report would be among the records in '{folder}'; set another --out")
    found = [
        run
        for run in read_records(*records)
        if (methods is None or run.method in (None, *methods))
        and (seeds is None or run.seed < seeds)
    ]
    if not found:
        raise FileNotFoundError(f"no record in '{places}' is of these --methods and --seeds")
    if missing := [name for name in methods or () if name not in {run.method for run in found}]:
        raise FileNotFoundError(f"no record in '{places}' is of the method {', '.join(missing)}")
    rows = rows_of(found)
    folder.mkdir(parents=True, exist_ok=True)
    pictures = _draw(rows, folder)
    about = dict(command=command, records=places, teacher_logits=recorded_sources(rows))
    write_report(rows, folder, name, about, pictures)
    show(rows, about, console)
    console.print(f'Report: {folder / "report.html"}', highlight=False, soft_wrap=True)


def _draw(rows: Sequence[Row], folder: Path) -> list[Path]:
    relaxation = draw_relaxation(rows, folder / 'relaxation.png')
    return relaxation + draw_accuracy(rows, folder / 'accuracy.png')


def show(rows: Sequence[Row], about: dict[str, str], console: Console) -> None:
    """Print the tables, except those that only the report has."""
    for name, each in tables(rows, about).items():
        if name != LAST_EPOCH:
            console.print(each.screen())


def _show_student(jobs: Sequence[Job], console: Console) -> None:
    """Print the path of the averaged student of the last method, with seed 0."""
    first = next(job for job in jobs if job.method == jobs[-1].method)
    student = first.work_dir / AVERAGE
    if first.has_results and student.exists():
        console.print(
            f'Averaged student of {first.name}, seed 0: {student}', highlight=False, soft_wrap=True
        )
