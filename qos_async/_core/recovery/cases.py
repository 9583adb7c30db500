"""What an outage did to one topic, and how that is made good."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Generic, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from qos_async._core.recovery.gaps import GapStatus, Outage
from qos_async._core.recovery.trades import TradeKey, merge_trades, trade_key
from qos_async.config import TRADES_MAX
from qos_async.enums import Channel, Interval
from qos_async.models import Kline, Tick, Trade
from qos_async.topics import Topic

__all__ = [
    "RecoveryCase",
    "RecoveryResult",
    "bars_since",
    "make_case",
]

T = TypeVar("T", bound=Tick)

_MAX_HELD = 10_000
_NOTHING: list[Any] = []  # Of most topics nothing is held back: it is never changed.
_NOWHERE = -1
_SECONDS = {
    Interval.DAY: 86_400,
    Interval.WEEK: 7 * 86_400,
    Interval.MONTH: 28 * 86_400,
    Interval.YEAR: 365 * 86_400,
}
_LONGEST = {**_SECONDS, Interval.MONTH: 31 * 86_400, Interval.YEAR: 366 * 86_400}


class RecoveryResult(Struct, frozen=True):
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
    def recovered_count(self) -> int:
        """How many of ``recovered`` were fetched, or stand before one that was."""
        fetched = [not tick.received_at for tick in self.recovered]
        return len(fetched) - fetched[::-1].index(True) if any(fetched) else 0


class RecoveryCase(Generic[T]):
    """One topic that is live again, while what it missed is not decided.

    Attributes:
        outage: Since when it was interrupted, and why.
        restored_at: When it was live again on this link, in the caller's time.
        live_at: When it was live again for the last time.
        acked_at: The server's second in the acknowledgement, if it told.
        held: Live ticks since then, held back.
        held_earlier: Ticks held back on an earlier link that was lost before a decision.
        wants_request: Whether an answer of the server could help now.
        live: Whether its link still stands.
        rows: What the server answered, once it did.
    """

    # Ten thousand are opened at once, if so many symbols are watched.
    __slots__ = (
        "_held_at_request",
        "_request_pending",
        "acked_at",
        "held",
        "held_earlier",
        "live",
        "live_at",
        "outage",
        "restored_at",
        "rows",
        "tail",
        "topic",
        "wants_request",
    )

    def __init__(
        self, topic: Topic, outage: Outage, tail: Sequence[T], *, now: float
    ) -> None:
        self.topic = topic
        self.outage = outage
        self.tail = tuple(tail)
        self.restored_at = self.live_at = now
        self.acked_at: int | None = None
        self.held: list[T] = _NOTHING
        self.held_earlier: list[T] = _NOTHING
        self.wants_request = True
        self.live = True
        self.rows: Any | None = None
        self._request_pending = False
        self._held_at_request = -1

    @property
    def ready_at(self) -> float:
        """When it makes sense to ask."""
        return self.restored_at

    def request_sent(self) -> None:
        """Record that the question was put: not again before something new is heard."""
        self.wants_request = False
        self._request_pending = True
        self._held_at_request = len(self.held)

    def hold(self, tick: T) -> RecoveryResult | None:
        """Hold a live tick back; gives the decision if that one brings it."""
        self.held = self.held or []
        self.held.append(tick)
        full = len(self.held) + len(self.held_earlier) >= _MAX_HELD
        return self.close() if full else None

    def on_reply(self, rows: Any) -> RecoveryResult | None:
        """Take the server's answer in; None if it had none. May decide."""
        raise NotImplementedError

    def close(self) -> RecoveryResult:
        """Decide with what there is."""
        raise NotImplementedError

    def restart(self) -> None:
        """There is another hole: one gap, all the wider, and all is asked anew."""
        self.held_earlier = [*self.held_earlier, *self.held]
        self.held = _NOTHING
        self.wants_request = True
        self.acked_at = None
        self.rows = None
        self._request_pending = False
        self._held_at_request = -1

    def _result(self, status: GapStatus, recovered: Sequence[T] = ()) -> RecoveryResult:
        return RecoveryResult(
            self.topic,
            self.outage,
            self.live_at,
            status,
            tuple(recovered),
            tuple(self.held),
        )


