"""What is known at a moment of a recording: the last that was pushed, by topic."""

from __future__ import annotations

from collections import deque
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

import msgspec
from msgspec import Raw, Struct

from qos_async.config import KLINES_MAX, TRADES_MAX
from qos_async.symbols import canonical

__all__ = ["Label", "Memory", "Row", "Watch", "label_of"]

Row: TypeAlias = dict[str, Any]


class Watch(NamedTuple):
    """A topic as the wire has it: a letter, a symbol, and for klines an interval."""

    letter: str
    symbol: str
    kt: int | None = None


class Label(Struct):
    """What a push says of itself."""

    tp: str | None = None
    c: str = ""
    kt: int | None = None
    ts: int = 0

    @property
    def watch(self) -> Watch:
        """The topic that it is of."""
        kt = self.kt if self.tp == "K" else None
        return Watch(self.tp or "", _canonical(self.c), kt)


_labels = msgspec.json.Decoder(Label, strict=False)
_rows = msgspec.json.Decoder(dict[str, Raw])


def label_of(frame: bytes) -> Label | None:
    """Read what a frame says of itself; None if nobody can."""
    try:
        return _labels.decode(frame)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


@lru_cache(maxsize=10_000)
def _canonical(symbol: str) -> str:
    try:
        return canonical(symbol)
    except ValueError:
        return symbol


class Memory:
    """Remembers pushes, and gives them as the rows of an answer.

    Numbers stay as they came, to the digit.
    """

    def __init__(self) -> None:
        self._last: dict[Watch, bytes] = {}
        self._trades: dict[str, deque[bytes]] = {}
        self._bars: dict[Watch, dict[int, bytes]] = {}

    def keep(self, frame: bytes, label: Label) -> None:
        """Take note of a push."""
        watch = label.watch
        match watch.letter:
            case "T":
                kept = self._trades.get(watch.symbol)
                if kept is None:
                    kept = self._trades[watch.symbol] = deque(maxlen=TRADES_MAX)
                kept.append(frame)
            case "K":
                bars = self._bars.setdefault(watch, {})
                bars[label.ts] = frame
                if len(bars) > KLINES_MAX:
                    del bars[next(iter(bars))]
            case _:
                self._last[watch] = frame

    def last(self, letter: str, symbol: str) -> list[Row]:
        """Give the last snapshot (``S``) or book (``D``), if there is one."""
        frame = self._last.get(Watch(letter, symbol))
        return [] if frame is None else [_row(frame)]

    def trades(self, symbol: str, count: int) -> list[Row]:
        """Give the last trades, oldest first."""
        kept = self._trades.get(symbol, ())
        newest = list(islice(reversed(kept), count))
        return [_row(frame) for frame in reversed(newest)]

    def bars(
        self, symbol: str, kt: int, count: int, *, end: float | None = None
    ) -> list[Row]:
        """Give the last klines, ascending; those that began by ``end``, if it is set."""
        kept = self._bars.get(Watch("K", symbol, kt), {})
        known = sorted(ts for ts in kept if end is None or ts <= end)
        return [_row(kept[ts]) for ts in known[-count:]]


def _row(frame: bytes) -> Row:
    row: Row = dict(_rows.decode(frame))
    row.pop("tp", None)
    return row
