"""Lazy attributes of packages (PEP 562)."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

__all__ = ["import_attribute"]


def import_attribute(module: str, name: str) -> Any:
    """Return an attribute of a module that is imported now.

    Raises:
        ImportError: Also where the import fails with an ``AttributeError``: ``from …
            import`` would replace that by "cannot import name", without its cause.
    """
    try:
        return getattr(importlib.import_module(module), name)
    except AttributeError as exc:
        raise ImportError(_explain(module, name, exc), name=module) from exc


def _explain(module: str, name: str, exc: AttributeError) -> str:
    text = f"cannot import {name} from {module}: {exc}"
    found = exc.obj
    file = getattr(found, "__file__", None) if isinstance(found, ModuleType) else None
    if file is None:
        return text
    return (
        f"{text}; that module is {file}: if it is a file of your own, give it another "
        "name, as it hides the module that is meant"
    )
