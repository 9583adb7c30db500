"""Optional packages for frames, imported on first use.

By statements: programs such as PyInstaller do not find what is imported by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

__all__ = ["Package", "load"]

Package: TypeAlias = Literal["polars", "pandas", "pyarrow"]


def _polars() -> Any:
    import polars  # noqa: PLC0415, ICN001 - an extra; its short name says less

    return polars


def _pandas() -> Any:
    import pandas  # noqa: PLC0415, ICN001 - as above

    return pandas


def _pyarrow() -> Any:
    import pyarrow  # noqa: PLC0415, ICN001 - as above

    return pyarrow


# The function that needs the package, the extra that installs it, and its import.
_USES: dict[Package, tuple[str, str, Callable[[], Any]]] = {
    "polars": ("to_polars()", "polars", _polars),
    "pandas": ("to_pandas()", "pandas", _pandas),
    "pyarrow": ("to_arrow()", "arrow", _pyarrow),
}


def load(package: Package) -> Any:
    """Import an optional package.

    Raises:
        ModuleNotFoundError: If it is not installed; the message has the command to
            install it.
    """
    use, extra, imported = _USES[package]
    try:
        return imported()
    except ModuleNotFoundError as exc:
        raise ModuleNotFoundError(
            f"{use} needs {package}, which is not installed: "
            f"pip install 'qos-async[{extra}]'",
            name=exc.name,
        ) from exc
