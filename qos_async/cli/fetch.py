"""``qos snapshot`` and the other commands that fetch once and print."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from qos_async._wording import did_you_mean
from qos_async.cli import exits
from qos_async.cli.display import Display, add_red_up, add_tz, resolve_display
from qos_async.cli.options import (
    KLINES_MAX,
    TRADES_MAX,
    Command,
    Options,
    add_connection,
    add_format,
    add_interval,
    bounded_int,
    market,
    symbol_list,
)
from qos_async.cli.streams import print_message
from qos_async.enums import Adjustment, Interval

if TYPE_CHECKING:  # Slow to import.
    from qos_async import Client
    from qos_async.cli.tables import Table
    from qos_async.models import Record

__all__ = ["COMMANDS"]

_MARK = "\ufeff"
_NOTE = """\
What the server does not return is listed on stderr. The exit code is 0 if
anything was returned, else 1. If a request fails, what came before it is
printed, the error is on stderr, and the exit code is not 0. With --json and
--csv, numbers are exact as sent, and times ISO 8601, in UTC without --tz; bars
of days and longer have their date, too.
"""


class _Request(NamedTuple):
    """What a command fetches, and how it is shown.

    Attributes:
        fetch: A method of ``Client``.
        record: What it returns, one or several for each symbol or market.
        tables: Draws that for people.
    """

    fetch: Callable[..., Awaitable[Mapping[Any, Any]]]
    record: type[Record]
    tables: Callable[[Mapping[str, Any], Display], Iterable[Table]]


def add_csv_bom(group: Any) -> None:
    """Add ``--csv-bom``, for rows with names, to the options of the format."""
    group.add_argument(
        "--csv-bom",
        action="store_const",
        dest="csv",
        const=_MARK,
        help="CSV for Excel and WPS, with a byte order mark: without it they garble "
        "Chinese names (pandas and polars read both)",
    )


def csv_header(names: Iterable[str], csv: object) -> str:
    """Return the first line of CSV, with the mark if ``--csv-bom`` asks for it."""
    return f"{_MARK if csv == _MARK else ''}{','.join(names)}"


def _add_symbols(parser: ArgumentParser, *, has_names: bool = False) -> None:
    parser.add_argument(
        "symbols",
        type=symbol_list,
        nargs="+",
        metavar="SYMBOL",
        help="US:AAPL, or several of a market as US:AAPL,TSLA",
    )
    parser.set_defaults(markets=[])
    _add_format(parser, has_names=has_names)
    add_connection(parser)


def _add_markets(parser: ArgumentParser, *, has_names: bool = False) -> None:
    parser.add_argument(
        "markets",
        type=market,
        nargs="+",
        metavar="MARKET",
        help="US HK SH SZ CF FX IX CM, or another one that the server knows",
    )
    parser.set_defaults(symbols=[])
    _add_format(parser, has_names=has_names)
    add_connection(parser)


def _add_format(parser: ArgumentParser, *, has_names: bool) -> None:
    group = add_format(parser)
    if has_names:
        add_csv_bom(group)


def _add_count(parser: ArgumentParser, default: int, maximum: int) -> None:
    parser.add_argument(
        "-n",
        "--count",
        type=bounded_int(maximum),
        default=default,
        metavar="N",
        help=f"how many of each symbol, up to {maximum} ({default})",
    )


def _add_ticks(parser: ArgumentParser) -> None:
    _add_symbols(parser)
    add_tz(parser)
    add_red_up(parser)


def _add_calendar(parser: ArgumentParser) -> None:
    _add_markets(parser)
    add_tz(parser)


def _add_trades(parser: ArgumentParser) -> None:
    _add_ticks(parser)
    _add_count(parser, 10, TRADES_MAX)


def _add_klines(parser: ArgumentParser) -> None:
    _add_ticks(parser)
    add_interval(parser, Interval.DAY)
    _add_count(parser, 20, KLINES_MAX)
    parser.add_argument(
        "--adjust", action="store_true", help="for dividends and splits"
    )


def _add_instruments(parser: ArgumentParser) -> None:
    _add_symbols(parser, has_names=True)


def _add_products(parser: ArgumentParser) -> None:
    _add_markets(parser, has_names=True)


def _run(options: Options) -> int:
    """Fetch, print, and return the exit code."""
    from qos_async.cli.client import run_async

    return run_async(partial(_fetch, options, _request(options.command)))


def _request(command: str) -> _Request:
    import qos_async as qos
    from qos_async import Client
    from qos_async.cli import months, tables

    requests = {
        "snapshot": _Request(Client.fetch_snapshots, qos.Snapshot, tables.snapshots),
        "depth": _Request(Client.fetch_depth, qos.Depth, tables.depth),
        "trades": _Request(Client.fetch_trades, qos.Trade, tables.trades),
        "klines": _Request(Client.fetch_klines, qos.Kline, tables.klines),
        "instruments": _Request(
            Client.fetch_instruments, qos.Instrument, tables.instruments
        ),
        "products": _Request(Client.fetch_products, qos.Product, tables.products),
        "calendar": _Request(Client.fetch_calendar, qos.TradingDay, months.calendar),
    }
    return requests[command]


async def _fetch(options: Options, request: _Request) -> int:
    from decimal import Decimal

    from qos_async.cli.client import open_client
    from qos_async.errors import QosError

    exact = options.json or options.csv  # As text, numbers stay as they were sent.
    async with open_client(options, numbers=str if exact else Decimal) as client:
        names = options.symbols or options.markets
        try:
            response = await request.fetch(client, *names, **_extra_args(options))
        except QosError as error:
            if error.partial:
                _print(options, request, error.partial)
            raise
        if options.command in ("snapshot", "instruments"):
            request = await _with_names(client, options, request, response)
    return _exit_code(options, _print(options, request, response))


async def _with_names(
    client: Client[Any],
    options: Options,
    request: _Request,
    response: Mapping[Any, Any],
) -> _Request:
    """Return the request with names in the table of snapshots, on a terminal."""
    from qos_async.cli import tables
    from qos_async.cli.names import NameCache, names_of

    if options.command == "instruments":
        NameCache(options).add(response.values())
        return request
    if options.json or options.csv or not tables.is_terminal():
        return request
    names = await names_of(client, options, response)
    return request._replace(tables=partial(tables.snapshots, names=names))


def _print(
    options: Options, request: _Request, response: Mapping[Any, Any]
) -> dict[str, Any]:
    """Print what was fetched on stdout, and return what there is."""
    from qos_async.cli.tables import show

    display = resolve_display(options)
    found = {str(name): value for name, value in response.items() if value != []}
    if options.json or options.csv:
        _write(options, request.record, found, display.for_programs)
    elif found:
        show(request.tables(found, display), display)
    if sys.stdout is not None:
        sys.stdout.flush()  # Before an error that follows on stderr.
    return found


def _extra_args(options: Options) -> dict[str, Any]:
    """Return the arguments of the request besides symbols or markets."""
    match options.command:
        case "trades":
            return {"count": options.count}
        case "klines":
            adjust = Adjustment.FORWARD if options.adjust else Adjustment.NONE
            return {
                "interval": options.interval,
                "count": options.count,
                "adjust": adjust,
            }
        case _:
            return {}


def _write(
    options: Options,
    record: type[Record],
    found: Mapping[str, Any],
    display: Display,
) -> None:
    from qos_async.cli.serialize import csv_lines, fields, header, json_line, table_rows

    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr] # a TextIOWrapper
    # None for commands without --interval.
    dates = (getattr(options, "interval", None) or 0) >= Interval.DAY
    names = [*(["market"] if options.markets else []), *header(record, dates=dates)]
    if options.csv:
        print(csv_header(names, options.csv))
    for name, value in found.items():
        extra = {"market": name} if options.markets else {}
        records: Any = [value] if isinstance(value, record) else value
        for one in records:
            if options.csv:
                rows = ({**extra, **row} for row in table_rows(one, display=display))
                print(csv_lines(names, rows), end="")
            else:
                print(json_line({**extra, **fields(one, display=display)}), end="")


def _exit_code(options: Options, found: Mapping[str, Any]) -> int:
    """Report what is missing, and return the exit code."""
    requested = [one for group in options.symbols for one in group] or options.markets
    missing = [name for name in dict.fromkeys(requested) if name not in found]
    if missing:
        print_message(
            f"qos: nothing about {', '.join(missing)}: the server does not know "
            f"{'it' if len(missing) == 1 else 'them'}, or has no data"
            f"{_meant(missing) if options.symbols else ''}"
        )
    return exits.OK if found else exits.FAILED


def _meant(missing: Iterable[str]) -> str:
    """Return a hint for the markets of other services, as in SSE:600519; or nothing."""
    from qos_async.cli.formatting import other_spelling

    return did_you_mean(*filter(None, map(other_spelling, missing)))


COMMANDS = {
    "snapshot": Command(
        "last price, change and range of the day",
        """\
