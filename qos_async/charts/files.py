"""Files of charts: their formats, and the packages that these need."""

from __future__ import annotations

import importlib.util
import re
import tempfile
import webbrowser
from pathlib import Path
from typing import IO

from qos_async.charts.model import ChartModel

__all__ = ["SUFFIXES", "check_package", "open_page", "page_path", "write"]

SUFFIXES = (".html", ".png", ".svg")
_PACKAGES = {
    ".html": ("HTML charts", "plotly"),
    ".png": ("PNG charts", "matplotlib"),
    ".svg": ("SVG charts", "matplotlib"),
}


def check_package(suffix: str, what: str = "") -> None:
    """Check that the package that draws a format is installed.

    Args:
        suffix: Of the format.
        what: What needs it, for the message; by default charts of the format.

    Raises:
        ModuleNotFoundError: The message has the command to install it.
    """
    charts, package = _PACKAGES[suffix]
    try:
        found = importlib.util.find_spec(package)
    except ValueError:  # sys.modules[package] is None: an import of it fails, too.
        found = None
    if found is None:
        raise ModuleNotFoundError(
            f"{what or charts} need {package}, which is not installed: "
            "pip install 'qos-async[plot]'",
            name=package,
        )


def write(
    model: ChartModel, file: IO[bytes], suffix: str, *, theme: str, cdn: bool
) -> None:
    """Write a chart in the format of a suffix.

    Raises:
        ModuleNotFoundError: If the package that draws it is not installed.
    """
    check_package(suffix)
    if suffix == ".html":
        from qos_async.charts import html  # noqa: PLC0415 - drawing is slow to import

        file.write(html.page(model, theme=theme, cdn=cdn).encode())
        return
    from qos_async.charts import picture  # noqa: PLC0415 - drawing is slow to import

    draw = picture.png if suffix == ".png" else picture.svg
    draw(model, file, theme=theme)


def page_path(model: ChartModel) -> Path:
    """Return the path of a page in a new temporary directory."""
    name = re.sub("[^A-Za-z0-9]+", "-", f"{model.symbol}-{model.interval.short}")
    return Path(tempfile.mkdtemp(prefix="qos-chart-")) / f"{name}.html"


def open_page(path: Path) -> None:
    """Show a file in the browser.

    Raises:
        RuntimeError: If no browser was found.
    """
    if not webbrowser.open(path.resolve().as_uri()):
        raise RuntimeError(f"no browser was found: open {path} in one")
