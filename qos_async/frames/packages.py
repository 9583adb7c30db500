"""The packages that frames are made with, imported when they are first needed."""

from __future__ import annotations

import importlib
from typing import Any, Literal, TypeAlias

__all__ = ["Package", "load"]

Package: TypeAlias = Literal["polars", "pandas", "pyarrow"]

# What makes frames with it, and the extra that brings it along.
_USES = {
    "polars": ("to_polars()", "polars"),
    "pandas": ("to_pandas()", "pandas"),
    "pyarrow": ("to_arrow()", "arrow"),
}


def load(package: Package) -> Any:
    """Import an optional package.

    Raises:
        ModuleNotFoundError: If it is not installed; the message says how to do that.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as exc:
        use, extra = _USES[package]
        raise ModuleNotFoundError(
            f"{use} needs {package}, which is not installed: "
            f"pip install 'qos-async[{extra}]'",
            name=exc.name,
        ) from exc
