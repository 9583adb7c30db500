"""A chart as text. It needs rich, from the extra ``cli``."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from qos_async.cli.charts.words import Picture
from qos_async.cli.watch.chart import draw_klines

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
_AXIS = 12
_PITCHES = (4, 3, 2)
_HIGHEST, _LOWEST = 30, 12
_AROUND = 5
"""Lines that the chart leaves to the title, and to the prompt."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to ``main``, for which it is no failure; rich would exit with 1."""
        raise BrokenPipeError


def bars_that_fit(width: int) -> int:
    """Tell how many bars to ask for, where nobody said."""
    return max((width - _AXIS) // 2, 1)


def print_chart(picture: Picture, console: Console | None = None) -> None:
    """Draw on stdout, as many of the newest bars as fit; colours are for terminals."""
    console = _Console(highlight=False) if console is None else console
    width = console.width
    height = min(max(console.height - _AROUND, _LOWEST), _HIGHEST)
    room = width - max(len(picture.price(kline.high)) for kline in picture.klines) - 2
    pitch = _pitch(len(picture.klines), room)
    shown = picture.newest(max(room // pitch, 1))
    lines = [
        _head(shown),
        *map(_text, draw_klines(shown.klines, shown.price, width, height, pitch=pitch)),
        Text(f" {shown.span} · {shown.source}", "bright_black"),
    ]
    for line in lines:
        console.print(line, overflow="crop", no_wrap=True, crop=True)


def _pitch(count: int, room: int) -> int:
    """Choose how many columns a candle takes; with one, the newest may have to do."""
    return next((pitch for pitch in _PITCHES if count * pitch <= room), 1)


def _head(picture: Picture) -> Text:
    """Write the title, and the newest price with its change."""
    return Text.assemble(
        (f" {picture.title}", "bold"),
        (f"  {picture.last}", "bold"),
        (f"  {picture.change}", "green" if picture.rises else "red"),
    )


def _text(line: Iterable[tuple[str, str]]) -> Text:
    return Text.assemble(*((text, _STYLES.get(role, "")) for text, role in line))
