"""Names of instruments beside their codes: asked for once, and kept in a file.

The file is in the folder of the platform for state, as is that of ``SharedQuota``. Where it
cannot be read or written, names are asked for each time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from qos_async import Client, Instrument, QosError
from qos_async.cli.options import Options
from qos_async.cli.settings import server_label, state_path

__all__ = ["NameCache", "Products", "names_of"]

_FEW_SECONDS = 3.0
"""How long a command waits for names, which it can do without."""
_KEPT = 86_400
"""Seconds for which the product list of a market is not asked for again."""

T = TypeVar("T")


class _Names(Struct):
    """A file: by server and symbol, the English and the Chinese name; empty if none."""

    names: dict[str, dict[str, tuple[str, str]]] = {}


class _ProductList(Struct):
    fetched_at: float
    rows: list[tuple[str, str]]


class _Products(Struct):
    """A file: by server and market, the symbols and their names."""

    products: dict[str, dict[str, _ProductList]] = {}


class NameCache:
    """The names of instruments that were asked for before, from one server."""

    def __init__(self, options: Options) -> None:
        self._path = _path("names.json")
        self._server = server_label(options)

    def read(self) -> dict[str, tuple[str, str]]:
        """Return the English and the Chinese name by symbol; both empty for no name."""
        return _read(self._path, _Names).names.get(self._server, {})

    def add(self, found: Iterable[Instrument[Any]], asked: Iterable[str] = ()) -> None:
        """Keep names; ``asked`` are symbols that the server may not know."""
        new = dict.fromkeys(asked, ("", ""))
        new |= {one.symbol: (one.name_en or "", one.name_zh or "") for one in found}
        state = _read(self._path, _Names)
        before = state.names.get(self._server, {})
        state.names[self._server] = {**before, **new}
        if state.names[self._server] != before:
            _write(self._path, state)


class Products:
    """The products of each market, from one server, at most a day old."""

    def __init__(self, options: Options) -> None:
        self._path = _path("products.json")
        self._server = server_label(options)
        self._state = _read(self._path, _Products)
        self._markets = self._state.products.setdefault(self._server, {})

    def stale(self, markets: Iterable[str]) -> list[str]:
        """Return the markets whose list is missing or old."""
        since = time.time() - _KEPT
        kept = {name for name, one in self._markets.items() if one.fetched_at > since}
        return [name for name in markets if name not in kept]

    def add(self, market: str, rows: Iterable[tuple[str, str]]) -> None:
        """Keep the list of a market."""
        self._markets[market] = _ProductList(time.time(), list(rows))
        _write(self._path, self._state)

    def rows(self, market: str) -> list[tuple[str, str]]:
        """Return the symbols of a market and their names."""
        found = self._markets.get(market)
        return found.rows if found else []


async def names_of(
    client: Client[Any], options: Options, symbols: Iterable[str]
) -> dict[str, str]:
    """Return the names of symbols, for people; one request if some are not known yet.

    Without an answer within a few seconds, it returns those that are known.
    """
    cache = NameCache(options)
    known = cache.read()
    missing = [one for one in dict.fromkeys(symbols) if one not in known]
    if missing:
        with contextlib.suppress(QosError, TimeoutError):
            async with asyncio.timeout(_FEW_SECONDS):
                found = await client.fetch_instruments(*missing)
            cache.add(found.values(), missing)
            known |= {
                one.symbol: (one.name_en or "", one.name_zh or "")
                for one in found.values()
            }
    return _in_language(known, symbols)


def _in_language(
    known: Mapping[str, tuple[str, str]], symbols: Iterable[str]
) -> dict[str, str]:
    """Return each name in Chinese where the locale is, else in English, if there is one."""
    locale = next(
        filter(None, map(os.environ.get, ("LC_ALL", "LC_MESSAGES", "LANG"))), ""
    )
    shown: dict[str, str] = {}
    for symbol in symbols:
        english, chinese = known.get(symbol, ("", ""))
        pair = (chinese, english) if locale.startswith("zh") else (english, chinese)
        if name := pair[0] or pair[1]:
            shown[symbol] = name
    return shown


def _path(name: str) -> Path | None:
    folder = state_path()
    return folder and folder / name


def _read(path: Path | None, kind: type[T]) -> T:
    if path is not None:
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            return msgspec.json.decode(path.read_bytes(), type=kind)
    return kind()


def _write(path: Path | None, state: Struct) -> None:
    """Replace the file as a whole; readers never see a part of it."""
    if path is None:
        return
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            draft.write_bytes(msgspec.json.encode(state))
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
