"""Chart as a PNG, drawn by matplotlib: needs no browser and no display."""

from __future__ import annotations

from typing import IO, Any

from qos_async.cli.charts.model import THEMES, ChartModel

__all__ = ["draw"]

_INCHES = (12.8, 7.2)
_DPI = 150
_TICKS = 10
_CANDLE = 0.68


def draw(model: ChartModel, file: IO[bytes], *, theme: str) -> None:
    """Write a PNG of 1920 by 1080 pixels.

    Args:
        model: What to draw.
        file: Open for writing.
        theme: ``"light"``, ``"dark"``, or ``"auto"``, which is light.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    from matplotlib.figure import Figure  # Not pyplot, which looks for a display.

    look = THEMES["dark" if theme == "dark" else "light"]
    figure: Any = Figure(figsize=_INCHES, dpi=_DPI, facecolor=look["paper"])
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
        _style_axes(axes, look)
    _candles(prices, model, look)
    _volume(volume, model, look)
    _time_axis(prices, volume, model)
    _texts(figure, model, look)
    figure.savefig(file, format="png", facecolor=look["paper"])


def _style_axes(axes: Any, look: dict[str, str]) -> None:
    axes.set_facecolor(look["paper"])
    axes.grid(visible=True, color=look["grid"], linewidth=0.8)
    axes.set_axisbelow(True)
    axes.yaxis.tick_right()
    axes.tick_params(colors=look["soft"], length=0, labelsize=9.5)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _candles(axes: Any, model: ChartModel, look: dict[str, str]) -> None:
    candles = model.candles
    places, colours = range(len(candles)), _colours(model, look)
    lows, highs = [one.low for one in candles], [one.high for one in candles]
    axes.vlines(places, lows, highs, colors=colours, linewidth=_wick(len(candles)))
    least = (max(highs) - min(lows)) / 300  # A body without height is a thin line.
    heights = [max(abs(one.close - one.open), least) for one in candles]
    bottoms = [min(one.open, one.close) for one in candles]
    axes.bar(places, heights, _CANDLE, bottoms, color=colours, linewidth=0)
    last, colour = candles[-1].close, colours[-1]
    axes.axhline(last, color=colour, linewidth=0.8, linestyle=(0, (2, 3)))
    axes.annotate(
        model.last,
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
    axes.yaxis.set_major_formatter(_price_formatter(model))


def _colours(model: ChartModel, look: dict[str, str]) -> list[str]:
    return [look["rise" if one.rises else "fall"] for one in model.candles]


def _wick(count: int) -> float:
    """Return the width of a wick in points: thinner where there are many."""
    return 1.3 if count <= 150 else 0.8  # noqa: PLR2004


def _volume(axes: Any, model: ChartModel, look: dict[str, str]) -> None:
    from matplotlib import ticker

    volumes, colours = [one.volume for one in model.candles], _colours(model, look)
    axes.bar(
        range(len(volumes)), volumes, _CANDLE, color=colours, alpha=0.5, linewidth=0
    )
    axes.yaxis.set_major_locator(ticker.MaxNLocator(2))
    axes.yaxis.set_major_formatter(ticker.EngFormatter(sep=""))
    axes.margins(y=0.08)
    axes.set_ylim(bottom=0)


def _price_formatter(model: ChartModel) -> Any:
    from matplotlib import ticker

    def text(value: float, place: int) -> str:
        return model.round(value)

    return ticker.FuncFormatter(text)


def _time_axis(prices: Any, volume: Any, model: ChartModel) -> None:
    ticks = model.ticks(_TICKS)
    volume.set_xticks(list(ticks), list(ticks.values()))
    prices.tick_params(labelbottom=False)
    prices.set_xlim(-1, len(model.klines))


def _texts(figure: Any, model: ChartModel, look: dict[str, str]) -> None:
    colour = look[{True: "rise", False: "fall", None: "soft"}[model.rises]]
    # With ``parse_math``, a dollar sign would begin a formula.
    title = figure.text(
        0.03,
        0.935,
        model.title,
        fontsize=18,
        fontweight="bold",
        color=look["text"],
        parse_math=False,
    )
    last = _after(figure, title, model.last, fontsize=18, color=look["text"])
    _after(figure, last, model.change, fontsize=14, color=colour)
    figure.text(0.03, 0.89, model.span, fontsize=10.5, color=look["soft"])
    figure.text(
        0.03, 0.028, model.credit, fontsize=9, color=look["soft"], parse_math=False
    )


def _after(figure: Any, left: Any, text: str, **style: Any) -> Any:
    """Add a text on the same line, to the right of ``left``."""
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
