"""A report as one HTML page that opens offline."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..files import write_text
from .table import Table


def write_page(
    path: Path,
    title: str,
    finding: str,
    tables: dict[str, Table],
    note: str,
    pictures: Sequence[Path],
    details: Mapping[str, Sequence[tuple[str, str]]],
) -> None:
    """Write the page, with the PNG pictures embedded under their names.

    ``finding`` is the main result, and ``note`` explains the tables, which are given by heading.
    ``details`` are collapsed sections by heading: pairs of a name, which may be empty, and code.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    figures = {
        picture.stem.replace('_', ' ').capitalize(): base64.b64encode(picture.read_bytes()).decode()
        for picture in pictures
    }
    page = environment.get_template('page.html.j2').render(
        title=title, finding=finding, tables=tables, note=note, figures=figures, details=details
    )
    write_text(path, page)