Shows the state of the trading day: last price, change since yesterday's close
(or since the open, where there is no close), range, volume.

examples:
  qos snapshot US:AAPL,TSLA HK:700
  qos snapshot --sim US:AAPL,TSLA CF:BTCUSDT
  qos snapshot --sim US:AAPL --json
""",
        _NOTE,
        _add_ticks,
        _run,
    ),
    "depth": Command(
        "order books",
        """\
Shows the whole order book, best prices first: 1 level per side for US, 5 for SH
and SZ, 10 for HK, 20 for CF. With --csv, each level is a row.

examples:
  qos depth HK:700
  qos depth --sim CF:BTCUSDT US:AAPL
  qos depth --sim HK:700 --csv
""",
        _NOTE,
        _add_ticks,
        _run,
    ),
    "trades": Command(
        "the last trades",
        """\
Shows the last trades, the newest one last. Times have whole seconds, as the
server sends them. For live trades, see qos stream.

examples:
  qos trades US:AAPL --count 50
  qos trades --sim CF:BTCUSDT,ETHUSDT
  qos trades --sim HK:700 --count 3 --csv
""",
        _NOTE,
        _add_trades,
        _run,
    ),
    "klines": Command(
        "the newest bars",
        """\
Shows the newest bars, the newest one last; it is unfinished. Change is relative
to the bar before. Times are the start of each bar; bars of days and longer have
the date in the market's own time zone.

