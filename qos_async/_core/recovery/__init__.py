"""Recovery: fetching what an outage missed.

The stream uses ``Recovery``, and ``OutageTracker`` for topics that are not live. One topic::

    link lost, or topic suspect
        │
    OutageTracker.open ─▶ live again: open_case ─▶ hold: its ticks are held back
                              │
          all topics resubscribed: requests ─▶ on_reply ─▶ RecoveryResult
                              │                                ▲
                              ├─ hold: the tick proves it, or 10,000 are held
                              ├─ tick: the deadline has passed ─┤
                              └─ its last subscription leaves, or the stream ends

A ``RecoveryResult`` says what is emitted, in this order: a gap; the recovered ticks, among
them those that an earlier link brought while the case was open; the held ticks. Should the
link be lost again, the case waits for the next one, and the two outages become one gap.
``cases`` has what is known of one topic, ``trades`` the proof by which trades are merged,
``outages`` which topics were live.

Words: a *case* is a topic in recovery. A *suspect* topic may have missed something although
its link is open: an unreadable frame, a suspended machine. An *echo* is a push that repeats
a trade recovered before. An *anchor* is a tick that both the pushes and the reply have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic

from msgspec import Struct

from qos_async._core.queries import Queries, Query
from qos_async._core.recovery.cases import (
    RecoveryCase,
    RecoveryResult,
    bars_since,
    inherited_case,
    make_case,
)
from qos_async._core.recovery.outages import Outage, OutageTracker
from qos_async._core.recovery.trades import Echoes
from qos_async._core.responses import canonical_or_same
from qos_async._core.rows import Unread
from qos_async.config import KLINES_MAX, TRADES_MAX
from qos_async.enums import Channel
from qos_async.errors import DecodeError
from qos_async.models import N
from qos_async.topics import Topic

__all__ = [
    "Outage",
    "OutageTracker",
    "Recovery",
    "RecoveryRequest",
    "RecoveryResult",
    "inherited_case",
]

_CLOSE_AFTER = 5.0  # Seconds from when all topics are resubscribed.
# Seconds from when the topic is live, where others are not resubscribed by then.
_CLOSE_AT_LATEST = 15.0
_COALESCE_WITHIN = 1.0

# The server's memory is shortest for trades: they are requested first. Others follow.
_ORDER = {
    channel: place
    for place, channel in enumerate(
        dict.fromkeys((Channel.TRADE, Channel.KLINE, *Channel))
    )
}


class RecoveryRequest(Struct, frozen=True):
    """A query about topics in recovery."""

    query: Query[dict[str, Any]]
    topics: tuple[Topic, ...]


class Recovery(Generic[N]):
    """Fetches what topics missed, and holds their live ticks back meanwhile.

    Nothing is requested before all topics are resubscribed; then one request for each
    channel and interval. A case is closed by its reply, by a tick that proves it, by the
    10,000th held tick, or with what is known: five seconds after all topics are
    resubscribed, 15 after its own is live, whichever is first, and up to one later.

    Args:
        queries: Makes the requests; None fetches nothing and holds nothing back.

    Attributes:
        cases: The topics that were live again after an outage whose gap is not emitted.
        echoes: Recovered trades that may be pushed after all, by topic. The object never
            changes: the dispatcher tests it once a burst.
    """

    def __init__(self, queries: Queries[N] | None) -> None:
        self.cases: dict[Topic, RecoveryCase[Any]] = {}
        self.echoes: dict[Topic, Echoes] = {}
        self._queries = queries
        self._sent: dict[int, RecoveryRequest] = {}
        self._all_resubscribed_at = math.inf

    @property
    def is_enabled(self) -> bool:
        """Whether anything is fetched and held back."""
        return self._queries is not None

    @property
    def held(self) -> int:
        """How many ticks are held back now."""
        return sum(
            len(c.held) + len(c.held_earlier) for c in tuple(self.cases.values())
        )

    def awaits(self, topic: Topic) -> bool:
        """Whether a case that is opened for a topic is to be closed later."""
        return self.is_enabled

    # Topics

    def open_case(
        self, topic: Topic, outage: Outage, tail: Sequence[Any], now: float
    ) -> bool:
        """Open a case for a topic that is live again, or resume the one there is.

        Returns:
            Whether that is new: a tick and the acknowledgement may both report it.
        """
        case = self.cases.get(topic)
        if case is None:
            self.cases[topic] = make_case(topic, outage, tail, now=now)
            return True
        if case.live:
            return False
        case.live = True
        case.live_at = now
        case.restored_at = min(case.restored_at, now)
        return True

    def acknowledged(self, topic: Topic, second: int | None) -> None:
        """Record the server's time in the acknowledgement of a topic."""
        case = self.cases.get(topic)
        if case is not None and second is not None:
            case.acked_at = second

    def hold(self, topic: Topic, tick: Any) -> RecoveryResult | None:
        """Hold a live tick back; return the result if that closes the case."""
        return self._close_if_final(self.cases[topic].hold(tick))

    def held_ids(self, topic: Topic) -> frozenset[int]:
        """Return the ids of the ticks of a topic that are held back now."""
        case = self.cases[topic]
        return frozenset(map(id, (*case.held_earlier, *case.held)))

    def is_live(self, topic: Topic) -> bool:
        """Whether a topic in recovery is live; else its case waits until it is."""
        return self.cases[topic].live

    def result_so_far(self, topic: Topic) -> RecoveryResult:
        """Return what is known of a case, which stays open."""
        return self.cases[topic].result()

    def is_echo(self, topic: Topic, tick: Any) -> bool:
        """Whether a tick was delivered already, as a recovered trade."""
        echoes = self.echoes.get(topic)
        if echoes is None:
            return False
        echoed = echoes.matches(tick)
        if not echoes:
            del self.echoes[topic]
        return echoed

    def close_case(self, topic: Topic) -> RecoveryResult:
        """Close a case with what is known."""
        result = self.cases[topic].result()
        self._close_if_final(result)
        return result

    def close_with(self, result: RecoveryResult) -> None:
        """Close a case with a result that was recorded."""
        self._close_if_final(result)

    def remove(self, topics: Iterable[Topic]) -> list[int]:
        """Forget topics that no subscription has any more.

        Returns:
            The ids of requests whose replies are not needed any more.
        """
        for topic in topics:
            self.cases.pop(topic, None)
            self.echoes.pop(topic, None)
        unneeded = [
            reqid
            for reqid, request in self._sent.items()
            if self.cases.keys().isdisjoint(request.topics)
        ]
        for reqid in unneeded:
            del self._sent[reqid]
        return unneeded

    def link_down(self) -> list[int]:
        """Keep the cases for the next link.

        Returns:
            The ids of all requests: they are sent anew on the next link.
        """
        sent = list(self._sent)
        self._sent.clear()
        self._all_resubscribed_at = math.inf
        for case in self.cases.values():
            case.restart()
            case.live = False
            case.restored_at = math.inf
        return sent

    def suspended(self, seconds: float) -> None:
        """Shift all outages back by a suspend, which the loop's clock does not count."""
        for case in self.cases.values():
            case.outage = case.outage.shifted_back(seconds)

    def mark_suspect(self, topics: Iterable[Topic]) -> None:
        """Record that topics may have missed data again, on the same link.

        Replies to earlier requests about them do not count: the loss may be later. But
        the deadline stays, or it might never be reached.
        """
        suspect = self.cases.keys() & topics
        for topic in suspect:
            case = self.cases[topic]
            case.restart()
            case.live = False  # To be opened anew, for those that joined since, too.
        if suspect:
            for reqid, request in self._sent.items():
                left = tuple(t for t in request.topics if t not in suspect)
                self._sent[reqid] = RecoveryRequest(request.query, left)

    # Requests and replies

    def next_request_at(self) -> float:
        """Return when :meth:`requests` will next have one, if all are resubscribed."""
        if not self.cases:
            return math.inf
        groups = self._groups()
        return _ready_at(groups[0]) if groups else math.inf

    def next_requests(self, now: float) -> list[RecoveryRequest]:
        """Return what to request now, by channel, trades first.

        Called only while all topics are resubscribed: that starts the deadline.
        """
        if not self.cases:
            self._all_resubscribed_at = math.inf
            return []
        self._all_resubscribed_at = min(self._all_resubscribed_at, now)
        groups = self._groups()
        if not groups or _ready_at(groups[0]) > now:
            return []
        return [
            request for cases in groups for request in self._make_requests(cases, now)
        ]

    def sent(self, reqid: int, request: RecoveryRequest) -> None:
        """Record the id under which a request was sent."""
        self._sent[reqid] = request

    def owns(self, reqid: int) -> bool:
        """Whether a request is one of recovery."""
        return reqid in self._sent

    def on_reply(
        self, reqid: int, data: bytes | None, unread: list[Unread] | None = None
    ) -> list[RecoveryResult]:
        """Record a reply, None if there was none; return the results of closed cases.

        A symbol of which a row cannot be read counts as not in the reply: its other rows
        are not all that was missed.

        Args:
            reqid: The id of the request.
            data: The rows, as JSON.
            unread: Receives what cannot be read.
        """
        request = self._sent.pop(reqid)
        unread = [] if unread is None else unread
        rows = None if data is None else _read(request.query, data, unread)
        results: list[RecoveryResult] = []
        for topic in request.topics:
            if (case := self.cases.get(topic)) is not None:
                found = None if rows is None else rows.get(topic.symbol)
                result = self._close_if_final(case.on_reply(found))
                if result is not None:
                    results.append(result)
        return results

    # Time

    def close_all(self) -> list[RecoveryResult]:
        """Close every case with what is known: no more will be received."""
        results = [case.result() for case in self.cases.values()]
        self.cases.clear()
        self.echoes.clear()
        return results

    @property
    def deadline(self) -> float:
        """When the next case is closed with what is known."""
        if not self.cases:
            return math.inf
        # The earlier a topic was restored, the earlier its deadline.
        first = min((case.restored_at for case in self._live()), default=math.inf)
        return self._deadline(first)

    def tick(self, now: float) -> list[RecoveryResult]:
        """Close the cases whose deadline has passed."""
        if self.deadline > now:
            return []
        late = [
            case for case in self._live() if self._deadline(case.restored_at) <= now
        ]
        return [self.close_case(case.topic) for case in late]

    def _deadline(self, restored_at: float) -> float:
        requested_at = max(self._all_resubscribed_at, restored_at)
        return min(requested_at + _CLOSE_AFTER, restored_at + _CLOSE_AT_LATEST)

    def _live(self) -> Iterable[RecoveryCase[Any]]:
        return (case for case in self.cases.values() if case.live)

    def _groups(self) -> list[list[RecoveryCase[Any]]]:
        """Group the cases that want a request by what one request can be about."""
        groups: dict[tuple[int, int], list[RecoveryCase[Any]]] = {}
        for case in self._live():
            if case.wants_request:
                topic = case.topic
                key = (_ORDER[topic.channel], topic.interval or 0)
                groups.setdefault(key, []).append(case)
        return [groups[key] for key in sorted(groups)]

    def _make_requests(
        self, cases: list[RecoveryCase[Any]], now: float
    ) -> list[RecoveryRequest]:
        made: list[RecoveryRequest] = []
        by_symbol = {case.topic.symbol: case.topic for case in cases}
        for query in self._query_for(cases, now)(by_symbol):
            topics = tuple(by_symbol[symbol] for symbol in query.symbols)
            made.append(RecoveryRequest(query, topics))
        for case in cases:
            case.request_sent()
        return made

    def _query_for(
        self, cases: list[RecoveryCase[Any]], now: float
    ) -> Callable[[Iterable[str]], list[Query[dict[str, Any]]]]:
        queries, topic = self._queries, cases[0].topic
        assert queries is not None, "cases are closed at once where recovery is off"
        match topic.channel:
            case Channel.TRADE:
                return lambda symbols: queries.trades(symbols, count=TRADES_MAX)
            case Channel.KLINE:
                interval = topic.interval
                assert interval is not None, "a kline topic has one"
                count = max(bars_since(case.outage, interval, now) for case in cases)
                count = min(count, KLINES_MAX)
                return lambda symbols: queries.klines(
                    symbols, interval=interval, count=count
                )
            case Channel.SNAPSHOT:
                return queries.snapshots
            case Channel.DEPTH:
                return queries.depths

    def _close_if_final(self, result: RecoveryResult | None) -> RecoveryResult | None:
        if result is not None:
            del self.cases[result.topic]
            if result.recovered and result.topic.channel is Channel.TRADE:
                self.echoes[result.topic] = Echoes(result.recovered)
        return result


def _read(
    query: Query[dict[str, Any]], data: bytes, unread: list[Unread]
) -> dict[str, Any] | None:
    try:
        rows = query.read(data, unread)
    except DecodeError:
        return None  # Like no reply: the status of the gap says so.
    lost = {canonical_or_same(one.name) for one in unread if one.lost}
    if "" in lost:  # It may have been a row of any symbol.
        return None
    return {symbol: found for symbol, found in rows.items() if symbol not in lost}


def _ready_at(cases: list[RecoveryCase[Any]]) -> float:
    # Topics that came back almost together share a request.
    first = min(case.ready_at for case in cases)
    return min(max(case.ready_at for case in cases), first + _COALESCE_WITHIN)
