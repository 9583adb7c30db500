"""Delivery checks: what each consumer received, against pushes and the simulator's tape."""

from __future__ import annotations

from collections import Counter, deque
from itertools import pairwise
from typing import Any

from qos_async import Dropped, Gap, Kline, Topic
from qos_async.enums import Channel
from qos_async.sim import Simulator
from tests.support.invariants import InvariantChecker, RecordingConsumer
from tests.support.observations import (
    ObservedLink,
    ReceivedPush,
    SubscriptionSpan,
    loop_time,
    push_values,
    short,
    stamp,
    tick_values,
    topic_of_event,
    trade_key,
    trade_key_of,
)

__all__ = ["check_deliveries"]

STAMP_TOLERANCE = 1e-5
MAX_HOLD = 16.0
"""Seconds after which a recovery is decided, whatever is known."""

Tapes = dict[str, list[tuple[Any, ...]]]


def check_deliveries(checker: InvariantChecker, sim: Simulator) -> None:
    """Check what every consumer received, once all have ended."""
    tapes: Tapes = {}
    for consumer in checker.consumers:
        for topic in consumer.spans:
            if topic.symbol not in tapes and topic.channel is Channel.TRADE:
                rows = () if "NOPE" in topic.symbol else sim.tape(topic.symbol)
                tapes[topic.symbol] = [trade_key(row) for row in rows]
        _check_consumer(checker, consumer, tapes, sim)


def _check_consumer(
    checker: InvariantChecker, consumer: RecordingConsumer, tapes: Tapes, sim: Simulator
) -> None:
    """Check the counters of a consumer, and each of its topics."""
    stats = consumer.sub.stats
    ticks = [e for _, e in consumer.events if not isinstance(e, (Gap, Dropped))]
    lost = sum(e.count for _, e in consumer.events if isinstance(e, Dropped))
    text = f"{consumer.name} received {len(ticks)}: {stats}"
    checker.check("I7", stats.delivered == len(ticks), text)
    adds_up = stats.received == stats.delivered + stats.dropped + stats.backlog
    checker.check("I7", adds_up, text)
    if type(consumer.sub._queue.buffer).__name__ != "_Conflating":
        text = f"{consumer.name} lost {lost}: {stats}"
        checker.check("I7", lost == stats.dropped, text)
    if consumer.final:
        _check_final_klines(checker, consumer, sim)
        return
    for topic in consumer.spans:
        tape = tapes[topic.symbol] if topic.channel is Channel.TRADE else None
        _TopicChecker(checker, consumer, topic, lossless=not stats.dropped).run(tape)
    topics = {topic_of_event(tick) for tick in ticks}
    checker.check("I9", topics <= consumer.spans.keys(), text)


def _check_final_klines(
    checker: InvariantChecker, consumer: RecordingConsumer, sim: Simulator
) -> None:
    klines = [e for _, e in consumer.events if isinstance(e, Kline)]
    for topic in consumer.spans:
        if "NOPE" in topic.symbol:
            continue
        own = [kline for kline in klines if topic_of_event(kline) == topic]
        starts = [kline.timestamp for kline in own]
        text = f"{consumer.name}: klines of {topic} begin at {starts}"
        ascending = all(a < b for a, b in pairwise(starts))
        checker.check("I9", ascending, text)
        assert topic.interval is not None
        rows = sim.market.klines(topic.symbol, topic.interval, 60, sim.now)
        expected = {row["ts"]: push_values(Channel.KLINE, row) for row in rows}
        for kline in own:
            values = tick_values(kline)
            same = expected.get(kline.timestamp, values) == values
            text = f"{consumer.name}: {kline} is {expected.get(kline.timestamp)}"
            checker.check("I10", same, text)


