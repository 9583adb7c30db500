"""``qos search``: symbols by a part of their code or name."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from qos_async.cli import exits
from qos_async.cli.fetch import add_csv_bom, csv_header
from qos_async.cli.options import Command, Options, add_connection, add_format, market
from qos_async.cli.streams import print_message
from qos_async.symbols import suggest

__all__ = ["COMMAND"]

_MARKETS = ("US", "HK", "SH", "SZ", "CF", "FX", "IX", "CM")
_COLUMNS = ("symbol", "name", "market")


class _Match(NamedTuple):
    symbol: str
    name: str
    market: str


def _add_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("word", metavar="WORD", help="a part of a code or of a name, as 腾讯")
    add(
        "--market",
        type=market,
        action="append",
        metavar="M",
        help=f"only of this market; may be repeated ({' '.join(_MARKETS)})",
    )
    add_csv_bom(add_format(parser))
    add_connection(parser)


def _run(options: Options) -> int:
    """Search, print, and return the exit code."""
    from qos_async.cli.client import run_async

    return run_async(partial(_search, options))


async def _search(options: Options) -> int:
    markets = tuple(dict.fromkeys(options.market or _MARKETS))
    found = _matches(options.word, await _listed(options, markets))
    if found:
        _print(options, found)
        return exits.OK
    print_message(
        f"qos: nothing with {options.word} in its code or name, in {' '.join(markets)}: "
        "product lists have names in Chinese; English ones are found once qos "
        "instruments or qos snapshot has shown them"
    )
    return exits.FAILED


async def _listed(options: Options, markets: Sequence[str]) -> list[_Match]:
    """Return all symbols that are known, each once."""
    from qos_async.cli.client import open_client
    from qos_async.cli.names import NameCache, Products
    from qos_async.errors import QosError

    products = Products(options)
    if stale := products.stale(markets):
        async with open_client(options) as client:
            for name in stale:
                try:
                    fetched = await client.fetch_products(name)
                except QosError as error:
                    # The client is known to work if an earlier market was listed.
                    if name == stale[0]:
                        raise
                    print_message(f"qos: without {name}: {error}")
                    continue
                rows = [row for one in fetched.values() for row in one]
                products.add(
                    name, [(_full(row.symbol, name), row.name) for row in rows]
                )
    names: dict[str, list[str]] = {}
    for one in markets:
        for symbol, name in products.rows(one):
            names.setdefault(symbol, []).append(name)
    for symbol, pair in NameCache(options).read().items():
        if symbol.partition(":")[0] in markets and any(pair):
            names.setdefault(symbol, []).extend(pair)
    return [
        _Match(symbol, " / ".join(dict.fromkeys(filter(None, all_names))), market)
        for symbol, all_names in names.items()
        for market in [symbol.partition(":")[0]]
    ]


def _full(symbol: str, market: str) -> str:
    return symbol if ":" in symbol else f"{market}:{symbol}"


def _matches(word: str, listed: Sequence[_Match]) -> list[_Match]:
    """Return what matches: the code itself first, then what begins so."""
    wanted = word.casefold().strip()
    spelled = (suggest(word) or "").casefold()

    def rank(one: _Match) -> tuple[int, str]:
        code = one.symbol.casefold()
        short, name = code.partition(":")[2], one.name.casefold()
        if code == spelled or wanted in (code, short):
            return 0, code
        return (1 if short.startswith(wanted) or name.startswith(wanted) else 2), code

    found = [
        one
        for one in listed
        if wanted in f"{one.symbol}\n{one.name}".casefold()
        or one.symbol.casefold() == spelled
    ]
    return sorted(found, key=rank)


def _print(options: Options, found: Sequence[_Match]) -> None:
    from qos_async.cli.serialize import csv_lines, json_line
    from qos_async.cli.tables import Cell, Table, TableColumn, show

    if options.json or options.csv:
        sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr] # a TextIOWrapper
        rows = [one._asdict() for one in found]
        if options.csv:
            print(csv_header(_COLUMNS, options.csv))
            print(csv_lines(_COLUMNS, rows), end="")
        else:
            print("".join(map(json_line, rows)), end="")
        return
    columns = [TableColumn(one.title(), left=True) for one in _COLUMNS]
    cells = [
        (Cell(one.symbol, "bold"), Cell(one.name), Cell(one.market)) for one in found
    ]
    show([Table("", columns, cells)])


COMMAND = Command(
    "symbols by a part of their code or name",
    """\
Searches the product lists of the markets, which have names in Chinese, and the
instruments whose names were shown before, in English and Chinese. The lists are
kept for a day: the first search takes an HTTP request for each market.

examples:
  qos search 腾讯 --market HK
  qos search tencent
  qos search --sim btc --json
""",
    "The exit code is 0 if anything was found, else 1.\n",
    _add_arguments,
    _run,
)
