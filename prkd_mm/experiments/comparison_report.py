"""What came of a comparison: a table, figures, one page that opens offline."""

import base64
import html
import json
import platform
import shlex
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Optional

import torch
from rich.table import Table

from ..config import METHODS
from ..version import __version__
from ..visualization import plot_accuracy
from .job import AVERAGED_TOP1, TOP1, Job

HEADER = ('', 'last epoch, %', 'averaged, %', 'MA gain', 'best epoch, %', 'parameters', 'time')
# for a terminal of 80 columns
SHORT_HEADER = ('', 'last', 'averaged', 'MA gain', 'best', 'parameters', 'time')
NOTE = (
    'Top-1 on the validation images. *Last epoch*: the raw student at the end '
    'of the run. *Averaged*: the mean of its last {average} epochs (MA), '
    'batch-norm statistics: {bn}; *MA gain* is against the last epoch of the '
    'same run, in points. *Best epoch* picks the epoch by these very images, '
    'so it flatters, and is not to be compared with the other columns. ± is '
    'the standard deviation over the seeds {seeds} of the student; its '
    'teacher is the same in all runs.'
)


@dataclass
class Row:
    """The runs of one method: a number a seed in each list, in percent."""

    name: str
    last: list[float] = field(default_factory=list)
    best: list[float] = field(default_factory=list)
    averaged: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    parameters: int = 0
    commands: list[str] = field(default_factory=list)

    @property
    def gain(self) -> list[float]:
        """What averaging adds to the last epoch, run by run, in points."""
        return [a - b for a, b in zip(self.averaged, self.last)]

    def cells(self) -> list[str]:
        """What the table shows, in the order of ``HEADER``."""
        return [
            self.name,
            mean_std(self.last),
            mean_std(self.averaged),
            mean_std(self.gain, '+'),
            mean_std(self.best),
            f'{self.parameters:,}',
            f'{statistics.fmean(self.seconds):,.0f} s',
        ]


def mean_std(values: Sequence[float], sign: str = '') -> str:
    """``mean ± standard deviation``, without the latter for one value."""
    if not values:
        return '–'
    mean = f'{statistics.fmean(values):{sign}.2f}'
    if len(values) == 1:
        return mean
    return f'{mean} ± {statistics.stdev(values):.2f}'


def rows_of(jobs: Sequence[Job]) -> list[Row]:
    """A row for the teacher and each method, from the logs of their runs."""
    rows: dict[Optional[str], Row] = {}
    for job in jobs:
        row = rows.setdefault(job.method, Row(METHODS.get(job.method, job.title)))
        raw, averaged = job.curve(TOP1), job.curve(AVERAGED_TOP1)
        if raw:  # a checkpoint from elsewhere has no log
            row.last.append(raw[max(raw)])
            row.best.append(max(raw.values()))
        if averaged:
            row.averaged.append(averaged[max(averaged)])
        row.seconds.append(job.record().get('seconds', 0.0))
        row.parameters = row.parameters or job.num_parameters()
        row.commands.append(shlex.join(['tools/train.py', *job.arguments]))
    return list(rows.values())


def table(rows: Sequence[Row]) -> Table:
    """The rows as a table for the screen."""
    drawn = Table(title='Validation top-1, %: of the last epoch, averaged, of the best')
    for i, name in enumerate(SHORT_HEADER):
        drawn.add_column(name, justify='right' if i else 'left')
    for row in rows:
        drawn.add_row(*row.cells())
    return drawn


def protocol(jobs: Sequence[Job], command: str) -> dict[str, str]:
    """How the runs were made, as the last one's config says."""
    cfg = jobs[-1].cfg
    settings = cfg.to_dict()
    tail = cfg.default_hooks.get('tail_average') or {}
    device = (
        torch.cuda.get_device_name() if torch.cuda.is_available() else f'CPU, {platform.machine()}'
    )
    return dict(
        command=command,
        config=jobs[-1].arguments[0],
        seeds=', '.join(str(seed) for seed in sorted({job.seed for job in jobs})),
        epochs=str(cfg.train_cfg.max_epochs),
        batch=str(cfg.train_dataloader.batch_size),
        optimizer=str(settings['optim_wrapper']['optimizer']),
        learning_rate=str(settings['param_scheduler']),
        average=str(tail.get('num_epochs', '–')),
        bn=str(tail.get('bn', 'recalibrate')),
        software=f'prkd_mm {__version__}, torch {torch.__version__}',
        device=device,
    )


