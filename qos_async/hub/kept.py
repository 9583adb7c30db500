"""Kept bars: finished klines on disk, as they never change.

A reply of the service has all klines between its first and its last one. So each reply
becomes a span, spans that share a kline become one, and a request within a span needs no
request upstream. Adjusted klines are not kept: a dividend changes all of them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
from collections.abc import Sequence
from typing import NamedTuple

from qos_async._paths import user_path
from qos_async.enums import Interval
from qos_async.periods import bar_end
from qos_async.symbols import market_of

__all__ = ["KeptBar", "KeptBars"]

_log = logging.getLogger("qos_async.hub")

_ROWS_MAX = 5_000_000  # About 600 MB; then it begins anew.
_OUT_OF_RANGE = (OverflowError, ValueError, OSError)  # Of a timestamp.
_SETTLING = 60.0  # Seconds after its end for which a bar may still be corrected.
_SCHEMA = """
create table if not exists bars (
    symbol text, interval integer, ts integer, row blob,
    primary key (symbol, interval, ts)
) without rowid;
create table if not exists spans (
    symbol text, interval integer, first integer, last integer
);
create index if not exists spans_of on spans (symbol, interval);
"""


class KeptBar(NamedTuple):
    """A kline: its start in epoch seconds, and its row as it was received."""

    timestamp: int
    row: bytes


class KeptBars:
    """Finished klines, by symbol and interval, in a SQLite database.

    It is a cache: what cannot be read or written is logged once, and counts as missing.
    Methods may be called from any thread.

    Args:
        path: The file; None keeps them in memory.

    Raises:
        ValueError: If it is no path.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._lock = threading.Lock()
        self._failed = False
        self._path = None if path is None else user_path("keep", path)
        self._database = self._connect(":memory:")

    def open(self) -> None:
        """Open the file, if there is one to be."""
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            database = self._connect(str(self._path))
        except (OSError, sqlite3.Error) as exc:
            self._report(exc)
            return
        self._database.close()
        self._database = database

    def close(self) -> None:
        """Close the database."""
        with self._lock, contextlib.suppress(sqlite3.Error):
            self._database.close()

    def find(
        self, symbol: str, interval: Interval, count: int, end: int
    ) -> list[KeptBar] | None:
        """Return the last ``count`` klines up to ``end``; None if one is not kept."""
        try:
            with self._lock:
                return self._find(symbol, interval, count, end)
        except (sqlite3.Error, *_OUT_OF_RANGE) as exc:
            self._report(exc)
            return None

    def add(
        self, symbol: str, interval: Interval, bars: Sequence[KeptBar], now: float
    ) -> None:
        """Keep the finished ones of a reply's klines, ascending."""
        market = market_of(symbol)
        over = now - _SETTLING
        try:
            finished = [
                bar for bar in bars if bar_end(bar.timestamp, interval, market) <= over
            ]
            if not finished:
                return
            with self._lock, self._database:
                self._add(symbol, interval, finished)
        except (sqlite3.Error, *_OUT_OF_RANGE) as exc:
            self._report(exc)

    @staticmethod
    def _connect(place: str) -> sqlite3.Connection:
        database = sqlite3.connect(place, check_same_thread=False)
        try:
            # Nothing here is lost that cannot be asked for again.
            database.execute("pragma journal_mode=wal")
            database.execute("pragma synchronous=off")
            database.executescript(_SCHEMA)
        except sqlite3.Error:
            database.close()
            raise
        return database

    def _find(
        self, symbol: str, interval: Interval, count: int, end: int
    ) -> list[KeptBar] | None:
        spans = self._database.execute(
            "select first, last from spans where symbol = ? and interval = ? "
            "and first <= ?",
            (symbol, interval, end),
        ).fetchall()
        market = market_of(symbol)
        for first, last in spans:
            # No kline between the last of the span and ``end``.
            if last < end and bar_end(last, interval, market) <= end:
                continue
            rows = self._database.execute(
                "select ts, row from bars where symbol = ? and interval = ? "
                "and ts between ? and ? order by ts desc limit ?",
                (symbol, interval, first, min(last, end), count),
            ).fetchall()
            if len(rows) == count:
                return [KeptBar(*row) for row in reversed(rows)]
        return None

    def _add(self, symbol: str, interval: Interval, bars: Sequence[KeptBar]) -> None:
        [rows] = self._database.execute("select count(*) from bars").fetchone()
        if rows > _ROWS_MAX:
            self._database.execute("delete from bars")
            self._database.execute("delete from spans")
        self._database.executemany(
            "insert or replace into bars values (?, ?, ?, ?)",
            [(symbol, interval, bar.timestamp, bar.row) for bar in bars],
        )
        key = (symbol, int(interval), bars[0].timestamp, bars[-1].timestamp)
        overlapping = "symbol = ? and interval = ? and last >= ? and first <= ?"
        [first, last] = self._database.execute(
            f"select min(first), max(last) from spans where {overlapping}",  # noqa: S608 - a constant
            key,
        ).fetchone()
        self._database.execute(
            f"delete from spans where {overlapping}",  # noqa: S608 - a constant
            key,
        )
        self._database.execute(
            "insert into spans values (?, ?, ?, ?)",
            (
                *key[:2],
                key[2] if first is None else min(first, key[2]),
                key[3] if last is None else max(last, key[3]),
            ),
        )

    def _report(self, error: Exception) -> None:
        if not self._failed:
            _log.warning("finished klines are not kept: %s", error)
        self._failed = True
