"""``qos chart``: candles with volume."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from qos_async.cli.options import (
    Options,
    add_connection,
    bounded_int,
    interval,
    output_file,
    symbol,
)
from qos_async.enums import Interval

__all__ = ["ABOUT", "BRIEF", "NOTE", "Arguments", "add_arguments", "run"]

BRIEF = "candles with volume, in the terminal or as HTML or PNG"
ABOUT = """\
Draws the newest klines of a symbol as candles, with their volume: in the
terminal, or with -o into a file. HTML can be moved and zoomed, needs no network
to be looked at, and follows the viewer's choice of light or dark; PNG is a
picture.

examples:
  qos chart US:AAPL
  qos chart --sim CF:BTCUSDT --interval 1m --count 60
  qos chart HK:700 --interval 1d -o tencent.html
"""
NOTE = """\
Times when a market is closed take no room. Intraday times are UTC; of days and
longer, the market's own date. The newest bar is unfinished.

In the terminal this needs rich: pip install 'qos-async[cli]'. Files need plotly
or matplotlib: pip install 'qos-async[plot]'.
"""

_MOST = 1000


class Arguments(Options):
    """What was asked for."""

    symbol: str
    interval: Interval = Interval.DAY
    count: int | None = None
    adjust: bool = False
    output: Path | None = None
    theme: str = "auto"
    cdn: bool = False


def add_arguments(parser: ArgumentParser) -> None:
    """Say what may be typed."""
    add = parser.add_argument
    add("symbol", type=symbol, metavar="SYMBOL", help="such as US:AAPL")
    add(
        "--interval",
        type=interval,
        default=Interval.DAY,
        metavar="I",
        help="1m 5m 15m 30m 1h 2h 4h 1d 1w 1M 1y (1d)",
    )
    add(
        "--count",
        type=bounded_int(_MOST),
        metavar="N",
        help=f"how many bars, up to {_MOST} (in a file 120, in a terminal what fits)",
    )
    add("--adjust", action="store_true", help="for dividends and splits")
    add(
        "-o",
        "--output",
        type=output_file(".html", ".png"),
        metavar="FILE",
        help="a file instead of the terminal: .html or .png",
    )
    add(
        "--theme",
        choices=("auto", "light", "dark"),
        default="auto",
        help="of a file (auto: HTML as the viewer has it, PNG light)",
    )
    add(
        "--cdn",
        action="store_true",
        help="load the 5 MB of plotly from the network when HTML is looked at",
    )
    add_connection(parser)


def run(arguments: Arguments) -> int:
    """Fetch, draw, and give the exit code."""
    from qos_async.cli.charts import run as charts

    return charts.run_chart(arguments)
