"""Checks of numbers in configs."""

from numbers import Real
from typing import Any


def is_number(value: Any) -> bool:
    """Whether a value is a real number, and not a bool."""
    return isinstance(value, Real) and not isinstance(value, bool)


def check_whole_number(name: str, value: Any, at_least: int = 1, optional: bool = False) -> None:
    """Check that the setting ``name`` is an integer with a lower bound.

    Raises:
        ValueError: If the value is anything else; None is accepted if it is optional.
    """
    if optional and value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        raise ValueError(f'{name} must be a whole number, at least {at_least}; got {value!r}')
