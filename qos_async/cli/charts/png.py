"""A chart as a picture, by matplotlib: no browser, no screen."""

from __future__ import annotations

import importlib
from typing import IO, Any

from qos_async.cli.charts.words import Picture

__all__ = ["draw"]

_INCHES = (12.8, 7.2)
_DPI = 150
_TICKS = 10
_CANDLE = 0.68
_THEMES: dict[str, dict[str, str]] = {
    "light": {
        "paper": "#ffffff",
        "text": "#1f2933",
        "soft": "#6b7684",
        "grid": "#e8ecf1",
        "rise": "#26a69a",
        "fall": "#ef5350",
    },
    "dark": {
        "paper": "#0b0e14",
        "text": "#e6eaf0",
        "soft": "#8a94a3",
        "grid": "#1d2530",
        "rise": "#26a69a",
        "fall": "#ef5350",
    },
}


def draw(picture: Picture, file: IO[bytes], *, theme: str) -> None:
    """Write a PNG of 1920 by 1080 pixels.

    Args:
        picture: What is drawn.
        file: Where to.
        theme: ``"light"``, ``"dark"``, or ``"auto"``, which is light.

    Raises:
        ModuleNotFoundError: Without matplotlib; the message says how to install it.
    """
    # Not pyplot: that looks for a screen. Types of matplotlib are partly unknown.
    figures: Any = importlib.import_module("matplotlib.figure")
    look = _THEMES["dark" if theme == "dark" else "light"]
    figure = figures.Figure(figsize=_INCHES, dpi=_DPI, facecolor=look["paper"])
    grid = figure.add_gridspec(
        2,
        1,
        height_ratios=(4, 1),
        hspace=0.06,
        left=0.03,
        right=0.925,
        top=0.86,
        bottom=0.105,
    )
    prices = figure.add_subplot(grid[0])
    volume = figure.add_subplot(grid[1], sharex=prices)
    for axes in (prices, volume):
        _set(axes, look)
    _candles(prices, picture, look)
    _volume(volume, picture, look)
    _times(prices, volume, picture)
    _words(figure, picture, look)
    figure.savefig(file, format="png", facecolor=look["paper"])


def _set(axes: Any, look: dict[str, str]) -> None:
    axes.set_facecolor(look["paper"])
    axes.grid(visible=True, color=look["grid"], linewidth=0.8)
    axes.set_axisbelow(True)
    axes.yaxis.tick_right()
    axes.tick_params(colors=look["soft"], length=0, labelsize=9.5)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _candles(axes: Any, picture: Picture, look: dict[str, str]) -> None:
    klines = picture.klines
    places = range(len(klines))
    colours = [look["rise" if one.close >= one.open else "fall"] for one in klines]
    lows, highs = ([float(p) for p in ps] for ps in _extremes(picture))
    axes.vlines(places, lows, highs, colors=colours, linewidth=_wick(len(klines)))
    bottoms = [float(min(one.open, one.close)) for one in klines]
    tops = [float(max(one.open, one.close)) for one in klines]
    least = (max(highs) - min(lows)) / 300  # So that a body without height is a line.
    heights = [max(top - low, least) for top, low in zip(tops, bottoms, strict=True)]
    axes.bar(places, heights, _CANDLE, bottoms, color=colours, linewidth=0)
    last, colour = float(klines[-1].close), colours[-1]
    axes.axhline(last, color=colour, linewidth=0.8, linestyle=(0, (2, 3)))
    axes.annotate(
        picture.last,
        (1, last),
        xycoords=("axes fraction", "data"),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
        color="#ffffff",
        fontsize=9.5,
        fontweight="bold",
        bbox={"facecolor": colour, "edgecolor": "none", "boxstyle": "round,pad=0.25"},
    )
    axes.yaxis.set_major_formatter(_formatter(picture))


def _extremes(picture: Picture) -> tuple[list[Any], list[Any]]:
    return (
        [kline.low for kline in picture.klines],
        [kline.high for kline in picture.klines],
    )


def _wick(count: int) -> float:
    """Give the width of a wick, in points: thin where there are many."""
    return 1.3 if count <= 150 else 0.8  # noqa: PLR2004


def _volume(axes: Any, picture: Picture, look: dict[str, str]) -> None:
    klines = picture.klines
    ticker: Any = importlib.import_module("matplotlib.ticker")
    colours = [look["rise" if one.close >= one.open else "fall"] for one in klines]
    amounts = [float(one.volume or 0) for one in klines]
    axes.bar(
        range(len(klines)), amounts, _CANDLE, color=colours, alpha=0.5, linewidth=0
    )
    axes.yaxis.set_major_locator(ticker.MaxNLocator(2))
    axes.yaxis.set_major_formatter(ticker.EngFormatter(sep=""))
    axes.margins(y=0.08)
    axes.set_ylim(bottom=0)


def _formatter(picture: Picture) -> Any:
    ticker: Any = importlib.import_module("matplotlib.ticker")

    def text(value: float, place: int) -> str:
        return picture.round(value)

    return ticker.FuncFormatter(text)


def _times(prices: Any, volume: Any, picture: Picture) -> None:
    ticks = picture.ticks(_TICKS)
    volume.set_xticks(list(ticks), list(ticks.values()))
    prices.tick_params(labelbottom=False)
    prices.set_xlim(-1, len(picture.klines))


def _words(figure: Any, picture: Picture, look: dict[str, str]) -> None:
    colour = look["rise" if picture.rises else "fall"]
    title = figure.text(
        0.03, 0.935, picture.title, fontsize=18, fontweight="bold", color=look["text"]
    )
    last = _after(figure, title, picture.last, fontsize=18, color=look["text"])
    _after(figure, last, picture.change, fontsize=14, color=colour)
    figure.text(0.03, 0.89, picture.span, fontsize=10.5, color=look["soft"])
    figure.text(0.03, 0.028, picture.credit, fontsize=9, color=look["soft"])


def _after(figure: Any, left: Any, text: str, **style: Any) -> Any:
    """Write on the same line, behind what is there."""
    return figure.axes[0].annotate(
        text,
        (1, 0),
        xycoords=left,
        xytext=(14, 0),
        textcoords="offset points",
        va="bottom",
        annotation_clip=False,
        **style,
    )
