"""Command ``qos chart``: arguments, fetching the klines, choosing the output.

Slow imports are inside functions: ``qos --help`` imports this module.
"""

from __future__ import annotations

import importlib.util
import shutil
import warnings
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path
from typing import TYPE_CHECKING

from qos_async._printable import printable
from qos_async.cli import exits
from qos_async.cli.display import add_red_up, add_tz, resolve_display
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
    time_spec,
)
from qos_async.cli.streams import print_message
from qos_async.cli.times import TIMES
from qos_async.enums import Interval

if TYPE_CHECKING:  # Slow to import.
    from qos_async import Kline
    from qos_async.charts.model import ChartModel

__all__ = ["COMMAND"]

_FILE_COUNT = 120
_AVERAGES = (20, 60)


def _add_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("symbol", type=symbol, metavar="SYMBOL", help="such as US:AAPL")
    add_interval(parser, Interval.DAY)
    add(
        "-n",
        "--count",
        type=bounded_int(KLINES_MAX),
        metavar="N",
        help=f"number of bars, up to {KLINES_MAX} (file: {_FILE_COUNT}, "
        "terminal: as many as fit)",
    )
    add("--from", dest="since", type=time_spec, metavar="TIME", help="start")
    add("--to", dest="until", type=time_spec, metavar="TIME", help="end (now)")
    add("--adjust", action="store_true", help="adjust for dividends and splits")
    add(
        "--ma",
        type=_averages,
        metavar="N,N",
        help="moving averages of so many bars, or none (20,60)",
    )
    add(
        "-o",
        "--output",
        type=output_file(".html", ".png", ".svg"),
        metavar="FILE",
        help="write a file instead: .html, .png or .svg",
    )
    add(
        "--open",
        action="store_true",
        help="show the file, or without -o an HTML page, in the browser",
    )
    _add_looks(parser)
    add_connection(parser)


def _add_looks(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add_tz(parser, "file: market, terminal: local")
    add_red_up(parser)
    add(
        "--theme",
        choices=("auto", "light", "dark"),
        default="auto",
        help="theme of the file (auto: the viewer's for HTML, otherwise light)",
    )
    add(
        "--cdn",
        action="store_true",
        help="let the HTML load plotly (5 MB) from the network",
    )


def _averages(text: str) -> tuple[int, ...]:
    """Parse ``20,60``, or ``none``."""
    count = bounded_int(KLINES_MAX)
    if text.strip().lower() in {"", "none"}:
        return ()
    try:
        return tuple(dict.fromkeys(count(part.strip()) for part in text.split(",")))
    except ArgumentTypeError:
        raise ArgumentTypeError(
            f"{text!r} is not a list of numbers of bars from 1 to {KLINES_MAX}: try "
            "--ma 20,60, or --ma none"
        ) from None


def _run(options: Options) -> int:
    """Fetch the klines, draw them, and return the exit code."""
    from qos_async.charts.files import check_package
    from qos_async.cli.files import check_place

    path = options.output
    try:
        if path:
            check_place(path, force=True)
        if path or options.open:
            check_package(file_format(path) if path else ".html")
        else:
            _check_rich()
    except ModuleNotFoundError as error:
        raise CommandError(str(error)) from None
    return _fetch_and_draw(options)


def _check_rich() -> None:
    try:
        found = importlib.util.find_spec("rich")
    except ValueError:  # sys.modules["rich"] is None: an import of it fails, too.
        found = None
    if found is None:
        raise ModuleNotFoundError(
            "charts in the terminal need rich, which is not installed: "
            "pip install 'qos-async[cli]'"
        )


def _fetch_and_draw(options: Options) -> int:
    from qos_async.charts.model import ChartModel, Look
    from qos_async.cli.charts.klines import fetch, wanted
    from qos_async.cli.client import open_client, run_async
    from qos_async.cli.names import names_of
    from qos_async.cli.settings import server_label
    from qos_async.cli.tables import is_terminal

    in_terminal = options.output is None and not options.open
    ma = _AVERAGES if options.ma is None else options.ma
    display = resolve_display(options, default="local" if in_terminal else "market")
    zone = display.zone(options.symbol)
    default_count = _count_that_fits() if in_terminal else _FILE_COUNT
    chosen = wanted(options, default_count, ma)
    found: list[tuple[list[Kline], int]] = []
    names: dict[str, str] = {}

    async def run() -> None:
        async with open_client(options) as client:
            found.append(await fetch(client, options, chosen))
            if is_terminal():
                names.update(await names_of(client, options, [options.symbol]))

    code = run_async(run)
    if code:
        return code
    [(klines, shown)] = found
    look = Look(
        source=server_label(options),
        title=_title(klines, names),
        ma=ma,
        zone=zone,
        red_up=display.red_up,
    )
    model = ChartModel(klines, look, shown=shown)
    if in_terminal:
        _print(model)
        return exits.OK
    return _write(model, options)


def _title(klines: list[Kline], names: dict[str, str]) -> str | None:
    """Return the symbol with its name; None without one."""
    if not klines or not names:
        return None
    first = klines[0]
    name = printable(names.get(first.symbol, ""))
    return f"{first.symbol} {name}  {first.interval.short}" if name else None


def _count_that_fits() -> int:
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


def _write(model: ChartModel, options: Options) -> int:
    from qos_async.charts.files import open_page, page_path, write
    from qos_async.cli.files import whole_file

    path: Path = options.output or page_path(model)
    with warnings.catch_warnings(record=True) as caught, whole_file(path) as file:
        write(model, file, file_format(path), theme=options.theme, cdn=options.cdn)
    for one in caught:
        print_message(f"qos: {one.message}")
    print_message(f"{path}: {model.title}, {model.span}")
    if options.open:
        try:
            open_page(path)
        except RuntimeError as error:
            raise CommandError(str(error)) from None
    return exits.OK


COMMAND = Command(
    "candles with volume, in the terminal or as HTML, PNG or SVG",
    """\
Draws the klines of a symbol as candles with volume and moving averages: in the
terminal, or with -o into a file. HTML can be panned and zoomed, works without a
network, and follows the viewer's light or dark theme; PNG is 1920 x 1080.

examples:
  qos chart US:AAPL
  qos chart --sim CF:BTCUSDT --interval 1m --count 60 --ma 10,30
  qos chart HK:700 --interval 15m --from 2025-01-20 --to 2025-01-24 --open
  qos chart SZ:000001 --red-up -o pingan.html
""",
    f"""\
The first change is that of the newest bar from the close before it, the second
that of all bars shown, from the first open to the last close. The newest bar is
unfinished, unless --to is in the past.

The time axis leaves out the hours when the market is closed. Intraday times are
in the zone of --tz; days and longer have the market's own date.

{TIMES}

Charts in the terminal need rich and HTML plotly: pip install 'qos-async[cli]'.
PNG and SVG need matplotlib: pip install 'qos-async[plot]'.
""",
    _add_arguments,
    _run,
)
