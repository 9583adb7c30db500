"""Chart as PNG or SVG, drawn by matplotlib: needs no browser and no display."""

from __future__ import annotations

import io
import re
import warnings
from html import escape
from typing import IO, Any

from qos_async.charts.model import THEMES, ChartModel

__all__ = ["png", "svg"]

_INCHES = (12.8, 7.2)
_DPI = 150
_TICKS = 10
_CANDLE = 0.68
_TAG = 0.045
"""Height of the tag of the last price, as a part of the axis."""
_MANY = 150
"""Bars from which wicks are thin."""
# Fonts with Chinese, which that of matplotlib has not: those of Linux, macOS, Windows. Of a
# collection, matplotlib may list the first font only, which is the Japanese one of Noto.
_CHINESE = (
    *(f"Noto Sans CJK {region}" for region in ("SC", "HK", "TC", "JP")),
    *("Source Han Sans SC", "Source Han Sans CN", "Noto Sans SC"),
    *("WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Droid Sans Fallback"),
    *("PingFang SC", "PingFang HK", "Hiragino Sans GB", "Heiti TC", "STHeiti"),
    *("Songti SC", "Arial Unicode MS"),
    *("Microsoft YaHei", "Microsoft JhengHei", "SimHei", "SimSun"),
)
_BAR = "bar-"
"""Of the ids of the columns that show the details of a bar under the pointer."""


