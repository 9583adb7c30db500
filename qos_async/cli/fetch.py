"""The commands that ask once: ``qos snapshot`` and its kin."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple, cast

from msgspec import Struct

from qos_async import (
    Adjustment,
    Client,
    Depth,
    Instrument,
    Kline,
    Product,
    Snapshot,
    Trade,
    TradingDay,
)
from qos_async.cli import exits, layouts
from qos_async.cli.asking import Asking
from qos_async.cli.connecting import connect, run_async
from qos_async.cli.layouts import Layout
from qos_async.cli.rows import as_json, csv_lines, fields, header, table_rows
from qos_async.cli.tables import show

__all__ = ["run_fetch"]


class _Question(NamedTuple):
    """A command.

    Attributes:
        ask: The verb of ``Client``.
        kind: What comes, one or several for each symbol or market.
        draw: Shows that to people.
    """

    ask: Callable[..., Awaitable[Mapping[Any, Any]]]
    kind: type[Struct]
    draw: Layout


def run_fetch(arguments: Asking) -> int:
    """Ask what the command is about, show what came, and give the exit code."""
    return run_async(partial(_fetch, arguments, _QUESTIONS[arguments.command]))


async def _fetch(arguments: Asking, question: _Question) -> int:
    # As text, numbers stay as they were sent.
    exact = arguments.json or arguments.csv
    async with connect(arguments, numbers=str if exact else Decimal) as client:
        about = arguments.symbols or arguments.markets
        answers = await question.ask(client, *about, **_terms(arguments))
    found = {str(name): answer for name, answer in answers.items() if answer != []}
    if exact:
        _write(arguments, question.kind, found)
    elif found:
        show(question.draw(found))
    return _judge(arguments, found)


def _write(arguments: Asking, kind: type[Struct], found: Mapping[str, Any]) -> None:
    if sys.stdout is None:  # As under pythonw.
        return
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    about_markets = bool(arguments.markets)
    names = ["market"] if about_markets else []
    names += header(kind)
    if arguments.csv:
        print(",".join(names))
    for name, answer in found.items():
        more = {"market": name} if about_markets else {}
        several = isinstance(answer, list)
        for record in cast("list[Any]", answer) if several else [answer]:
            if arguments.csv:
                rows = ({**more, **row} for row in table_rows(record))
                print(csv_lines(names, rows), end="")
            else:
                print(as_json({**more, **fields(record)}))


def _judge(arguments: Asking, found: Mapping[str, Any]) -> int:
    """Tell what is missing, and give the exit code."""
    asked = dict.fromkeys(one for part in arguments.symbols for one in part)
    missing = [name for name in (asked or arguments.markets) if name not in found]
    if missing:
        print(
            f"qos: nothing about {', '.join(missing)}: the server does not know "
            f"{'it' if len(missing) == 1 else 'them'}, or has nothing to tell",
            file=sys.stderr,
        )
    return exits.OK if found else exits.FAILED


def _terms(arguments: Any) -> dict[str, Any]:
    """Give what a command asks for besides symbols."""
    match arguments.command:
        case "trades":
            return {"count": arguments.count}
        case "klines":
            adjust = Adjustment.FORWARD if arguments.adjust else Adjustment.NONE
            return {
                "interval": arguments.interval,
                "count": arguments.count,
                "adjust": adjust,
            }
        case _:
            return {}


_QUESTIONS: dict[str, _Question] = {
    "snapshot": _Question(Client.fetch_snapshots, Snapshot, layouts.snapshots),
    "depth": _Question(Client.fetch_depth, Depth, layouts.depth),
    "trades": _Question(Client.fetch_trades, Trade, layouts.trades),
    "klines": _Question(Client.fetch_klines, Kline, layouts.klines),
    "instruments": _Question(Client.fetch_instruments, Instrument, layouts.instruments),
    "products": _Question(Client.fetch_products, Product, layouts.products),
    "calendar": _Question(Client.fetch_calendar, TradingDay, layouts.calendar),
}
