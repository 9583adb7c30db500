"""Chart as text in the terminal. It needs rich, from the extra ``cli``."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from qos_async._printable import printable
from qos_async.charts.model import ChartModel
from qos_async.cli.watch.chart import draw_klines, label_width

__all__ = ["bars_that_fit", "print_chart"]

_STYLES = {
    "axis": "bright_black",
    "grid": "bright_black dim",
    "last": "bright_black",
    "ma0": "yellow",
    "ma1": "blue",
    "ma2": "magenta",
    "ma3": "cyan",
}
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
    styles = _styles(red_up=model.look.red_up)
    drawn = draw_klines(
        shown.klines,
        shown.price,
        width,
        height,
        candle_width=candle_width,
        zone=shown.look.zone,
        averages=shown.averages,
    )
    lines = [
        *_joined([_title(shown), _changes(shown)], width),
        *(_text(line, styles) for line in drawn),
        *_joined(_foot(shown), width),
    ]
    for line in lines:
        console.print(line, overflow="crop", no_wrap=True, crop=True)


def _candle_width(count: int, room: int) -> int:
    """Return the columns of a candle; with one, it may be that not all of them fit."""
    return next((width for width in _CANDLE_WIDTHS if count * width <= room), 1)


def _styles(*, red_up: bool) -> dict[str, str]:
    """Return the style of each role."""
    rise, fall = _trend_colours(red_up=red_up)
    styles = dict(_STYLES)
    for trend, colour in (("up", rise), ("down", fall)):
        styles[trend] = colour
        styles[f"{trend}_bar"] = f"{colour} dim"
        styles[f"tag_{trend}"] = f"bold black on {colour}"
    return styles


def _trend_colours(*, red_up: bool) -> tuple[str, str]:
    return ("red", "green") if red_up else ("green", "red")


def _title(model: ChartModel) -> Text:
    last = model.price(model.klines[-1].close)
    return Text.assemble((f" {model.title}", "bold"), (f"  {last}", "bold"))


def _changes(model: ChartModel) -> Text:
    rise, fall = _trend_colours(red_up=model.look.red_up)
    styles = {True: rise, False: fall, None: ""}
    return Text.assemble(
        *((f"  {change.text}", styles[change.rises]) for change in model.changes)
    )


def _foot(model: ChartModel) -> list[Text]:
    """Return the times, and the averages and the server."""
    averages = [
        (f"  {one.name}", _STYLES[f"ma{n}"]) for n, one in enumerate(model.averages)
    ]
    source = f"  {printable(model.look.source)}"
    return [
        Text(f" {model.span}", "bright_black"),
        Text.assemble(*averages, (source, "bright_black")),
    ]


def _joined(texts: list[Text], width: int) -> list[Text]:
    """Return two texts as one line, or as a line each where they do not fit."""
    line = Text.assemble(*texts)
    first, second = texts
    return [line] if line.cell_len <= width else [first, second[1:]]


def _text(line: Iterable[tuple[str, str]], styles: dict[str, str]) -> Text:
    return Text.assemble(*((text, styles.get(role, "")) for text, role in line))
