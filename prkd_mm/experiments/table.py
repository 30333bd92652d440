"""A table for the terminal, for Markdown and for HTML."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Optional

from rich.table import Table as ScreenTable


@dataclass
class Table:
    """Cells under headings; the first column is text, the others are numbers.

    In the terminal, there is a title, and ``short_header`` replaces the headings.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: Optional[str] = None
    short_header: Optional[Sequence[str]] = None
    caption: str = ''  # line below the table

    def screen(self, **style: Any) -> ScreenTable:
        """The table for a :class:`rich.console.Console`; ``style`` has arguments of its class."""
        style = dict(padding=0, show_edge=False) | style
        table = ScreenTable(title=self.title, caption=self.caption, **style)
        name, *numbers = self.short_header or self.header
        table.add_column(name, min_width=13)  # on a narrow screen, the numbers are wrapped first
        for heading in numbers:
            table.add_column(heading, justify='right')
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """The table in Markdown, with numbers aligned to the right."""
        rule = ['---'] + ['---:'] * (len(self.header) - 1)
        lines = [f'| {" | ".join(cells)} |' for cells in (self.header, rule, *self.rows)]
        return '\n'.join([*lines, *(['', self.caption] if self.caption else [])])

    def html(self) -> str:
        """The table in HTML, with special characters escaped."""
        rows = [_html_row('td', row) for row in self.rows]
        caption = f'\n<p>{escape(self.caption)}</p>' if self.caption else ''
        return f'<table>\n{_html_row("th", self.header)}\n{chr(10).join(rows)}\n</table>{caption}'


def _html_row(tag: str, cells: Iterable[str]) -> str:
    return f'<tr>{"".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells)}</tr>'
