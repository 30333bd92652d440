"""One table, for the screen, for a document and for a page."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Optional

from rich.table import Table as ScreenTable


@dataclass
class Table:
    """Cells under headings; the first column is text, the others are numbers.

    Attributes:
        header: Headings.
        rows: Cells of each row.
        title: Shown above the table, on the screen only.
        short_header: Headings for the narrow screen; None: ``header``.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: Optional[str] = None
    short_header: Optional[Sequence[str]] = None

    def screen(self, **style: Any) -> ScreenTable:
        """For a :class:`rich.console.Console`; ``style`` goes to its table."""
        table = ScreenTable(title=self.title, **style)
        for i, heading in enumerate(self.short_header or self.header):
            table.add_column(heading, no_wrap=i > 0, justify='right' if i else 'left')
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        rule = ['---'] + ['---:'] * (len(self.header) - 1)
        return '\n'.join(f'| {" | ".join(cells)} |' for cells in (self.header, rule, *self.rows))

    def html(self) -> str:
        rows = [_html_row('td', row) for row in self.rows]
        return f'<table>\n{_html_row("th", self.header)}\n{chr(10).join(rows)}\n</table>'


def _html_row(tag: str, cells: Iterable[str]) -> str:
    return f'<tr>{"".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells)}</tr>'
