"""Show progress and results, and write results as JSON, CSV, PNG and SVG files."""

import contextlib
import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Optional, Union

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from ..cli import wide_console
from ..files import write_text
from ..stats.estimates import Estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Report:
    """Show the progress of a study, and print and write its results.

    The names of the files in ``folder`` start with ``name``.
    """

    def __init__(
        self, folder: Union[str, Path], name: str, console: Optional[Console] = None
    ) -> None:
        self.stem = Path(folder) / name
        self.console = console or wide_console()
        self.pictures: list[Path] = []
        self._progress: Optional[Progress] = None

    @contextlib.contextmanager
    def progress(self) -> Iterator[None]:
        """Show progress bars in this context; without a terminal, print one line for each."""
        with Progress(console=self.console, transient=True) as self._progress:
            yield
        self._progress = None

    def track(self, description: str) -> Callable[[Iterable], Iterable]:
        """A function that iterates over its argument and shows the progress."""
        if not self.console.is_terminal:
            self.note(f'{description} ...')
        progress = self._progress
        if progress is None:
            return iter
        return lambda items: progress.track(items, description=description)

    def note(self, text: str, soft_wrap: bool = False) -> None:
        """Print a text; ``soft_wrap`` leaves line breaks to the terminal, as paths need."""
        self.console.print(text, highlight=False, soft_wrap=soft_wrap)

    def table(self, title: str, rows: Sequence[Mapping], headings: dict[str, str]) -> None:
        """Print the columns in ``headings``, numbers with three significant digits."""
        table = Table(title=title, padding=(0, 0))
        for key, heading in headings.items():
            text = isinstance(rows[0][key], str)
            table.add_column(heading, justify='left' if text else 'right')
        for row in rows:
            table.add_row(*(_shown(row[key]) for key in headings))
        self.console.print(table)

    def save(
        self, numbers: dict, tables: Mapping[str, list[dict]], figures: Mapping[str, 'Figure']
    ) -> None:
        """Write ``<name>.json``, and ``<name><key>.csv``, ``.png``, ``.svg``.

        In the JSON file, named tuples become objects, and NaN and infinity become null.
        """
        self.stem.parent.mkdir(parents=True, exist_ok=True)
        paths = [Path(f'{self.stem}.json')]
        write_text(paths[0], json.dumps(_plain(numbers), indent=1, ensure_ascii=False))
        paths += [_save_csv(rows, f'{self.stem}{key}') for key, rows in tables.items()]
        for key, figure in figures.items():
            paths += _save_figure(figure, f'{self.stem}{key}')
        self.pictures += [path for path in paths if path.suffix == '.png']
        for path in paths:
            self.note(str(path), soft_wrap=True)


def _shown(x: Union[str, float, Estimate, None]) -> str:
    if isinstance(x, (float, Estimate)):
        return format(x, '.3g')
    return '-' if x is None else str(x)


def _save_figure(figure: 'Figure', stem: str) -> list[Path]:
    from matplotlib import rc_context

    paths = [Path(f'{stem}.png'), Path(f'{stem}.svg')]
    with rc_context({'svg.hashsalt': paths[0].stem}):  # makes the file reproducible
        figure.savefig(paths[0], dpi=120)
        figure.savefig(paths[1], metadata={'Date': None})
    return paths


def _save_csv(rows: list[dict], stem: str) -> Path:
    path = Path(f'{stem}.csv')
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
    return path


def _plain(x: Any) -> Any:
    if hasattr(x, '_asdict'):  # a named tuple
        x = x._asdict()
    if isinstance(x, dict):
        return {str(key): _plain(value) for key, value in x.items()}
    if isinstance(x, (list, tuple)):
        return [_plain(value) for value in x]
    if isinstance(x, float) and not math.isfinite(x):
        return None
    return x
