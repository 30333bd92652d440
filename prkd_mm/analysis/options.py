"""Options of the studies: each stands once, with its default, its type and its help."""

import argparse
from dataclasses import dataclass, field, fields
from typing import Any, Optional


def option(default: Any, help: str, shown: Optional[str] = None, **argument: Any) -> Any:
    """Declare one option: a field of a dataclass, and an argument of a command line.

    Args:
        default: Its default.
        help: One line for ``--help`` and for the docstring.
        shown: The default in words. Needed where it is not the value itself.
        **argument: More for ``add_argument``. The type is that of the default if not given.
    """
    argument.setdefault('type', type(default))
    argument['help'] = f'{help}; default: {default if shown is None else shown}'
    return field(default=default, metadata=argument)


def documented(cls: type) -> type:
    """Class decorator that lists the options of a dataclass in its docstring."""
    lines = [f'    {entry.name}: {entry.metadata["help"]}.' for entry in fields(cls)]
    cls.__doc__ = '\n'.join([cls.__doc__ or '', '', 'Args:', *lines])
    return cls


def add_options(parser: argparse.ArgumentParser, cls: type) -> None:
    """Add each option of a dataclass to a command line, under its name with dashes."""
    for entry in fields(cls):
        parser.add_argument(
            f'--{entry.name.replace("_", "-")}', default=entry.default, **entry.metadata
        )


@documented
@dataclass(frozen=True)
class StudyOptions:
    """Options of every study."""

    samples: Optional[int] = option(None, 'images, drawn by --seed', 'all', type=int)
    batch_size: Optional[int] = option(None, 'images at a time', 'that of validation', type=int)
    seed: int = option(0, 'seed of all random draws')
    device: Optional[str] = option(
        None, 'where to compute', "'cuda' if there is one, else 'cpu'", type=str
    )
