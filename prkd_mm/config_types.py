"""The types in configs, with or without a scope."""

from collections.abc import Iterator
from typing import Any


def type_name(cfg: dict) -> str:
    """Name of the class that a config builds, without its scope."""
    kind = cfg.get('type')
    return getattr(kind, '__name__', str(kind)).rpartition('.')[2]


def is_type(cfg: dict, name: str) -> bool:
    """Whether a config builds the class ``name``."""
    return type_name(cfg) == name


def types_in(value: Any) -> Iterator[str]:
    """Names of the classes in a config, at any depth."""
    if isinstance(value, dict):
        if value.get('type'):
            yield type_name(value)
        for each in value.values():
            yield from types_in(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from types_in(each)
