"""What an outage did to one topic, and how that is made good."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from msgspec import Struct

from qos_async._core.gaps import GapStatus, Outage
from qos_async._core.merging import Identity, identity, merge
from qos_async._core.topics import Topic
from qos_async.enums import Channel, Interval
from qos_async.models import Kline, Tick, Trade

__all__ = ["ASKED_TRADES", "Case", "Healing", "bars_since", "case_of"]

T = TypeVar("T", bound=Tick)

ASKED_TRADES = 50
"""The server's whole memory of trades (section 5.7)."""

_HELD = 10_000
_SECONDS = {
    Interval.DAY: 86_400,
    Interval.WEEK: 7 * 86_400,
    Interval.MONTH: 28 * 86_400,
    Interval.YEAR: 365 * 86_400,
}


class Healing(Struct, frozen=True):
    """How one topic came out of an outage.

    Attributes:
        topic: Which.
        outage: Since when, and why.
        until: When it was live again, in the caller's time.
        status: What may be said of the hole.
        recovered: Ticks to be told after the gap: fetched ones, and those that were
            held back on a link that was lost before it was decided.
        held: Live ticks held back, to be told after those.
    """

    topic: Topic
    outage: Outage
    until: float
    status: GapStatus
    recovered: tuple[Any, ...] = ()
    held: tuple[Any, ...] = ()

    @property
    def fetched(self) -> int:
        """How many of ``recovered`` no link brought."""
        return sum(not tick.received_at for tick in self.recovered)

    @property
    def received(self) -> int:
        """How many ticks a link brought."""
        return len(self.recovered) + len(self.held) - self.fetched

    @property
    def late(self) -> int:
        """How many of ``recovered`` were fetched, or stand before one that was."""
        fetched = [not tick.received_at for tick in self.recovered]
        return len(fetched) - fetched[::-1].index(True) if any(fetched) else 0


class Case(Generic[T]):
    """One topic that is live again, while what it missed is not decided.

    Attributes:
        outage: Since when it was interrupted, and why.
        restored_at: When it was live again, in the caller's time.
        acked_at: The server's second in the acknowledgement, if it told.
        held: Live ticks since then, held back.
        stash: Ticks held back on an earlier link that was lost before a decision.
        asks: Whether an answer of the server could help now.
        live: Whether its link still stands.
        held_since: Since when ticks are held back on this link.
    """

    def __init__(
        self, topic: Topic, outage: Outage, tail: Sequence[T], *, now: float
    ) -> None:
        self.topic = topic
        self.outage = outage
        self.tail = tuple(tail)
        self.restored_at = self.held_since = now
        self.acked_at: int | None = None
        self.held: list[T] = []
        self.stash: list[T] = []
        self.asks = True
        self.live = True
        self._under_way = False
        self._heard = -1

    @property
    def ready_at(self) -> float:
        """When it makes sense to ask."""
        return self.restored_at

    def asked(self) -> None:
        """Record that the question was put: not again before something new is heard."""
        self.asks = False
        self._under_way = True
        self._heard = len(self.held)

    def hold(self, tick: T) -> Healing | None:
        """Hold a live tick back; gives the decision if that one brings it."""
        self.held.append(tick)
        full = len(self.held) + len(self.stash) >= _HELD
        return self.close() if full else None

    def answer(self, rows: Any) -> Healing | None:
        """Take the server's answer in; None if it had none. May decide."""
        raise NotImplementedError

    def close(self) -> Healing:
        """Decide with what there is."""
        raise NotImplementedError

    def set_back(self) -> None:
        """There is another hole: one gap, all the wider, and all is asked anew."""
        self.stash += self.held
        self.held = []
        self.asks = True
        self.acked_at = None
        self._under_way = False
        self._heard = -1

    def _healing(self, status: GapStatus, recovered: Sequence[T] = ()) -> Healing:
        return Healing(
            self.topic,
            self.outage,
            self.restored_at,
            status,
            tuple(recovered),
            tuple(self.held),
        )