class _Trades(RecoveryCase[Trade[Any]]):
    __slots__ = ()

    @property
    def ready_at(self) -> float:
        # By then the second of the acknowledgement is over at the server.
        return self.restored_at + 1.0

    def hold(self, tick: Trade[Any]) -> RecoveryResult | None:
        decided = super().hold(tick)
        if decided is not None or self.rows is None:
            return decided
        return self._decide()

    def on_reply(self, rows: list[Trade[Any]] | None) -> RecoveryResult | None:
        self.wants_request = self._request_pending = False
        if rows is None:
            return self.close()
        self.rows = rows
        return self._decide()

    def _decide(self) -> RecoveryResult | None:
        merged = self._merged()
        newer = self.acked_at is None or any(
            tick.timestamp > self.acked_at for tick in self.held
        )
        news = (
            newer
            and len(self.held) > self._held_at_request
            and not self._request_pending
        )
        self.wants_request = merged.waits_for == "answer" and news
        return None if merged.waiting else self.close()

    def _merged(self) -> Any:
        return merge_trades(
            tail=self.tail,
            window=self.rows,
            live=self.held,
            acked_at=self.acked_at,
            asked=TRADES_MAX,
        )

    def close(self) -> RecoveryResult:
        merged = self._merged()
        both, whole = _merge_in_order(self.held_earlier, merged.recovered)
        denied = merged.status == "filled" and not whole
        return self._result("unverified" if denied else merged.status, both)


def _merge_in_order(
    stash: Sequence[Trade[Any]], fetched: Sequence[Trade[Any]]
) -> tuple[list[Trade[Any]], bool]:
    """Put what was fetched between what was received before the last hole.

    That is told in any case, once, and in the order in which it came. Of copies alike
    the newest are those that were fetched again.

    Returns:
        All of them, and whether all of the stash was fetched again.
    """
    places: dict[TradeKey, list[int]] = {}
    for place, trade in enumerate(stash):
        places.setdefault(trade_key(trade), []).append(place)
    overlap = any(trade_key(trade) in places for trade in fetched)
    # For each: whether it was received, and before which place it belongs.
    found: list[tuple[bool, int]] = []
    place = _NOWHERE if overlap else len(stash)
    for trade in reversed(fetched):
        mine = places.get(trade_key(trade))
        place = mine.pop() if mine else place
        found.append((mine is not None, place))
    both: list[Trade[Any]] = []
    told = 0
    for trade, (received, place) in zip(fetched, reversed(found), strict=True):
        until = place + 1 if received else told
        while not received and until < len(stash):
            if not _comes_before(stash[until], trade, known=until < place):
                break
            until += 1
        both += stash[told:until]
        told = max(told, until)
        if not received:
            both.append(trade)
    return [*both, *stash[told:]], not any(places.values())


def _comes_before(one: Trade[Any], other: Trade[Any], *, known: bool) -> bool:
    # Within a second it is known if a later trade was both received and fetched, or none
    # was: then what was fetched begins later. Else it does not reach as far.
    same = one.timestamp == other.timestamp
    return one.timestamp < other.timestamp or (same and known)


