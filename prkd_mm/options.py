"""Options declared once, as fields of a dataclass with name, default, type and help."""

import argparse
from collections.abc import Sequence
from dataclasses import field, fields
from typing import Any, Optional, TypeVar

Options = TypeVar('Options')


class Extend(argparse.Action):
    """Append the values to those of earlier occurrences of the option, in a new list."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        setattr(namespace, self.dest, [*getattr(namespace, self.dest), *values])


def option(default: Any, help: str, shown: Optional[str] = None, **argument: Any) -> Any:
    """Declare one option: a field of a dataclass, and an argument of a command line.

    Args:
        default: Its default; False makes it a flag.
        help: One line for ``--help`` and for the docstring.
        shown: The default in words, if the value itself would be unclear in the help.
        **argument: Further arguments of ``add_argument``. The type defaults to the type of the
            default value. ``aliases`` are other flags for the same option.
    """
    if default is False:
        return field(default=False, metadata=dict(argument, action='store_true', help=help))
    argument.setdefault('type', type(default))
    argument['help'] = f'{help}; default: {default if shown is None else shown}'
    return field(default=default, metadata=argument)


def documented(cls: type) -> type:
    """Class decorator that lists the options of a dataclass in its docstring."""
    lines = [f'    {name}: {argument["help"]}.' for name, _, argument in _options_of(cls)]
    cls.__doc__ = '\n'.join([cls.__doc__ or '', '', 'Args:', *lines])
    return cls


def add_options(parser: argparse.ArgumentParser, cls: type) -> None:
    """Add each option of a dataclass to a command line, under its name with dashes."""
    for name, default, argument in _options_of(cls):
        flags = [f'--{name.replace("_", "-")}', *argument.pop('aliases', ())]
        parser.add_argument(*flags, default=default, **argument)


def options_from(cls: type[Options], args: argparse.Namespace) -> Options:
    """Build a dataclass from the arguments that a parser with its options returned."""
    names = [entry.name for entry in fields(cls)]  # type: ignore[arg-type]
    return cls(**{name: getattr(args, name) for name in names})


def _options_of(cls: type) -> Sequence[tuple[str, Any, dict]]:
    """Name, default and argument of each field that :func:`option` declared."""
    return [
        (entry.name, entry.default, dict(entry.metadata))
        for entry in fields(cls)
        if 'help' in entry.metadata
    ]