def png(model: ChartModel, file: IO[bytes], *, theme: str, dpi: int = _DPI) -> None:
    """Write a PNG, of 1920 by 1080 pixels by default.

    Args:
        model: What to draw.
        file: Open for writing.
        theme: ``"light"``, ``"dark"``, or ``"auto"``, which is light.
        dpi: Pixels an inch.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _save(model, file, theme, format="png", dpi=dpi)
    missing = False
    for one in caught:
        if re.match(r"Glyph .* missing", str(one.message)):
            missing = True  # One for each character, and for each time it is measured.
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    if missing:
        warnings.warn(
            f"no font of this machine has all characters of {model.title!r}: the picture "
            "has boxes for them. Install one, such as Noto Sans CJK for Chinese, or "
            "write SVG or HTML, which have the fonts of the viewer",
            stacklevel=2,
        )


def svg(model: ChartModel, file: IO[bytes], *, theme: str) -> None:
    """Write an SVG; programs that support it show the values of the bar under the pointer.

    Arguments and errors are those of ``png``.
    """
    drawn = io.BytesIO()
    with warnings.catch_warnings():
        # The texts are texts: the fonts of the viewer count, not those of this machine.
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        _save(model, drawn, theme, format="svg", metadata={"Date": None})

    def with_title(found: re.Match[str]) -> str:
        lines = model.details(int(found[1]))
        return f"{found[0]}<title>{escape(chr(10).join(lines))}</title>"

    text = drawn.getvalue().decode()
    text = re.sub(rf'<g id="{_BAR}(\d+)">', with_title, text)
    file.write(text.encode())


def _save(model: ChartModel, file: IO[bytes], theme: str, **options: Any) -> None:
    import matplotlib  # noqa: PLC0415, ICN001 - an extra; its short name says less
    from matplotlib.figure import Figure  # noqa: PLC0415 - not pyplot, which looks for a display

    look = THEMES["dark" if theme == "dark" else "light"]
    # Texts of an SVG are texts, and its ids the same each time.
    settings = {
        "svg.fonttype": "none",
        "svg.hashsalt": "qos-async",
        **_fonts(model),
    }
    mpl: Any = matplotlib
    with mpl.rc_context(settings):
        figure: Any = Figure(figsize=_INCHES, dpi=_DPI, facecolor=look["paper"])
        _draw(figure, model, look, hover=options["format"] == "svg")
        figure.savefig(file, facecolor=look["paper"], **options)


def _fonts(model: ChartModel) -> dict[str, Any]:
    if model.title.isascii():
        return {}
    from matplotlib import font_manager  # noqa: PLC0415 - an extra

    installed = set(font_manager.get_font_names())
    return {
        "font.family": ["sans-serif", *(font for font in _CHINESE if font in installed)]
    }


def _draw(figure: Any, model: ChartModel, look: dict[str, str], *, hover: bool) -> None:
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
    _candles(prices, model)
    _averages(prices, model)
    _last_price(prices, model)
    _volume(volume, model)
    _time_axis(prices, volume, model)
    if hover:
        _hover_columns(prices, model)
    _texts(figure, model, look)


def _style_axes(axes: Any, look: dict[str, str]) -> None:
    axes.set_facecolor(look["paper"])
    axes.grid(visible=True, color=look["grid"], linewidth=0.8)
    axes.set_axisbelow(True)
    axes.yaxis.tick_right()
    axes.tick_params(colors=look["soft"], length=0, labelsize=9.5)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _candles(axes: Any, model: ChartModel) -> None:
    candles = model.candles
    places, colours = range(len(candles)), _colours(model)
    lows, highs = [one.low for one in candles], [one.high for one in candles]
    wick = 1.3 if len(candles) <= _MANY else 0.8
    axes.vlines(places, lows, highs, colors=colours, linewidth=wick)
    least = (max(highs) - min(lows)) / 300  # A body without height is a thin line.
    heights = [max(abs(one.close - one.open), least) for one in candles]
    bottoms = [min(one.open, one.close) for one in candles]
    axes.bar(places, heights, _CANDLE, bottoms, color=colours, linewidth=0)
    low, high = min(lows), max(highs)
    margin = (high - low) * 0.05 or abs(high) * 0.0005 or 1.0
    axes.set_ylim(low - margin, high + margin)
    hidden = (high - low + 2 * margin) * _TAG
    axes.yaxis.set_major_formatter(_price_formatter(model, hidden))


def _averages(axes: Any, model: ChartModel) -> None:
    for average in model.averages:
        values = [float("nan") if one is None else one for one in average.values]
        axes.plot(range(len(values)), values, color=average.colour, linewidth=1.1)


def _last_price(axes: Any, model: ChartModel) -> None:
    last, colour = model.candles[-1].close, _colours(model)[-1]
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


def _colours(model: ChartModel) -> list[str]:
    colours = model.look.colours
    return [colours[one.rises] for one in model.candles]


def _volume(axes: Any, model: ChartModel) -> None:
    from matplotlib import ticker  # noqa: PLC0415 - an extra

    volumes = [one.volume for one in model.candles]
    axes.bar(
        range(len(volumes)),
        volumes,
        _CANDLE,
        color=_colours(model),
        alpha=0.5,
        linewidth=0,
    )
    axes.yaxis.set_major_locator(ticker.MaxNLocator(2))
    axes.yaxis.set_major_formatter(ticker.EngFormatter(sep=""))
    axes.set_ylim(0, max(volumes) * 1.08 or 1)


def _price_formatter(model: ChartModel, hidden: float) -> Any:
    """Return the format of prices; what the tag would cover in part has no text."""
    from matplotlib import ticker  # noqa: PLC0415 - an extra

    last = model.candles[-1].close

    def text(value: float, place: int) -> str:
        return "" if abs(value - last) < hidden else model.round(value)

    return ticker.FuncFormatter(text)


def _time_axis(prices: Any, volume: Any, model: ChartModel) -> None:
    ticks = model.ticks(_TICKS)
    volume.set_xticks([tick.place for tick in ticks], [tick.text for tick in ticks])
    prices.tick_params(labelbottom=False)
    prices.set_xlim(-1, len(model.klines))
    room = volume.get_window_extent()
    for label in volume.get_xticklabels():  # At the edges, not beyond them.
        extent = label.get_window_extent()
        if extent.x0 < room.x0:
            label.set_horizontalalignment("left")
        elif extent.x1 > room.x1:
            label.set_horizontalalignment("right")


def _hover_columns(axes: Any, model: ChartModel) -> None:
    """Add a transparent column for each bar, over the whole height."""
    low, high = axes.get_ylim()
    columns = axes.bar(range(len(model.klines)), high - low, 1.0, low, alpha=0)
    for place, column in enumerate(columns):
        column.set_gid(f"{_BAR}{place}")


def _texts(figure: Any, model: ChartModel, look: dict[str, str]) -> None:
    colours: Any = {**model.look.colours, None: look["soft"]}
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
    left = _after(figure, title, model.last, fontsize=18, color=look["text"])
    for change in model.changes:
        left = _after(
            figure, left, change.text, fontsize=13, color=colours[change.rises]
        )
    left = figure.text(0.03, 0.89, model.span, fontsize=10.5, color=look["soft"])
    for average in model.averages:
        left = _after(figure, left, average.name, fontsize=10.5, color=average.colour)
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
