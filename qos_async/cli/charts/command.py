"""Command ``qos chart``: arguments, fetching the klines, choosing the output.

Heavy modules are imported within functions: ``qos --help`` imports this one.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import TYPE_CHECKING

from qos_async.cli import exits
from qos_async.cli.connecting import Connection, add_connection, connect, run_async
from qos_async.cli.values import count_up_to, interval, one_symbol, output
from qos_async.enums import Interval

if TYPE_CHECKING:  # Heavy.
    from qos_async import Kline
    from qos_async.cli.charts.model import ChartModel

__all__ = ["ABOUT", "BRIEF", "NOTE", "Arguments", "add_arguments", "run"]

BRIEF = "candles with volume, in the terminal or as HTML or PNG"
ABOUT = """\
Draws the newest klines of a symbol as candles with volume: in the terminal, or
with -o into a file. HTML can be panned and zoomed, works without a network, and
follows the viewer's light or dark theme; PNG is 1920 x 1080.

examples:
  qos chart US:AAPL
  qos chart --sim CF:BTCUSDT --interval 1m --count 60
  qos chart HK:700 --interval 1d -o tencent.html
"""
NOTE = """\
The time axis leaves out the hours when the market is closed. Intraday times are UTC;
days and longer have the market's own date. The newest bar is unfinished.

Charts in the terminal need rich: pip install 'qos-async[cli]'. Files need plotly
or matplotlib: pip install 'qos-async[plot]'.
"""

_MAX_COUNT = 1000
_FILE_COUNT = 120
_PACKAGES = {
    ".html": ("plotly", "HTML charts need plotly", "plot"),
    ".png": ("matplotlib", "PNG charts need matplotlib", "plot"),
    "": ("rich", "charts in the terminal need rich", "cli"),
}


class Arguments(Connection):
    """The parsed arguments of ``qos chart``."""

    symbol: str
    interval: Interval = Interval.DAY
    count: int | None = None
    adjust: bool = False
    output: Path | None = None
    theme: str = "auto"
    cdn: bool = False


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of ``qos chart``."""
    add = parser.add_argument
    add("symbol", type=one_symbol, metavar="SYMBOL", help="such as US:AAPL")
    add(
        "--interval",
        type=interval,
        default=Interval.DAY,
        metavar="I",
        help="1m 5m 15m 30m 1h 2h 4h 1d 1w 1M 1y (1d)",
    )
    add(
        "--count",
        type=count_up_to(_MAX_COUNT),
        metavar="N",
        help=f"number of bars, up to {_MAX_COUNT} (file: {_FILE_COUNT}, "
        "terminal: as many as fit)",
    )
    add("--adjust", action="store_true", help="adjust for dividends and splits")
    add(
        "-o",
        "--output",
        type=output(".html", ".png"),
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


def run(arguments: Arguments) -> int:
    """Fetch the klines, draw them, and return the exit code."""
    from qos_async.cli.files import OutputError, check_place  # noqa: PLC0415 - heavy
    from qos_async.cli.settings import SettingsError  # noqa: PLC0415 - heavy
    from qos_async.cli.sources import source_of  # noqa: PLC0415 - heavy

    path = arguments.output
    try:
        _check_package(path.suffix if path else "")
        if path:
            check_place(path, force=True)
        return _fetch_and_draw(arguments, source_of(arguments))
    except SettingsError as error:
        return _report(str(error), exits.USAGE)
    except (ModuleNotFoundError, OutputError) as error:
        return _report(str(error), exits.FAILED)


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


def _fetch_and_draw(arguments: Arguments, source: str) -> int:
    from qos_async import Adjustment  # noqa: PLC0415 - heavy
    from qos_async.cli.charts.model import ChartModel  # noqa: PLC0415 - heavy

    klines: list[Kline] = []

    async def fetch() -> None:
        async with connect(arguments) as client:
            found = await client.fetch_klines(
                arguments.symbol,
                interval=arguments.interval,
                count=arguments.count or _default_count(arguments),
                adjust=Adjustment.FORWARD if arguments.adjust else Adjustment.NONE,
            )
        klines.extend(found.get(arguments.symbol, ()))

    code = run_async(fetch)
    if code:
        return code
    if not klines:
        return _report(
            f"the server has no {arguments.interval.short} bars of {arguments.symbol}: "
            "check the spelling with qos products",
            exits.FAILED,
        )
    model = ChartModel(klines, source)
    if arguments.output is None:
        _print(model)
    else:
        _write(model, arguments.output, arguments)
    return exits.OK


def _default_count(arguments: Arguments) -> int:
    if arguments.output is not None:
        return _FILE_COUNT
    from qos_async.cli.charts.terminal import bars_that_fit  # noqa: PLC0415 - an extra

    return bars_that_fit(shutil.get_terminal_size().columns)


def _print(model: ChartModel) -> None:
    from qos_async.cli.charts.terminal import print_chart  # noqa: PLC0415 - an extra
    from qos_async.cli.files import OutputError  # noqa: PLC0415 - heavy

    try:
        print_chart(model)
    except UnicodeEncodeError as error:
        raise OutputError(
            f"the encoding of this output, {error.encoding}, has no block characters: "
            "set PYTHONUTF8=1, or write a file with -o chart.png"
        ) from None


def _write(model: ChartModel, path: Path, arguments: Arguments) -> None:
    from qos_async.cli.files import whole_file  # noqa: PLC0415 - heavy

    with whole_file(path) as file:
        if path.suffix == ".html":
            from qos_async.cli.charts import html  # noqa: PLC0415 - an extra

            text = html.page(model, theme=arguments.theme, cdn=arguments.cdn)
            file.write(text.encode())
        else:
            from qos_async.cli.charts import png  # noqa: PLC0415 - an extra

            png.draw(model, file, theme=arguments.theme)
    print(f"{path}: {model.title}, {model.span}", file=sys.stderr)


def _report(sentence: str, code: int) -> int:
    print(f"qos: {sentence}", file=sys.stderr)
    return code
