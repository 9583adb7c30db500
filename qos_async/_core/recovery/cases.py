"""Recovery cases: how the missed ticks of one topic are recovered, by channel.

A case is opened when a topic is live again after an outage. It holds the live ticks
back, takes the reply to a recovery request, and is closed with a result: what to deliver
after the gap, and how much is known about the gap. Trades are merged (``trades``),
klines are compared bar by bar, of snapshots and depths only the newest counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Generic, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from qos_async._core.notices import GapStatus
from qos_async._core.recovery.outages import Outage
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

_MAX_HELD = 10_000  # Held ticks of one topic, at which its case is closed early.
# Shared by all cases without held ticks, which are most: it is replaced, never changed.
_NOTHING: list[Any] = []
_NOWHERE = -1
# Lengths of the intervals (section 2.1) of which the number is not one of minutes; the
# shortest, so that enough bars are requested, and the longest, for the bounds of a bar.
_SECONDS = {
    Interval.DAY: 86_400,
    Interval.WEEK: 7 * 86_400,
    Interval.MONTH: 28 * 86_400,
    Interval.YEAR: 365 * 86_400,
}
_LONGEST = {**_SECONDS, Interval.MONTH: 31 * 86_400, Interval.YEAR: 366 * 86_400}


class RecoveryResult(Struct, frozen=True):
    """The result of a closed case.

    Attributes:
        topic: The topic.
        outage: When the outage began, and why.
        until: When the topic was live again, in the caller's time.
        status: The status of the gap, as in ``Gap.status``.
        recovered: Ticks to deliver after the gap: fetched ones, and those that were
            held back on a link that was lost before the case was closed.
        held: Held live ticks, to deliver after those.
        pushed: All ticks that were held back, in order of receipt.
        span: The beginning and end of the gap, where they were recorded.
    """

    topic: Topic
    outage: Outage
    until: float
    status: GapStatus
    recovered: tuple[Any, ...] = ()
    held: tuple[Any, ...] = ()
    pushed: tuple[Any, ...] = ()
    span: tuple[datetime, datetime] | None = None

    @property
    def fetched(self) -> int:
        """The number of ``recovered`` ticks that were fetched, not pushed."""
        return sum(not tick.received_at for tick in self.recovered)

    @property
    def received(self) -> int:
        """The number of ticks that were pushed."""
        return len(self.recovered) + len(self.held) - self.fetched

    @property
    def is_incomplete(self) -> bool:
        """Whether ticks may be missing within what was recovered."""
        return self.status in ("unfilled", "unverified")

    @property
    def recovered_count(self) -> int:
        """The number of ``recovered`` ticks up to the last fetched one.

        They are delivered with ``recovered=True``: pushed ticks in between are out of
        their order of receipt, too.
        """
        fetched = [not tick.received_at for tick in self.recovered]
        return len(fetched) - fetched[::-1].index(True) if any(fetched) else 0


class RecoveryCase(Generic[T]):
    """One topic that is live again after an outage, until its gap is emitted.

    Attributes:
        topic: The topic.
        outage: When the outage began, and why.
        tail: The last ticks delivered before it, oldest first.
        restored_at: When the topic was live again on this link, in the caller's time.
        live_at: When the topic became live for the last time.
        acked_at: The ``time`` of the acknowledgement, in epoch seconds, if it had one.
        held: Live ticks since ``live_at``, held back.
        held_earlier: Ticks held back before a further outage: on an earlier link, or
            before the topic became suspect.
        wants_request: Whether a reply of the server could help now.
        live: Whether it is live: its link is open, and it is not suspect.
        rows: The ticks in the server's reply; None before it.
    """

    # After an outage, one is opened for each topic: with slots, 10,000 cost less
    # memory.
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
        """When a request can be sent that is of use."""
        return self.restored_at

    def request_sent(self) -> None:
        """Record that a request was sent; no other before its reply and a new push."""
        self.wants_request = False
        self._request_pending = True
        self._held_at_request = len(self.held)

    def hold(self, tick: T) -> RecoveryResult | None:
        """Hold a live tick back; return the result if that is enough to close the case."""
        self.held = self.held or []
        self.held.append(tick)
        full = len(self.held) + len(self.held_earlier) >= _MAX_HELD
        return self.result() if full else None

    def on_reply(self, rows: Any) -> RecoveryResult | None:
        """Process the rows of a reply; return the result if that is enough to close the case.

        Args:
            rows: As in ``rows``; None if there was no reply, or none for this topic.
        """
        raise NotImplementedError

    def result(self) -> RecoveryResult:
        """Return the result of the data at hand; the case stays as it is."""
        raise NotImplementedError

    def restart(self) -> None:
        """Start anew after another outage: the two become one gap.

        Held ticks are kept; an earlier reply is discarded, as it ends before this
        outage.
        """
        self.held_earlier = [*self.held_earlier, *self.held]
        self.held = _NOTHING
        self.wants_request = True
        self.acked_at = None
        self.rows = None
        self._request_pending = False
        self._held_at_request = -1

    def _make_result(
        self, status: GapStatus, recovered: Sequence[T] = ()
    ) -> RecoveryResult:
        return RecoveryResult(
            self.topic,
            self.outage,
            self.live_at,
            status,
            tuple(recovered),
            tuple(self.held),
            (*self.held_earlier, *self.held),
        )


def make_case(
    topic: Topic, outage: Outage, tail: Sequence[Any], *, now: float
) -> RecoveryCase[Any]:
    """Return a new case for one topic."""
    kind: type[RecoveryCase[Any]] = {
        Channel.TRADE: _Trades,
        Channel.KLINE: _Klines,
    }.get(topic.channel, _LatestOnly)
    return kind(topic, outage, tail, now=now)


def inherited_case(
    topic: Topic,
    outage: Outage,
    tail: Sequence[Any],
    held: Sequence[Any],
    *,
    now: float,
) -> RecoveryCase[Any]:
    """Return the case of a topic of which another client held ticks back.

    It waits for the next link, like one that was open when a link was lost.
    """
    case = make_case(topic, outage, tail, now=now)
    case.held_earlier = [*held]
    case.live, case.restored_at = False, math.inf
    return case


def bars_since(outage: Outage, interval: Interval, now: float) -> int:
    """Return the number of bars that an outage spans, and two more.

    One is that of the outage's start, which was unfinished; one is the current bar.
    """
    length = _SECONDS.get(interval, interval * 60)
    return math.ceil((now - outage.since) / length) + 2


class _Trades(RecoveryCase[Trade[Any]]):
    __slots__ = ()

    @property
    def ready_at(self) -> float:
        # One second later, the server's second of the acknowledgement is over, so a
        # reply lists all trades of it. A request within that second may miss some of
        # them.
        return self.restored_at + 1.0

    def hold(self, tick: Trade[Any]) -> RecoveryResult | None:
        result = super().hold(tick)
        if result is not None or self.rows is None:
            return result
        return self._result_if_final()

    def on_reply(self, rows: list[Trade[Any]] | None) -> RecoveryResult | None:
        self.wants_request = self._request_pending = False
        if rows is None:
            return self.result()
        self.rows = rows
        return self._result_if_final()

    def _result_if_final(self) -> RecoveryResult | None:
        # Request again only when the reply can differ: after a push that is newer than
        # the acknowledgement and than the last request, and not while one is pending.
        merged = self._merged()
        newer = self.acked_at is None or any(
            tick.timestamp > self.acked_at for tick in self.held
        )
        useful = (
            newer
            and len(self.held) > self._held_at_request
            and not self._request_pending
        )
        self.wants_request = merged.waits_for == "reply" and useful
        return None if merged.waiting else self.result()

    def _merged(self) -> Any:
        return merge_trades(
            tail=self.tail,
            window=self.rows,
            live=self.held,
            acked_at=self.acked_at,
            asked=TRADES_MAX,
        )

    def result(self) -> RecoveryResult:
        merged = self._merged()
        both, confirmed = _merge_in_order(self.held_earlier, merged.recovered)
        # The tape must contain the trades that an earlier link pushed; if the server
        # does not list all of them, its list is not the whole tape.
        denied = merged.status == "filled" and not confirmed
        return self._make_result("unverified" if denied else merged.status, both)


def _merge_in_order(
    pushed: Sequence[Trade[Any]], fetched: Sequence[Trade[Any]]
) -> tuple[list[Trade[Any]], bool]:
    """Insert fetched trades among those that were pushed before the last outage.

    1. Each fetched trade that equals a pushed one is that trade: it is delivered once.
       Of equal trades, the newest pushed ones are taken.
    2. All pushed trades are delivered, in their order of receipt.
    3. A trade that was only fetched stands before the pushed trade that the next
       matched trade of the reply equals, and otherwise in order of time.

    Returns:
        All trades, and whether the reply listed every pushed one.
    """
    places: dict[TradeKey, list[int]] = {}
    for place, trade in enumerate(pushed):
        places.setdefault(trade_key(trade), []).append(place)
    overlap = any(trade_key(trade) in places for trade in fetched)
    # For each fetched trade, from the last: whether it was pushed too, and its index in
    # ``pushed``, or that of the next matched trade.
    found: list[tuple[bool, int]] = []
    place = _NOWHERE if overlap else len(pushed)
    for trade in reversed(fetched):
        mine = places.get(trade_key(trade))
        place = mine.pop() if mine else place
        found.append((mine is not None, place))
    both: list[Trade[Any]] = []
    done = 0  # So many of the pushed trades are in ``both``.
    for trade, (matched, place) in zip(fetched, reversed(found), strict=True):
        until = place + 1 if matched else done
        while not matched and until < len(pushed):
            if not _comes_before(pushed[until], trade, known=until < place):
                break
            until += 1
        both += pushed[done:until]
        done = max(done, until)
        if not matched:
            both.append(trade)
    return [*both, *pushed[done:]], not any(places.values())


def _comes_before(one: Trade[Any], other: Trade[Any], *, known: bool) -> bool:
    # Within one second, timestamps do not order two trades. The pushed one comes first
    # if a later trade was matched, or none at all (``known``): the fetched ones begin
    # later. Otherwise the fetched trades end before the pushed one.
    same = one.timestamp == other.timestamp
    return one.timestamp < other.timestamp or (same and known)


class _Klines(RecoveryCase[Kline[Any]]):
    __slots__ = ()

    def on_reply(self, rows: list[Kline[Any]] | None) -> RecoveryResult | None:
        self.rows = rows
        return self.result()

    def result(self) -> RecoveryResult:
        missed = self._missed()
        # The last state of an older bar may be pushed late. It is sorted in among the
        # recovered bars, so that bars are delivered in ascending order.
        newest = missed[-1].timestamp if missed else -math.inf
        early = [bar for bar in self.held if bar.timestamp <= newest]
        both = sorted([*early, *missed], key=lambda bar: bar.timestamp)
        held = [bar for bar in self.held if bar.timestamp > newest]
        return replace(self._make_result(self._status(), both), held=tuple(held))

    def _missed(self) -> list[Kline[Any]]:
        """Return the newest state of each bar that no held push has, oldest first."""
        bars: dict[int, Kline[Any]] = {}
        for bar in (*self.held_earlier, *(self.rows or ())):
            mine = bars.get(bar.timestamp)
            if mine is None or _is_newer_state(bar, mine):
                bars[bar.timestamp] = bar
        delivered = {bar.timestamp: bar for bar in (*self.tail[-1:], *self.held)}
        oldest = self.tail[-1].timestamp if self.tail else -math.inf
        unfinished = max((bar.timestamp for bar in self.held), default=None)
        return [
            bars[start]
            for start in sorted(bars)
            if start >= oldest
            and start != unfinished  # Its next states will be pushed.
            and (
                start not in delivered or _is_newer_state(bars[start], delivered[start])
            )
        ]

    def _status(self) -> GapStatus:
        if not self.rows:
            return "unfilled"
        if not self.tail or not self._reaches_present(self.rows) or self._lags():
            return "unverified"
        reaches_back = self.rows[0].timestamp <= self.tail[-1].timestamp
        return "filled" if reaches_back else "partial"

    def _reaches_present(self, rows: list[Kline[Any]]) -> bool:
        """Return whether the reply reaches the first live bar, or that of the ack.

        Otherwise the bars between its last one and the first live one are missing.
        """
        newest = rows[-1]
        if self.acked_at is not None:
            interval = newest.interval
            length = _LONGEST.get(interval, interval * 60)
            if newest.timestamp + length > self.acked_at:
                return True
        # A push of the bar that was delivered last may be its late last state, so only
        # a newer bar is live for certain.
        newer = [bar for bar in self.held if bar.timestamp > self.tail[-1].timestamp]
        live = newer or (self.held if self.acked_at is None else [])
        return bool(live) and newest.timestamp >= live[0].timestamp

    def _lags(self) -> bool:
        """Return whether the reply has a bar in an older state than was pushed.

        Volumes of a bar only grow, so a lower one is an older state.
        """
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
    """Snapshots, depths, and any other channel: the newest tick holds the whole state."""

    __slots__ = ()

    def hold(self, tick: Any) -> RecoveryResult | None:
        super().hold(tick)
        return self.result()

    def on_reply(self, rows: Any | None) -> RecoveryResult | None:
        if rows is None:
            return self.result()
        if self.tail and rows.timestamp < self.tail[-1].timestamp:
            return self._make_result(
                "unverified"
            )  # Older than the last delivered tick.
        return self._make_result("filled", (rows,))

    def result(self) -> RecoveryResult:
        return self._make_result(
            "filled" if self.held else "unfilled", self.held_earlier[-1:]
        )


def _is_newer_state(bar: Kline[Any], last: Kline[Any]) -> bool:
    """Return whether ``bar`` is a newer bar, or a newer state of the same bar."""
    if bar.timestamp == last.timestamp:
        older = _volume(bar) < _volume(last)
        return not older and _values(bar) != _values(last)
    return bar.timestamp > last.timestamp


def _volume(bar: Kline[Any]) -> Decimal:
    return Decimal(bar.volume or 0)  # As text, "9" would be more than "10".


def _values(bar: Kline[Any]) -> tuple[Any, ...]:
    return bar.open, bar.high, bar.low, bar.close, bar.volume
