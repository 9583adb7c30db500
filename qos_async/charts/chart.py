"""Charts for programs and notebooks: ``candles`` and what it returns."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Mapping
from datetime import tzinfo
from html import escape
from pathlib import Path
from typing import cast

from qos_async._paths import user_path
from qos_async._validation import as_whole, check_whole
from qos_async.charts.files import SUFFIXES, check_package, open_page, page_path, write
from qos_async.charts.model import ChartModel, Look
from qos_async.charts.reading import read_bars
from qos_async.charts.zones import zone_of

__all__ = ["Chart", "candles"]

_THEMES = ("auto", "light", "dark")
_MA_MOST = 1000
_NOTEBOOK_DPI = 100
_NOTEBOOK_WIDTH = 960


class Chart:
    """Candles with volume, from ``candles``: drawn when it is shown or saved.

    A notebook shows it as a picture, with the values of the bar under the pointer.
    """

    def __init__(self, model: ChartModel, theme: str = "auto") -> None:
        self._model, self._theme = model, theme

    def save(
        self,
        path: str | bytes | os.PathLike[str] | os.PathLike[bytes],
        *,
        cdn: bool = False,
    ) -> Path:
        """Write a file and return its path; an existing one is replaced.

        The suffix is the format. ``.html`` is a page that can be panned and zoomed, and
        loads nothing from the network; it needs plotly. ``.png`` (1920 by 1080 pixels)
        and ``.svg`` need matplotlib.

        >>> candles(bars).save("tencent.html")

        Args:
            path: Where to.
            cdn: Whether an HTML page loads plotly (5 MB) from the network instead of
                containing it.

        Raises:
            ModuleNotFoundError: If the package that draws it is not installed; the
                message has the command to install it.
            OSError: If it cannot be written.
            ValueError: For another suffix.
        """
        place = user_path("path", path)
        suffix = place.suffix.lower()
        if suffix not in SUFFIXES:
            raise ValueError(f"{str(path)!r} should end in .html, .png or .svg")
        place.write_bytes(self._drawn(suffix, cdn=cdn))
        return place

    def open(self) -> Path:
        """Show the HTML page in the browser, and return the path of its file.

        Raises:
            ModuleNotFoundError: If plotly is not installed.
            RuntimeError: If no browser was found.
        """
        content = self._drawn(".html")
        path = page_path(self._model)
        path.write_bytes(content)
        open_page(path)
        return path

    def _drawn(self, suffix: str, *, cdn: bool = False) -> bytes:
        file = io.BytesIO()
        write(self._model, file, suffix, theme=self._theme, cdn=cdn)
        return file.getvalue()

    def __repr__(self) -> str:
        return f"<Chart {self._model.title}, {self._model.span}>"

    def _repr_html_(self) -> str:
        try:
            check_package(".svg", "Charts in notebooks")
        except ModuleNotFoundError as error:
            return f"<p>{escape(str(error))}</p>"
        drawn = self._drawn(".svg").decode()
        image = drawn[drawn.index("<svg") :].replace("<svg", _FLUID, 1)
        image = _GLOBAL_STYLE.sub("", image, count=1)
        return f'<div style="max-width:{_NOTEBOOK_WIDTH}px">{image}</div>'

    def _repr_png_(self) -> tuple[bytes, dict[str, int]] | None:
        try:
            check_package(".png")
        except ModuleNotFoundError:
            return None
        from qos_async.charts import picture  # noqa: PLC0415 - slow to import

        file = io.BytesIO()
        picture.png(self._model, file, theme=self._theme, dpi=_NOTEBOOK_DPI)
        return file.getvalue(), {"width": _NOTEBOOK_WIDTH}


_LINES = "stroke-linejoin:round;stroke-linecap:butt"
_FLUID = f'<svg style="width:100%;height:auto;{_LINES}"'
# Of matplotlib; inside a page it would be the style of every element of the page.
_GLOBAL_STYLE = re.compile(r"<style[^>]*>\*\{[^}]*\}</style>")


def candles(
    bars: object,
    *,
    title: str | None = None,
    ma: Iterable[int] | int = (20, 60),
    tz: str | tzinfo = "market",
    red_up: bool = False,
    theme: str = "auto",
) -> Chart:
    """Return a chart of klines: candles with volume and moving averages.

    It is shown in notebooks, saved as HTML, PNG or SVG, or opened in the browser. The
    time axis leaves out the hours when the market is closed.

    >>> bars = await client.fetch_klines("HK:700", interval="15m", count=200)
    >>> candles(bars["HK:700"], ma=(10, 30)).save("tencent.svg")

    Args:
        bars: Klines of one symbol and interval in any order: ``Kline``, what
            ``qos_async.markets.bars`` yields, or a frame of pandas, polars or pyarrow
            with the columns of ``Kline``. Of bars with the same time the last one is
            drawn.
        title: Instead of symbol and interval.
        ma: Numbers of bars of the moving averages of the close; ``()`` for none. One
            that needs more bars than there are is left out.
        tz: Of the times: ``"market"``, ``"local"``, ``"UTC"``, a name such as
            ``"Asia/Hong_Kong"``, or a ``tzinfo``. Bars of a day or longer have the
            date of their market.
        red_up: Whether rises are red and falls green, as in China.
        theme: ``"light"``, ``"dark"``, or ``"auto"``: the viewer's in HTML, otherwise
            light.

    Raises:
        TypeError: If ``bars`` has no klines.
        ValueError: If there is no bar, or bars of several symbols or intervals, or a
            value that cannot be drawn, or if another argument is wrong.
    """
    return Chart(_model(bars, title, ma, tz, red_up=red_up), _checked_theme(theme))


def _model(
    bars: object, title: object, ma: object, tz: object, *, red_up: object
) -> ChartModel:
    if title is not None and not isinstance(title, str):
        raise ValueError(f"title must be text or None, not {title!r}")
    if not isinstance(red_up, bool):
        raise ValueError(  # noqa: TRY004 - as for every wrong argument
            f"red_up must be True or False, not {red_up!r}"
        )
    averages = _checked_ma(ma)
    zone_of(tz, "")
    klines = read_bars(bars)
    look = Look(
        title=title, ma=averages, zone=zone_of(tz, klines[0].symbol), red_up=red_up
    )
    return ChartModel(klines, look)


def _checked_ma(ma: object) -> tuple[int, ...]:
    """Return the numbers of bars of the moving averages, each once."""
    one = as_whole(ma)
    if one is None and (
        isinstance(ma, (str, bytes, Mapping)) or not isinstance(ma, Iterable)
    ):
        raise ValueError(f"ma must be numbers of bars, such as (20, 60), not {ma!r}")
    counts = cast("Iterable[object]", ma) if one is None else (one,)
    return tuple(
        dict.fromkeys(check_whole("ma", count, most=_MA_MOST) for count in counts)
    )


def _checked_theme(theme: object) -> str:
    if isinstance(theme, str) and theme in _THEMES:
        return theme
    raise ValueError(f'theme must be "auto", "light" or "dark", not {theme!r}')
