"""Command-line options from the fields of a dataclass: name, type, default and help once."""

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any, Optional, TypeVar, Union, get_args, get_origin, get_type_hints

Options = TypeVar('Options')


def option(default: Any, help: str, **argument: Any) -> Any:
    """A dataclass field that :func:`add_options` turns into an option.

    Args:
        default: Default of the field.
        help: What ``--help`` says; the default is appended.
        **argument: Passed on to ``add_argument``. Without ``type``, the option has the type of
            the field.
    """
    return dataclasses.field(default=default, metadata=dict(argument, help=help))


def add_options(parser: argparse.ArgumentParser, cls: type) -> None:
    """Add an option for each field of ``cls`` that :func:`option` made.

    ``held_out: int = option(5, 'images')`` becomes ``--held-out N``; a bool becomes a flag.
    """
    types = get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if 'help' not in field.metadata:
            continue
        argument = dict(field.metadata, default=field.default)
        if types[field.name] is bool:
            argument['action'] = 'store_true'
        else:
            argument.setdefault('type', _plain_type(types[field.name]))
            if argument['type'] is int:
                argument.setdefault('metavar', 'N')
            if shown := _shown(field.default):
                argument['help'] += f'; default: {shown}'
        parser.add_argument(f'--{field.name.replace("_", "-")}', **argument)


def options_from(cls: type[Options], args: argparse.Namespace) -> Options:
    """Build ``cls`` from what a parser with :func:`add_options` returned."""
    return cls(**{field.name: getattr(args, field.name) for field in dataclasses.fields(cls)})


def _plain_type(annotation: Any) -> Any:
    """``int`` of ``Optional[int]``, ``str`` of ``Sequence[str]``."""
    if get_origin(annotation) is Union:
        annotation = next(each for each in get_args(annotation) if each is not type(None))
    return get_args(annotation)[0] if get_args(annotation) else annotation


def _shown(default: Optional[object]) -> str:
    if default is None:
        return ''
    if isinstance(default, Sequence) and not isinstance(default, str):
        return ','.join(map(str, default))
    return str(default)