def _curves(jobs: Sequence[Job]) -> dict[str, tuple[dict, dict]]:
    """Mean over the seeds of raw and averaged accuracy by epoch."""
    curves = {}
    for method in dict.fromkeys(job.method for job in jobs):
        same = [job for job in jobs if job.method == method]
        curves[METHODS.get(method, same[0].title)] = tuple(
            _mean([job.curve(metric) for job in same]) for metric in (TOP1, AVERAGED_TOP1)
        )
    return {name: pair for name, pair in curves.items() if pair[0]}


def _mean(curves: Sequence[dict[int, float]]) -> dict[int, float]:
    epochs = set(curves[0]).intersection(*curves)
    return {epoch: statistics.fmean(curve[epoch] for curve in curves) for epoch in sorted(epochs)}


def write_report(
    jobs: Sequence[Job], folder: Path, command: str, figures: Sequence[Path] = ()
) -> list[Row]:
    """Write ``results.json``, ``results.md``, figures and ``report.html``.

    Args:
        jobs (Sequence[Job]): Finished jobs, of :func:`plan`.
        folder (Path): Where to.
        command (str): The command that makes the report again.
        figures (Sequence[Path]): More pictures for the page. Defaults to
            none.

    Returns:
        list[Row]: The rows of the table.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows, told = rows_of(jobs), protocol(jobs, command)
    (folder / 'results.json').write_text(
        json.dumps(
            dict(protocol=told, rows=[dict(asdict(row), gain=row.gain) for row in rows]), indent=1
        )
    )
    (folder / 'results.md').write_text(_markdown(rows, told))
    plot_accuracy(_curves(jobs), folder / 'accuracy.png')
    pictures = [folder / 'accuracy.png']
    for job in jobs[::-1]:
        if (job.work_dir / 'schedule.png').exists():
            pictures.append(Path(shutil.copy(job.work_dir / 'schedule.png', folder)))
            break
    (folder / 'report.html').write_text(_page(rows, told, [*pictures, *figures]))
    return rows


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table, the first column to the left, the others to the right."""
    lines = [header, ['---'] + ['---:'] * (len(header) - 1), *rows]
    return '\n'.join(f'| {" | ".join(cells)} |' for cells in lines)


def _markdown(rows: Sequence[Row], about: dict[str, str]) -> str:
    text = markdown_table(HEADER, [row.cells() for row in rows])
    told = '\n'.join(f'- {name.replace("_", " ")}: `{value}`' for name, value in about.items())
    return f'{text}\n\n{NOTE.format(**about)}\n\n{told}\n'


_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem;
       margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse } img { max-width: 100% }
td, th { padding: .3rem .8rem; border-bottom: 1px solid #ccc;
         text-align: right; font-variant-numeric: tabular-nums }
td:first-child, th:first-child { text-align: left }
code { background: #f3f3f3; overflow-wrap: anywhere }
"""


def _page(rows: Sequence[Row], about: dict[str, str], pictures: Sequence[Path]) -> str:
    def cells(tag: str, texts: Sequence[str]) -> str:
        return ''.join(f'<{tag}>{html.escape(t)}</{tag}>' for t in texts)

    def code(text: str) -> str:
        return f'<code>{html.escape(text)}</code>'

    body = ''.join(f'<tr>{cells("td", row.cells())}</tr>' for row in rows)
    told = ''.join(
        f'<li>{html.escape(name.replace("_", " "))}: {code(value)}' for name, value in about.items()
    )
    drawn = ''.join(
        f'<h2>{html.escape(path.stem.replace("_", " ").capitalize())}</h2>'
        '<img alt="" src="data:image/png;base64,'
        f'{base64.b64encode(path.read_bytes()).decode()}">'
        for path in pictures
    )
    commands = ''.join(
        f'<li>{code("python " + command)}' for row in rows for command in row.commands
    )
    title = html.escape(Path(about['config']).stem)
    note = html.escape(NOTE.format(**about)).replace('*', '')
    return (
        f'<!doctype html><meta charset="utf-8"><title>{title}</title>'
        f'<style>{_STYLE}</style><h1>{title}</h1>'
        f'<table><tr>{cells("th", HEADER)}</tr>{body}</table>'
        f'<p>{note}</p>{drawn}<h2>Protocol</h2><ul>{told}</ul>'
        f'<h2>Commands</h2><ul>{commands}</ul>\n'
    )
