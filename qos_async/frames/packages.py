"""Optional packages for frames, imported on first use."""

from __future__ import annotations

import importlib
from typing import Any, Literal, TypeAlias

__all__ = ["Package", "load"]

Package: TypeAlias = Literal["polars", "pandas", "pyarrow"]

# The function that needs the package, and the extra that installs it.
_USES = {
    "polars": ("to_polars()", "polars"),
    "pandas": ("to_pandas()", "pandas"),
    "pyarrow": ("to_arrow()", "arrow"),
}


def load(package: Package) -> Any:
    """Import an optional package.

    Raises:
        ModuleNotFoundError: If it is not installed; the message has the command to
            install it.
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
