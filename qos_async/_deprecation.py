"""Aliases of renamed names, which work for one more minor version with a warning."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

__all__ = ["renamed", "renamed_names", "renamed_options", "warn_renamed"]

P = ParamSpec("P")
R = TypeVar("R")


def warn_renamed(old: str, new: str) -> None:
    """Warn, at the caller of the calling function, that ``old`` is now ``new``."""
    text = f"{old} is now {new}; the old name goes in the next minor version"
    warnings.warn(text, DeprecationWarning, stacklevel=3)


def renamed(old: str, function: Callable[P, R]) -> Callable[P, R]:
    """Return an alias of a function or method, under its old name."""

    @functools.wraps(function)
    def alias(*args: P.args, **kwargs: P.kwargs) -> R:
        warn_renamed(old, function.__name__)
        return function(*args, **kwargs)

    alias.__name__ = old
    alias.__doc__ = f"Deprecated alias of ``{function.__name__}``."
    return alias


def renamed_options(**names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function take keyword arguments under their old names, too."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def accepting(*args: P.args, **kwargs: P.kwargs) -> R:
            for old in names.keys() & kwargs.keys():
                new = names[old]
                if new in kwargs:
                    raise TypeError(f"{old}= and {new}= are the same option")
                warn_renamed(f"{old}=", f"{new}=")
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return accepting

    return decorate


def renamed_names(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a module's ``__getattr__`` that serves its old names, too."""

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warn_renamed(f"{module}.{name}", names[name])
        return getattr(sys.modules[module], names[name])

    return find