class _Klines(RecoveryCase[Kline[Any]]):
    __slots__ = ()

    def on_reply(self, rows: list[Kline[Any]] | None) -> RecoveryResult | None:
        self.rows = rows
        return self.close()

    def close(self) -> RecoveryResult:
        missed = self._missed()
        # The end of an old bar may be pushed late: it stands where its bar does.
        newest = missed[-1].timestamp if missed else -math.inf
        early = [bar for bar in self.held if bar.timestamp <= newest]
        both = sorted([*early, *missed], key=lambda bar: bar.timestamp)
        held = [bar for bar in self.held if bar.timestamp > newest]
        return replace(self._result(self._status(), both), held=tuple(held))

    def _missed(self) -> list[Kline[Any]]:
        """Give the newest state of each bar that no held push tells, oldest first."""
        bars: dict[int, Kline[Any]] = {}
        for bar in (*self.held_earlier, *(self.rows or ())):
            mine = bars.get(bar.timestamp)
            if mine is None or _is_newer_state(bar, mine):
                bars[bar.timestamp] = bar
        told = {bar.timestamp: bar for bar in (*self.tail[-1:], *self.held)}
        oldest = self.tail[-1].timestamp if self.tail else -math.inf
        growing = max((bar.timestamp for bar in self.held), default=None)
        return [
            bars[start]
            for start in sorted(bars)
            if start >= oldest
            and start != growing  # The pushes go on with it.
            and (start not in told or _is_newer_state(bars[start], told[start]))
        ]

    def _status(self) -> GapStatus:
        if not self.rows:
            return "unfilled"
        if not self.tail or not self._reaches_present(self.rows) or self._lags():
            return "unverified"
        reaches_back = self.rows[0].timestamp <= self.tail[-1].timestamp
        return "filled" if reaches_back else "partial"

    def _reaches_present(self, rows: list[Kline[Any]]) -> bool:
        """Whether the answer ends in what is live, or in the bar of the restore."""
        newest = rows[-1]
        if self.acked_at is not None:
            interval = newest.interval
            length = _LONGEST.get(interval, interval * 60)
            if newest.timestamp + length > self.acked_at:
                return True
        # A push of the bar that was last delivered may be the late end of that.
        news = [bar for bar in self.held if bar.timestamp > self.tail[-1].timestamp]
        live = news or (self.held if self.acked_at is None else [])
        return bool(live) and newest.timestamp >= live[0].timestamp

    def _lags(self) -> bool:
        """Whether the answer has a bar in an older state than a link brought it."""
        rows = {bar.timestamp: bar for bar in self.rows or ()}
        oldest = min(rows)
        return any(
            bar.timestamp >= oldest
            and (
                bar.timestamp not in rows or _volume(rows[bar.timestamp]) < _volume(bar)
            )
            for bar in (*self.tail[-1:], *self.held_earlier)
        )


class _LatestOnly(RecoveryCase[Any]):
    """A channel without a past: the newest tick is all there is to know."""

    __slots__ = ()

    def hold(self, tick: Any) -> RecoveryResult | None:
        super().hold(tick)
        return self.close()

    def on_reply(self, rows: Any | None) -> RecoveryResult | None:
        if rows is None:
            return self.close()
        if self.tail and rows.timestamp < self.tail[-1].timestamp:
            return self._result("unverified")  # Older than what was told before.
        return self._result("filled", (rows,))

    def close(self) -> RecoveryResult:
        return self._result(
            "filled" if self.held else "unfilled", self.held_earlier[-1:]
        )


def make_case(
    topic: Topic, outage: Outage, tail: Sequence[Any], *, now: float
) -> RecoveryCase[Any]:
    """Open the case of one topic."""
    kind: type[RecoveryCase[Any]] = {
        Channel.TRADE: _Trades,
        Channel.KLINE: _Klines,
    }.get(topic.channel, _LatestOnly)
    return kind(topic, outage, tail, now=now)


def bars_since(outage: Outage, interval: Interval, now: float) -> int:
    """Count the bars that an outage spans, and two more."""
    length = _SECONDS.get(interval, interval * 60)
    return math.ceil((now - outage.since) / length) + 2


def _is_newer_state(bar: Kline[Any], last: Kline[Any]) -> bool:
    """Whether ``bar`` tells more than the last one that was delivered."""
    if bar.timestamp == last.timestamp:
        older = _volume(bar) < _volume(last)
        return not older and _values(bar) != _values(last)
    return bar.timestamp > last.timestamp


def _volume(bar: Kline[Any]) -> Decimal:
    return Decimal(bar.volume or 0)  # As text, "9" would be more than "10".


def _values(bar: Kline[Any]) -> tuple[Any, ...]:
    return bar.open, bar.high, bar.low, bar.close, bar.volume
