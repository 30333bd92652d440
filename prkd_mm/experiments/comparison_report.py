"""Report of a comparison: tables, numbers, and one HTML page that opens offline."""

import platform
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.config import Config

from ..files import write_json, write_text
from ..teachers.filling_teacher import fills_a_store
from ..version import __version__
from .finding import finding
from .page import write_page
from .results import Row, differences, paired_table, table

NOTE = (
    'Top-1 on the validation images. Last epoch: the raw student at the end of the run. '
    'Averaged: the mean of its last epochs (MA). MA gain: averaged minus last epoch of the same '
    'run, in points. The best epoch is chosen on the same images, so it is too optimistic to be '
    'compared with the other columns. ± is the standard deviation over the seeds of the student; '
    'the teacher is the same in all runs. Paired differences compare runs with the same seed, by '
    "their averages if all methods have them; the interval is Student's t over the seeds, and "
    'the verdict is "yes" or "no" only if the whole interval lies on one side of 0.'
)


def protocol(cfg: Config) -> dict[str, str]:
    """Training settings of a run, from its config."""
    settings = cfg.to_dict()
    tail = cfg.default_hooks.get('tail_average') or {}
    return dict(
        epochs=str(cfg.train_cfg.max_epochs),
        batch=str(cfg.train_dataloader.batch_size),
        optimizer=str(settings['optim_wrapper']['optimizer']),
        learning_rate=str(settings['param_scheduler']),
        average=str(tail.get('num_epochs', '–')),
        bn=str(tail.get('bn', 'recalibrate')),
        teacher_logits=_teacher_logits(cfg.model),
        **machine(),
    )


def _teacher_logits(model: dict) -> str:
    """Where a student's model takes the teacher's logits from."""
    stored = model.get('teacher_logits')
    if fills_a_store(stored):
        return f'stored for {stored["views"]} views of each image'
    if stored:
        return f'stored: {stored}'
    return 'live teacher' if model.get('teacher') else '–'


def machine() -> dict[str, str]:
    """Software and device of this process."""
    device = f'CPU, {platform.machine()}'
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    return dict(software=f'prkd_mm {__version__}, torch {torch.__version__}', device=device)


def write_report(
    rows: Sequence[Row],
    folder: Path,
    title: str,
    about: dict[str, str],
    pictures: Sequence[Path] = (),
) -> None:
    """Write ``results.json``, ``results.md`` and ``report.html``.

    Args:
        rows: Rows from :func:`~prkd_mm.experiments.results.rows_of`.
        folder: Output folder.
        title: Heading of the page.
        about: Protocol of the runs: values by name.
        pictures: PNG files for the page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found, paired = finding(rows), differences(rows)
    numbers = dict(
        finding=found,
        protocol=about,
        rows=[_row_numbers(row) for row in rows],
        differences=[
            dict(
                better=each.better,
                worse=each.worse,
                values=each.values,
                mean=each.mean,
                interval=each.interval,
                verdict=each.verdict,
            )
            for each in paired
        ],
    )
    tables = {'Top-1': table(rows)}
    if paired:
        tables['Paired differences'] = paired_table(paired)
    entries = [(name.replace('_', ' '), value) for name, value in about.items()]
    lines = [f'- {name}: `{value}`' for name, value in entries]
    parts = [found, *(each.markdown() for each in tables.values()), NOTE, '\n'.join(lines)]
    write_json(folder / 'results.json', numbers, indent=1)
    write_text(folder / 'results.md', '\n\n'.join(parts) + '\n')
    commands = [('', run.command) for row in rows for run in row.runs]
    details = dict(Protocol=entries, Commands=commands)
    write_page(folder / 'report.html', title, found, tables, NOTE, pictures, details)


def _row_numbers(row: Row) -> dict:
    """Numbers of a row, as lists with one number per seed."""
    lists = {
        name: list(row.by_seed(name).values()) for name in ('last', 'averaged', 'best', 'seconds')
    }
    return dict(
        name=row.name,
        seeds=[run.seed for run in row.runs],
        **lists,
        gain=list(row.gain.values) if row.gain else [],
        parameters=row.runs[0].parameters,
        commands=[run.command for run in row.runs],
    )
