"""Chart as text in the terminal. It needs rich, from the extra ``cli``."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from qos_async._printable import printable
from qos_async.cli.charts.model import ChartModel
from qos_async.cli.watch.chart import draw_klines, label_width

__all__ = ["bars_that_fit", "print_chart"]

_STYLES = {
    "up": "green",
    "down": "red",
    "up_bar": "green dim",
    "down_bar": "red dim",
    "axis": "bright_black",
    "grid": "bright_black dim",
    "last": "bright_black",
    "tag_up": "bold black on green",
    "tag_down": "bold black on red",
}
_CHANGE_STYLES = {True: "green", False: "red", None: ""}
_AXIS = 12
"""Columns of the price axis, where the prices are not known yet."""
_CANDLE_WIDTHS = (4, 3, 2)
_MAX_HEIGHT, _MIN_HEIGHT = 30, 12
_OTHER_LINES = 5
"""Lines for the title, the times and the prompt."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to ``main``, which exits with 0; rich would exit with 1."""
        raise BrokenPipeError


def bars_that_fit(width: int) -> int:
    """Return how many bars to fetch by default."""
    return max((width - _AXIS) // 2, 1)


def print_chart(model: ChartModel, console: Console | None = None) -> None:
    """Print as many of the newest bars as fit, in colour if stdout is a terminal."""
    console = _Console(highlight=False) if console is None else console
    width = console.width
    height = min(max(console.height - _OTHER_LINES, _MIN_HEIGHT), _MAX_HEIGHT)
    room = width - label_width(model.klines, model.price) - 2
    candle_width = _candle_width(len(model.klines), room)
    shown = model.newest(max(room // candle_width, 1))
    lines = [
        _head(shown),
        *map(
            _text,
            draw_klines(
                shown.klines, shown.price, width, height, candle_width=candle_width
            ),
        ),
        Text(f" {shown.span} · {printable(shown.source)}", "bright_black"),
    ]
    for line in lines:
        console.print(line, overflow="crop", no_wrap=True, crop=True)


def _candle_width(count: int, room: int) -> int:
    """Return the columns of a candle; with one, it may be that not all of them fit."""
    return next((width for width in _CANDLE_WIDTHS if count * width <= room), 1)


def _head(model: ChartModel) -> Text:
    """Return the title, the newest price and its change."""
    return Text.assemble(
        (f" {model.title}", "bold"),
        (f"  {model.last}", "bold"),
        (f"  {model.change}", _CHANGE_STYLES[model.rises]),
    )


def _text(line: Iterable[tuple[str, str]]) -> Text:
    return Text.assemble(*((text, _STYLES.get(role, "")) for text, role in line))