examples:
  qos klines US:AAPL --interval 1d --count 30
  qos klines --sim CF:BTCUSDT --interval 1m
  qos klines --sim HK:700 --interval 1h --csv
""",
        _NOTE,
        _add_klines,
        _run,
    ),
    "instruments": Command(
        "names, currency, shares",
        """\
Shows what does not change during a day: names, exchange, currency, lot size,
shares, earnings, book value and dividend per share.

examples:
  qos instruments US:AAPL HK:700
  qos instruments --sim US:AAPL HK:700 --json
""",
        _NOTE,
        _add_instruments,
        _run,
    ),
    "products": Command(
        "what can be traded in a market",
        """\
Lists the symbols that can be traded in a market, with their names. The list of
a whole market is long.

examples:
  qos products CF
  qos products --sim HK CF
  qos products --sim CF --csv
""",
        _NOTE,
        _add_products,
        _run,
    ),
    "calendar": Command(
        "on which days a market trades",
        """\
Shows on which of the next days a market trades, and its regular hours: a month
each, in which closed days and half days are marked.

examples:
  qos calendar US HK --tz local
  qos calendar --sim HK
  qos calendar --sim US --json
""",
        _NOTE,
        _add_calendar,
        _run,
    ),
}
"""In the order of ``qos --help``."""
