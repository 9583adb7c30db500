"""Getting back what an outage missed."""

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
    make_case,
)
from qos_async._core.recovery.gaps import Outage
from qos_async._core.recovery.trades import Echoes
from qos_async.config import KLINES_MAX, TRADES_MAX
from qos_async.enums import Channel
from qos_async.errors import DecodeError
from qos_async.models import N
from qos_async.topics import Topic

__all__ = ["Recovery", "RecoveryRequest"]

_DECIDE_AFTER = 5.0
_COALESCE_WITHIN = 1.0
_DECIDE_WITHOUT_RESTORE = 15.0  # Should the subscriptions never be all restored.

# The server's memory is shortest for trades: they are asked for first.
_ORDER = (Channel.TRADE, Channel.KLINE, Channel.SNAPSHOT, Channel.DEPTH)


class RecoveryRequest(Struct, frozen=True):
    """What to ask the server about some topics."""

    query: Query[dict[str, Any]]
    topics: tuple[Topic, ...]


class Recovery(Generic[N]):
    """Asks for what topics missed, and holds their live ticks back until it is decided.

    Nothing is asked before all subscriptions are restored; then one question for each
    channel and interval. Five seconds after that, whatever is known decides.

    Attributes:
        cases: The topics that are live again and not decided.
        echoes: Recovered trades that may be pushed after all, by topic. Always the same
            object, so that it may be looked at for each tick.
    """

    def __init__(self, queries: Queries[N]) -> None:
        self.cases: dict[Topic, RecoveryCase[Any]] = {}
        self.echoes: dict[Topic, Echoes] = {}
        self._queries = queries
        self._sent: dict[int, RecoveryRequest] = {}
        self._all_resubscribed_at = math.inf

    @property
    def held(self) -> int:
        """How many ticks are held back now."""
        return sum(
            len(c.held) + len(c.held_earlier) for c in tuple(self.cases.values())
        )

    # Topics

    def open_case(
        self, topic: Topic, outage: Outage, tail: Sequence[Any], now: float
    ) -> bool:
        """Open a case for a topic that is live again, or take up the one there is.

        Returns:
            Whether that is news: it may be told twice, by a tick and by the server's yes.
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
        """Hold a live tick back; gives the decision if that one brings it."""
        return self._close_if_decided(self.cases[topic].hold(tick))

    def is_echo(self, topic: Topic, tick: Any) -> bool:
        """Whether a push was delivered already, as a recovered trade."""
        echoes = self.echoes.get(topic)
        if echoes is None:
            return False
        echoed = echoes.matches(tick)
        if not echoes:
            del self.echoes[topic]
        return echoed

    def remove(self, topics: Iterable[Topic]) -> list[int]:
        """Forget topics that nobody watches any more.

        Returns:
            The ids of questions that nobody is interested in any more.
        """
        for topic in topics:
            self.cases.pop(topic, None)
            self.echoes.pop(topic, None)
        idle = [
            reqid
            for reqid, question in self._sent.items()
            if self.cases.keys().isdisjoint(question.topics)
        ]
        for reqid in idle:
            del self._sent[reqid]
        return idle

    def link_down(self) -> list[int]:
        """Keep the cases for the next link.

        Returns:
            The ids of all questions: they are put anew on the next link.
        """
        asked = list(self._sent)
        self._sent.clear()
        self._all_resubscribed_at = math.inf
        for case in self.cases.values():
            case.restart()
            case.live = False
            case.restored_at = math.inf
        return asked

    def suspended(self, seconds: float) -> None:
        """Record that all outages are that much older than the clock says."""
        for case in self.cases.values():
            case.outage = case.outage.shifted_back(seconds)

    def mark_suspect(self, topics: Iterable[Topic]) -> None:
        """Record that topics may have missed something again, on the same link.

        What was asked about them before does not count: the hole may be after it. But
        the time in which they are decided does, or it might never come.
        """
        doubted = self.cases.keys() & topics
        for topic in doubted:
            case = self.cases[topic]
            case.restart()
            case.live = False  # To be begun anew: for those, too, who joined since.
        if doubted:
            for reqid, question in self._sent.items():
                left = tuple(t for t in question.topics if t not in doubted)
                self._sent[reqid] = RecoveryRequest(question.query, left)

    # Questions and answers

    def all_resubscribed(self, now: float) -> None:
        """Record that all subscriptions are restored at ``now`` or were before."""
        self._all_resubscribed_at = (
            min(self._all_resubscribed_at, now) if self.cases else math.inf
        )

    def next_request_at(self) -> float:
        """Tell when :meth:`questions` will next have one, if all is restored."""
        groups = self._groups()
        return _ready_at(groups[0]) if groups else math.inf

    def requests(self, now: float) -> list[RecoveryRequest]:
        """Give what is to be asked now, channel by channel, trades first."""
        groups = self._groups()
        if not groups or _ready_at(groups[0]) > now:
            return []
        return [
            question for cases in groups for question in self._make_requests(cases, now)
        ]

    def sent(self, reqid: int, question: RecoveryRequest) -> None:
        """Record under which id a question was asked."""
        self._sent[reqid] = question

    def owns(self, reqid: int) -> bool:
        """Whether a request asked a question of ours."""
        return reqid in self._sent

    def on_reply(self, reqid: int, data: bytes | None) -> list[RecoveryResult]:
        """Take an answer in; None if there was none."""
        question = self._sent.pop(reqid)
        rows = None if data is None else _read(question.query, data)
        decided: list[RecoveryResult | None] = []
        for topic in question.topics:
            if (case := self.cases.get(topic)) is not None:
                found = None if rows is None else rows.get(topic.symbol)
                decided.append(self._close_if_decided(case.on_reply(found)))
        return [healing for healing in decided if healing is not None]

    # Time

    def close_all(self) -> list[RecoveryResult]:
        """Decide everything with what there is: no more will come."""
        healings = [case.close() for case in self.cases.values()]
        self.cases.clear()
        self.echoes.clear()
        return healings

    @property
    def deadline(self) -> float:
        """When whatever is known decides the next case."""
        # The earlier a topic was restored, the earlier it is due.
        first = min((case.restored_at for case in self._live()), default=math.inf)
        return self._deadline(first)

    def tick(self, now: float) -> list[RecoveryResult]:
        """Decide what has waited too long."""
        if self.deadline > now:
            return []
        late = [
            case for case in self._live() if self._deadline(case.restored_at) <= now
        ]
        healings = [case.close() for case in late]
        for healing in healings:
            self._close_if_decided(healing)
        return healings

    def _deadline(self, restored_at: float) -> float:
        asked_at = max(self._all_resubscribed_at, restored_at)
        return min(asked_at + _DECIDE_AFTER, restored_at + _DECIDE_WITHOUT_RESTORE)

    def _live(self) -> Iterable[RecoveryCase[Any]]:
        return (case for case in self.cases.values() if case.live)

    def _groups(self) -> list[list[RecoveryCase[Any]]]:
        """Group the cases that have a question by what one question can be about."""
        groups: dict[tuple[int, int], list[RecoveryCase[Any]]] = {}
        for case in self._live():
            if case.wants_request:
                topic = case.topic
                key = (_ORDER.index(topic.channel), topic.interval or 0)
                groups.setdefault(key, []).append(case)
        return [groups[key] for key in sorted(groups)]

    def _make_requests(
        self, cases: list[RecoveryCase[Any]], now: float
    ) -> list[RecoveryRequest]:
        found: list[RecoveryRequest] = []
        by_symbol = {case.topic.symbol: case.topic for case in cases}
        for query in self._query_for(cases, now)(by_symbol):
            topics = tuple(by_symbol[symbol] for symbol in query.symbols)
            found.append(RecoveryRequest(query, topics))
        for case in cases:
            case.request_sent()
        return found

    def _query_for(
        self, cases: list[RecoveryCase[Any]], now: float
    ) -> Callable[[Iterable[str]], list[Query[dict[str, Any]]]]:
        queries, head = self._queries, cases[0].topic
        match head.channel:
            case Channel.TRADE:
                return lambda symbols: queries.trades(symbols, count=TRADES_MAX)
            case Channel.KLINE:
                interval = head.interval
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

    def _close_if_decided(
        self, healing: RecoveryResult | None
    ) -> RecoveryResult | None:
        if healing is not None:
            del self.cases[healing.topic]
            if healing.recovered and healing.topic.channel is Channel.TRADE:
                self.echoes[healing.topic] = Echoes(healing.recovered)
        return healing


def _read(query: Query[dict[str, Any]], data: bytes) -> dict[str, Any] | None:
    try:
        return query.read(data)
    except DecodeError:
        return None  # As good as no answer; the gap says so.


def _ready_at(cases: list[RecoveryCase[Any]]) -> float:
    # Topics that came back almost together share a question.
    first = min(case.ready_at for case in cases)
    return min(max(case.ready_at for case in cases), first + _COALESCE_WITHIN)
