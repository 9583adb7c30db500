"""Command ``qos chart``: arguments, fetching the klines, choosing the output.

Slow imports are inside functions: ``qos --help`` imports this module.
"""

from __future__ import annotations

import importlib.util
import shutil
from argparse import ArgumentParser
from pathlib import Path
from typing import TYPE_CHECKING

from qos_async.cli import exits
from qos_async.cli.options import (
    KLINES_MAX,
    Command,
    CommandError,
    Options,
    add_connection,
    add_interval,
    bounded_int,
    file_format,
    output_file,
    symbol,
)
from qos_async.cli.streams import print_message
from qos_async.enums import Interval

if TYPE_CHECKING:  # Slow to import.
    from qos_async import Kline
    from qos_async.cli.charts.model import ChartModel

__all__ = ["COMMAND"]

_FILE_COUNT = 120
_PACKAGES = {
    ".html": ("plotly", "HTML charts need plotly", "plot"),
    ".png": ("matplotlib", "PNG charts need matplotlib", "plot"),
    "": ("rich", "charts in the terminal need rich", "cli"),
}


def _add_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("symbol", type=symbol, metavar="SYMBOL", help="such as US:AAPL")
    add_interval(parser, Interval.DAY)
    add(
        "--count",
        type=bounded_int(KLINES_MAX),
        metavar="N",
        help=f"number of bars, up to {KLINES_MAX} (file: {_FILE_COUNT}, "
        "terminal: as many as fit)",
    )
    add("--adjust", action="store_true", help="adjust for dividends and splits")
    add(
        "-o",
        "--output",
        type=output_file(".html", ".png"),
        metavar="FILE",
        help="write a file instead: .html or .png",
    )
    add(
        "--theme",
        choices=("auto", "light", "dark"),
        default="auto",
        help="theme of the file (auto: the viewer's for HTML, light for PNG)",
    )
    add(
        "--cdn",
        action="store_true",
        help="let the HTML load plotly (5 MB) from the network",
    )
    add_connection(parser)


def _run(options: Options) -> int:
    """Fetch the klines, draw them, and return the exit code."""
    from qos_async.cli.files import check_place
    from qos_async.cli.settings import server_label

    path = options.output
    try:
        _check_package(file_format(path) if path else "")
        if path:
            check_place(path, force=True)
        return _fetch_and_draw(options, server_label(options))
    except ModuleNotFoundError as error:
        raise CommandError(str(error)) from None


def _check_package(suffix: str) -> None:
    """Fail before the first request if the drawing package is missing.

    Raises:
        ModuleNotFoundError: The message names the package to install.
    """
    package, need, extra = _PACKAGES[suffix]
    try:
        found = importlib.util.find_spec(package)
    except ValueError:  # sys.modules[package] is None: an import of it fails, too.
        found = None
    if found is None:
        raise ModuleNotFoundError(
            f"{need}, which is not installed: pip install 'qos-async[{extra}]'",
            name=package,
        )


def _fetch_and_draw(options: Options, source: str) -> int:
    from qos_async import Adjustment
    from qos_async.cli.charts.model import ChartModel
    from qos_async.cli.client import open_client, run_async

    klines: list[Kline] = []

    async def fetch() -> None:
        async with open_client(options) as client:
            found = await client.fetch_klines(
                options.symbol,
                interval=options.interval,
                count=options.count or _default_count(options),
                adjust=Adjustment.FORWARD if options.adjust else Adjustment.NONE,
            )
        klines.extend(found.get(options.symbol, ()))

    code = run_async(fetch)
    if code:
        return code
    if not klines:
        raise CommandError(
            f"the server has no {options.interval.short} bars of {options.symbol}: "
            "check the spelling with qos products"
        )
    model = ChartModel(klines, source)
    if options.output is None:
        _print(model)
    else:
        _write(model, options.output, options)
    return exits.OK


def _default_count(options: Options) -> int:
    if options.output is not None:
        return _FILE_COUNT
    from qos_async.cli.charts.terminal import bars_that_fit

    return bars_that_fit(shutil.get_terminal_size().columns)


def _print(model: ChartModel) -> None:
    from qos_async.cli.charts.terminal import print_chart
    from qos_async.cli.files import OutputError

    try:
        print_chart(model)
    except UnicodeEncodeError as error:
        raise OutputError(
            f"the encoding of this output, {error.encoding}, has no block characters: "
            "set PYTHONUTF8=1, or write a file with -o chart.png"
        ) from None


def _write(model: ChartModel, path: Path, options: Options) -> None:
    from qos_async.cli.files import whole_file

    with whole_file(path) as file:
        if file_format(path) == ".html":
            from qos_async.cli.charts import html

            text = html.page(model, theme=options.theme, cdn=options.cdn)
            file.write(text.encode())
        else:
            from qos_async.cli.charts import png

            png.draw(model, file, theme=options.theme)
    print_message(f"{path}: {model.title}, {model.span}")


COMMAND = Command(
    "candles with volume, in the terminal or as HTML or PNG",
    """\
Draws the newest klines of a symbol as candles with volume: in the terminal, or
with -o into a file. HTML can be panned and zoomed, works without a network,
and follows the viewer's light or dark theme; PNG is 1920 x 1080.

examples:
  qos chart US:AAPL
  qos chart --sim CF:BTCUSDT --interval 1m --count 60
  qos chart HK:700 --interval 1d -o tencent.html
""",
    """\
The time axis leaves out the hours when the market is closed. Intraday times
are UTC; days and longer have the market's own date. The newest bar is
unfinished.

Charts in the terminal need rich: pip install 'qos-async[cli]'. Files need
plotly or matplotlib: pip install 'qos-async[plot]'.
""",
    _add_arguments,
    _run,
)