class _TopicChecker:
    """Checks the events of one topic that one consumer received."""

    def __init__(
        self,
        checker: InvariantChecker,
        consumer: RecordingConsumer,
        topic: Topic,
        *,
        lossless: bool,
    ) -> None:
        self._checker = checker
        self._consumer = consumer
        self._topic = topic
        self._lossless = lossless
        self._spans = consumer.spans[topic]
        self._events = [e for _, e in consumer.events if topic_of_event(e) == topic]
        self._pushes = self._match_pushes()

    def _check(self, rule: str, holds: object, text: str) -> None:
        where = f"{self._consumer.name}, {self._topic}"
        self._checker.check(rule, holds, f"{where}: {text}")

    def _match_pushes(self) -> dict[int, ReceivedPush]:
        """Return the push of each live tick, by its position among the events."""
        waiting: dict[tuple[int, Any], deque[ReceivedPush]] = {}
        for push in self._checker.received.get(self._topic, ()):
            key = stamp(push.at), push.values
            waiting.setdefault(key, deque()).append(push)
        found: dict[int, ReceivedPush] = {}
        for at, event in enumerate(self._events):
            if isinstance(event, Gap) or event.recovered:
                continue
            same = waiting.get((event.received_at // 1000, tick_values(event)))
            if not same:
                self._check(
                    "I7", False, f"{event} was never pushed, or is delivered twice"
                )
                continue
            found[at] = same.popleft()
        return found

    def run(self, tape: list[tuple[Any, ...]] | None) -> None:
        """Check everything; ``tape`` is given for trades only."""
        self._check_order()
        self._check_gaps()
        if self._lossless:
            self._check_completeness()
        if tape is not None:
            self._check_against(tape)

    def _check_order(self) -> None:
        numbers = [push.number for push in self._pushes.values()]
        ascending = all(a < b for a, b in pairwise(numbers))
        self._check("I9", ascending, f"pushes are delivered in the order {numbers}")
        stamps = [e.timestamp for e in self._events if not isinstance(e, Gap)]
        if any(one.until is not None for one in self._spans):
            return  # After subscribing again, fetched ticks may be old.
        falls = [(a, b) for a, b in pairwise(stamps) if a > b]
        self._check("I9", not falls, f"timestamps go back: {falls}")

    def _check_gaps(self) -> None:
        until = 0.0
        links = {link.number: link for link in self._checker.links}
        for at, event in enumerate(self._events):
            if isinstance(event, Gap):
                since, end = loop_time(event.since), loop_time(event.until)
                self._check("I8", event.reason, f"{event} has no reason")
                in_order = since <= end + STAMP_TOLERANCE
                self._check("I8", in_order, f"{event} ends before it begins")
                apart = since >= until - STAMP_TOLERANCE
                self._check("I8", apart, f"{short(event)} overlaps the previous one")
                until = end
                self._check_gap_position(at, since)
            elif at in self._pushes:
                self._check_gap_between_links(at, links, until)
        for span in self._spans:
            self._check_gap_since_last_link(span, until)

    def _check_gap_position(self, at: int, since: float) -> None:
        """Check that a gap is between the ticks before and after its time."""
        before = [h.at for n, h in self._pushes.items() if n < at]
        after = [h.at for n, h in self._pushes.items() if n > at]
        text = f"{short(self._events[at])} after {before[-3:]}, before {after[:3]}"
        self._check("I8", not before or max(before) <= since + STAMP_TOLERANCE, text)
        self._check("I8", not after or min(after) > since - STAMP_TOLERANCE, text)

    def _check_gap_between_links(
        self, at: int, links: dict[int, ObservedLink], until: float
    ) -> None:
        """Check that a gap precedes the first tick of a later link."""
        push = self._pushes[at]
        earlier = [
            other
            for number, other in self._pushes.items()
            if number < at and self._span(other) is self._span(push)
        ]
        if not earlier or earlier[-1].link >= push.link:
            return
        opened = links[push.link].opened_at
        text = f"{push} of a later link than {earlier[-1]}, and no gap between"
        covered = until >= opened - STAMP_TOLERANCE or self._came_within_gap(push, at)
        self._check("I8", covered, text)

    def _came_within_gap(self, push: ReceivedPush, at: int) -> bool:
        """Return whether it arrived on a short-lived link, within a longer gap."""
        gaps = [e for e in self._events[:at] if isinstance(e, Gap)]
        return bool(gaps) and loop_time(gaps[-1].until) >= push.at

    def _check_gap_since_last_link(self, span: SubscriptionSpan, until: float) -> None:
        """Check that a topic that was live before the last link had a gap."""
        checker = self._checker
        if span.until is not None and span.until < checker.settled_at:
            return
        if not checker.settled_at:
            return
        links = [one for one in checker.links if one.opened_at < checker.settled_at]
        last = links[-1]
        pushes = [one for one in self._pushes.values() if self._span(one) is span]
        was_live = any(push.link < last.number for push in pushes)
        reported = until >= last.opened_at - STAMP_TOLERANCE
        text = f"live before link {last.number}, and no gap since"
        self._check("I8", not was_live or reported, text)

    def _span(self, push: ReceivedPush) -> SubscriptionSpan | None:
        for span in self._spans:
            until = span.until
            if span.since <= push.at and (until is None or push.at <= until):
                return span
        return None

    def _check_completeness(self) -> None:
        delivered = {push.number for push in self._pushes.values()}
        recovered = Counter(
            tick_values(e)
            for e in self._events
            if not isinstance(e, Gap) and e.recovered
        )
        missing = []
        for push in self._checker.received.get(self._topic, ()):
            span = self._span(push)
            if span is None or push.number in delivered:
                continue
            if push.at in (span.since, span.until) or self._held_at_unsubscribe(
                push, span
            ):
                continue
            if recovered[push.values]:
                recovered[push.values] -= 1
            elif not self._superseded(push):
                missing.append(push)
        text = f"{len(missing)} pushes were not delivered: {missing[:3]}"
        self._check("I7", not missing, text)

    def _superseded(self, push: ReceivedPush) -> bool:
        """Return whether a newer state of a held kline was delivered instead."""
        if self._topic.channel is not Channel.KLINE:
            return False
        ticks = [e for e in self._events if not isinstance(e, Gap)]
        newer = any(
            tick.timestamp == push.values[0] and tick.volume >= push.values[2]
            for tick in ticks
        )
        gaps = [e for e in self._events if isinstance(e, Gap)]
        return newer and any(
            loop_time(gap.since) - STAMP_TOLERANCE
            <= push.at
            <= loop_time(gap.until) + MAX_HOLD
            for gap in gaps
        )

    def _held_at_unsubscribe(self, push: ReceivedPush, span: SubscriptionSpan) -> bool:
        """Return whether it was held when the topic was unsubscribed."""
        if span.until is None or span.until >= self._checker.closed_at:
            return False
        later = (h for h in self._pushes.values() if h.number > push.number)
        return not any(self._span(other) is span for other in later)

    def _check_against(self, tape: list[tuple[Any, ...]]) -> None:
        """Check trades against the simulator's: none invented, no run incomplete."""
        ticks = [e for e in self._events if not isinstance(e, Gap)]
        extra = Counter(map(trade_key_of, ticks)) - Counter(tape)
        self._check("I10", not extra, f"not on the tape, or too often: {extra}")
        for event in self._events:
            if isinstance(event, Gap):
                self._check_recovered(event)
        if self._lossless:
            for run in self._runs():
                position = _position(run, tape)
                text = f"{len(run)} trades are not consecutive on the tape: {position}"
                self._check("I10", isinstance(position, int), text)

    def _check_recovered(self, gap: Gap) -> None:
        """Check that the trades recovered after a gap are of its time."""
        if not self._lossless:
            return
        at = self._events.index(gap)
        until = gap.until.timestamp()
        for event in self._events[at + 1 : at + 1 + gap.recovered]:
            if isinstance(event, Gap) or not event.recovered:
                continue
            # No lower bound: _check_order and the tape exclude trades delivered before.
            inside = event.timestamp <= until + 1.5
            self._check("I10", inside, f"{event} is not of {short(gap)}")

    def _runs(self) -> list[list[tuple[Any, ...]]]:
        """Return the delivered trades, split where some may be missing."""
        runs: list[list[tuple[Any, ...]]] = [[]]
        since, span = 0.0, None
        for at, event in enumerate(self._events):
            if isinstance(event, Gap):
                if event.status != "filled":
                    runs.append([])
                    since = loop_time(event.until)
                continue
            push = self._pushes.get(at)
            if push is None and since:
                continue  # Fetched for a gap that is not filled.
            if push is not None and push.at < since - STAMP_TOLERANCE:
                continue  # Of a short-lived link.
            if push is not None:
                now = self._span(push)
                if now is not span and span is not None:
                    runs.append([])
                span, since = now, 0.0
            runs[-1].append(trade_key_of(event))
        return [run for run in runs if run]


def _position(run: list[Any], tape: list[Any]) -> int | str:
    """Return where a run is on the tape, or a text about the first difference."""
    size = len(run)
    positions = [at for at, one in enumerate(tape) if one == run[0]]
    for at in positions:
        if tape[at : at + size] == run:
            return at
    if not positions:
        return f"{run[0]} is not on it"
    best = max(positions, key=lambda at: _common_length(run, tape[at:]))
    common = _common_length(run, tape[best:])
    there = tape[best + common : best + common + 1]
    return f"after {common}: {run[common : common + 3]}, the tape has {there}"


def _common_length(one: list[Any], other: list[Any]) -> int:
    pairs = zip(one, other, strict=False)
    return next(
        (n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other))
    )
