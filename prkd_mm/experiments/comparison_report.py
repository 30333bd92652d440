"""Report of a comparison: tables, numbers, and one HTML page that opens offline."""

import platform
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from ..files import write_json, write_text
from ..version import __version__
from .finding import finding
from .job import Job
from .results import Row, differences, tables
from .shared_store import teacher_source

NOTE = (
    'Top-1 on the validation set of the config. Last epoch: the raw student at the end of the run. '
    'Averaged: the mean of its last epochs (MA). MA gain: averaged minus last epoch of the same '
    'run, in points. The best epoch is chosen on the same images, so it is too optimistic to be '
    'compared with the other columns. ± is the standard deviation over the seeds of the student; '
    'the teacher is the same in all runs. Paired differences compare runs with the same seed, by '
    'their averages if all methods have them, and in the last epoch; the interval is '
    "Student's t over the seeds, and the verdict is "
    '"yes" or "no" only if the whole interval lies on one side of 0. It covers the '
    'randomness of the seeds, not the choice of the teacher and of the validation set, and one '
    'in twenty intervals excludes 0 even if the methods do not differ. The strength is that of '
    'the whole supervision at the match, the mean curvature of the loss in the logits, on '
    'the images of the log; its figure is of images without augmentation, and can differ. The '
    'distance between the students of the last two epochs is the norm of the difference of their '
    'trained weights.'
)


def protocol(jobs: Sequence[Job]) -> dict[str, str]:
    """Training settings of the students, from the config of the last one.

    The device and the software are left out if a run was recorded elsewhere.
    """
    cfg = jobs[-1].cfg
    settings = cfg.to_dict()
    on_gpu = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if on_gpu else f'CPU, {platform.machine()}'
    sources = [source for job in jobs if (source := teacher_source(job.cfg.model))]
    tail = cfg.default_hooks.get('tail_average') or {}
    here = dict(software=f'prkd_mm {__version__}, torch {torch.__version__}', device=device)
    return dict(
        epochs=str(cfg.train_cfg.max_epochs),
        batch=str(cfg.train_dataloader.batch_size),
        optimizer=str(settings['optim_wrapper']['optimizer']),
        learning_rate=str(settings['param_scheduler']),
        average=str(tail.get('num_epochs', '–')),
        bn=str(tail.get('bn', 'recalibrate')),
        teacher_logits=sources[-1] if sources else '',
        **(here if all(job.has_results for job in jobs) else {}),
    )


def write_report(
    rows: Sequence[Row],
    folder: Path,
    title: str,
    about: dict[str, str],
    pictures: Sequence[Path] = (),
) -> None:
    """Write ``results.json``, ``results.md`` and ``report.html``, which shows the PNG pictures.

    ``about`` is the protocol of the runs: values by name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = finding(rows)
    numbers = dict(
        finding=found,
        protocol=about,
        rows=[_row_numbers(row) for row in rows],
        differences=[
            dict(
                asdict(each),
                mean=each.mean,
                standard_error=each.standard_error,
                interval=each.interval,
                verdict=each.verdict,
            )
            for each in differences(rows)
        ],
    )
    shown = tables(rows, about)
    entries = [(name.replace('_', ' '), value) for name, value in about.items() if value]
    lines = [f'- {name}: `{value}`' for name, value in entries]
    parts = [found, *(f'## {name}\n\n{each.markdown()}' for name, each in shown.items())]
    parts += [NOTE, '\n'.join(lines)]
    write_json(folder / 'results.json', numbers, indent=1)
    write_text(folder / 'results.md', '\n\n'.join(parts) + '\n')
    commands = [('', run.command) for row in rows for run in row.runs]
    figures = {
        picture.stem.replace('_', ' ').capitalize(): b64encode(picture.read_bytes()).decode()
        for picture in pictures
    }
    details = dict(Protocol=entries, Commands=commands)
    page = dict(title=title, finding=found, tables=shown, note=NOTE, figures=figures)
    write_text(folder / 'report.html', _page_template().render(**page, details=details))


def _page_template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template('page.html.j2')


def _row_numbers(row: Row) -> dict:
    """Numbers of a row, as lists with one number per seed, or None for a run without it."""
    seeds = [run.seed for run in row.runs]
    names = ('last', 'averaged', 'best', 'seconds', 'step')
    return dict(
        name=row.name,
        seeds=seeds,
        **{name: [getattr(run, name) for run in row.runs] for name in names},
        gain=[row.gains.get(seed) for seed in seeds],
        strength=row.strength,
        parameters=row.runs[0].parameters,
        commands=[run.command for run in row.runs],
    )
