"""Wrap functions of other packages, each at most once."""

import functools
import inspect
from typing import Any, Callable


def wrap(owner: Any, name: str, wrapper: Callable) -> bool:
    """Replace a function of a class or module by ``wrapper(function, *args, **kwargs)``.

    Returns:
        False if it goes through ``wrapper`` already.
    """
    function = own = getattr(owner, name)
    while own is not None:
        if getattr(own, 'wrapper', None) is wrapper:
            return False
        own = getattr(own, '__wrapped__', None)

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        return wrapper(function, *args, **kwargs)

    wrapped.wrapper = wrapper  # type: ignore[attr-defined]
    static = isinstance(inspect.getattr_static(owner, name), (staticmethod, classmethod))
    setattr(owner, name, staticmethod(wrapped) if static else wrapped)
    return True