class _Trades(Case[Trade[Any]]):
    window: list[Trade[Any]] | None = None

    @property
    def ready_at(self) -> float:
        # By then the second of the acknowledgement is over at the server.
        return self.restored_at + 1.0

    def hold(self, tick: Trade[Any]) -> Healing | None:
        decided = super().hold(tick)
        if decided is not None or self.window is None:
            return decided
        return self._decide()

    def answer(self, rows: list[Trade[Any]] | None) -> Healing | None:
        self.asks = self._under_way = False
        if rows is None:
            return self.close()
        self.window = rows
        return self._decide()

    def _decide(self) -> Healing | None:
        merged = self._merged()
        newer = self.acked_at is None or any(
            tick.timestamp > self.acked_at for tick in self.held
        )
        news = newer and len(self.held) > self._heard and not self._under_way
        self.asks = merged.waits_for == "answer" and news
        return None if merged.waiting else self.close()

    def _merged(self) -> Any:
        return merge(
            tail=self.tail,
            window=self.window,
            live=self.held,
            acked_at=self.acked_at,
            asked=ASKED_TRADES,
        )

    def close(self) -> Healing:
        merged = self._merged()
        # What came before the last hole was received: told in any case, and once.
        # An answer that begins in the middle of a second lacks the oldest of that.
        own: dict[Identity, list[Trade[Any]]] = {}
        for trade in self.stash:
            own.setdefault(identity(trade), []).append(trade)
        fetched = [
            mine.pop() if (mine := own.get(identity(trade))) else trade
            for trade in reversed(merged.recovered)
        ]
        known = set(map(id, fetched))
        left = [trade for trade in self.stash if id(trade) not in known]
        both = sorted([*left, *reversed(fetched)], key=lambda trade: trade.timestamp)
        denied = merged.status == "filled" and left
        return self._healing("unverified" if denied else merged.status, both)

    def set_back(self) -> None:
        super().set_back()
        self.window = None


class _Klines(Case[Kline[Any]]):
    rows: list[Kline[Any]] | None = None

    def answer(self, rows: list[Kline[Any]] | None) -> Healing | None:
        self.rows = rows
        return self.close()

    def close(self) -> Healing:
        bars = {bar.timestamp: bar for bar in (*self.stash, *(self.rows or ()))}
        last = self.tail[-1] if self.tail else None
        until = self.held[0].timestamp if self.held else math.inf
        missed = [
            bars[start]
            for start in sorted(bars)
            if start < until and (last is None or _goes_on(bars[start], last))
        ]
        return self._healing(self._status(last), missed)

    def _status(self, last: Kline[Any] | None) -> GapStatus:
        if not self.rows:
            return "unfilled"
        if last is None:
            return "unverified"
        reaches_back = self.rows[0].timestamp <= last.timestamp
        return "filled" if reaches_back else "partial"


class _State(Case[Any]):
    """A channel without a past: the newest tick is all there is to know."""

    def hold(self, tick: Any) -> Healing | None:
        super().hold(tick)
        return self.close()

    def answer(self, rows: Any | None) -> Healing | None:
        if rows is None:
            return self.close()
        if self.tail and rows.timestamp < self.tail[-1].timestamp:
            return self._healing("unverified")  # Older than what was told before.
        return self._healing("filled", (rows,))

    def close(self) -> Healing:
        return self._healing("filled" if self.held else "unfilled", self.stash[-1:])


def case_of(
    topic: Topic, outage: Outage, tail: Sequence[Any], *, now: float
) -> Case[Any]:
    """Open the case of one topic."""
    kind: type[Case[Any]] = {Channel.TRADE: _Trades, Channel.KLINE: _Klines}.get(
        topic.channel, _State
    )
    return kind(topic, outage, tail, now=now)


def bars_since(outage: Outage, interval: Interval, now: float) -> int:
    """Count the bars that an outage spans, and two more."""
    length = _SECONDS.get(interval, interval * 60)
    return math.ceil((now - outage.since) / length) + 2


def _goes_on(bar: Kline[Any], last: Kline[Any]) -> bool:
    """Whether ``bar`` tells more than the last one that was delivered."""
    if bar.timestamp == last.timestamp:
        older = (bar.volume or 0) < (last.volume or 0)
        return not older and _figures(bar) != _figures(last)
    return bar.timestamp > last.timestamp


def _figures(bar: Kline[Any]) -> tuple[Any, ...]:
    return bar.open, bar.high, bar.low, bar.close, bar.volume
