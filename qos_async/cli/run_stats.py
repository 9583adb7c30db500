"""Statistics of a run: ticks, gaps and outages. Times are seconds of a monotonic clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec
from msgspec import Struct

from qos_async import Channel, Gap, LinkState, StateChange, Topic
from qos_async._wording import plural
from qos_async.cli.formatting import state_word
from qos_async.models import AnyTick

__all__ = ["LinkOutage", "RunStats", "summary_rows"]


class LinkOutage(Struct):
    """A time without the link, until all topics were live again.

    Attributes:
        reason: Why the link was lost.
        lost_at: When it was lost.
        missing: Topics that were live before and are not yet live again.
        back_at: When the next link was open; None: not yet.
        recovered_at: When all topics were live again; None: not yet.
        recovered: Ticks that were recovered, by channel.
    """

    reason: str
    lost_at: float
    missing: set[Topic]
    back_at: float | None = None
    recovered_at: float | None = None
    recovered: Counter[Channel] = msgspec.field(default_factory=Counter[Channel])

    def __str__(self) -> str:
        """How it ended: ``live again after 2.1 s, 16 trades recovered``."""
        if self.back_at is None:
            return "the link was not back before the end"
        if self.recovered_at is None:
            missing = plural(len(self.missing), "topic")
            back = self.back_at - self.lost_at
            return f"link back after {back:.1f} s, {missing} not live before the end"
        counts = [
            plural(count, channel) for channel, count in self.recovered.most_common()
        ]
        found = f", {' and '.join(counts)} recovered" if counts else ""
        return f"live again after {self.recovered_at - self.lost_at:.1f} s{found}"


class RunStats:
    """Counts ticks and gaps, and follows which topics are live.

    Attributes:
        topics: The subscribed topics.
        ticks: By channel.
        symbols: Those with at least one tick.
        gaps: By status.
        recovered: Ticks recovered after outages.
        dropped: Ticks dropped because this program was too slow.
        outages: In order.
        live: The live topics.
        change: The newest state of the link.
        frames_sent: By the client, over the stream.
        violations: Rules of the protocol that the client broke, as the simulator
            reports them.
    """

    def __init__(self, topics: Iterable[Topic]) -> None:
        self.topics = frozenset(topics)
        self.ticks: Counter[Channel] = Counter()
        self.symbols: set[str] = set()
        self.gaps: Counter[str] = Counter()
        self.recovered = 0
        self.dropped = 0
        self.outages: list[LinkOutage] = []
        self.live: set[Topic] = set()
        self.change = StateChange(LinkState.IDLE)
        self.frames_sent = 0
        self.violations: list[str] = []

    def on_tick(self, tick: AnyTick, now: float) -> None:
        """Count a tick; its topic is live."""
        self.ticks[tick.channel] += 1
        self.symbols.add(tick.symbol)
        # While the link is lost, buffered ticks still arrive: their topics are not live.
        if self.change.state is LinkState.OPEN and len(self.live) < len(self.topics):
            self._mark_live(tick.topic, now)

    def on_gap(self, gap: Gap, now: float) -> None:
        """Count a gap; its topic is live again."""
        self.gaps[gap.status] += 1
        self.recovered += gap.recovered
        if gap.recovered and self.outages:
            self.outages[-1].recovered[gap.topic.channel] += gap.recovered
        self._mark_live(gap.topic, now)

    def on_dropped(self, count: int) -> None:
        """Count dropped ticks."""
        self.dropped += count

    def on_state(self, change: StateChange, now: float) -> None:
        """Follow the link: an open link that is lost begins an outage."""
        if self.change.state is LinkState.OPEN and change.state is LinkState.BACKOFF:
            self.outages.append(LinkOutage(change.reason, now, set(self.live)))
            self.live.clear()
        elif change.state is LinkState.OPEN:
            for outage in self.outages:
                if outage.back_at is None:
                    outage.back_at = now
        self.change = change

    @property
    def progress(self) -> str:
        """The state of the link and the number of live topics."""
        state = self.change.state
        if state is LinkState.OPEN:
            return f"open, {len(self.live)} of {len(self.topics)} topics live"
        return state_word(state)

    def _mark_live(self, topic: Topic, now: float) -> None:
        self.live.add(topic)
        for outage in self.outages:
            outage.missing.discard(topic)
            if not outage.missing and outage.recovered_at is None:
                outage.recovered_at = now


def summary_rows(stats: RunStats, elapsed: float) -> Iterator[tuple[str, str]]:
    """Yield the rows of a summary: a label (empty: of the row before) and its text."""
    total = stats.ticks.total()
    symbols = plural(len(stats.symbols), "symbol")
    yield "ran", f"{elapsed:.1f} s, {plural(total, 'tick')} of {symbols}"
    for channel in Channel:
        yield channel, plural(stats.ticks[channel], "tick")
    yield "outages", str(len(stats.outages) or "none")
    for outage in stats.outages:
        yield "", f"{outage} ({outage.reason})"
    statuses = ", ".join(f"{n} {status}" for status, n in sorted(stats.gaps.items()))
    yield "gaps", f"{statuses or 'none'}; {plural(stats.recovered, 'tick')} recovered"
    if stats.dropped:
        yield "dropped", f"{plural(stats.dropped, 'tick')}: this program was too slow"
    count = len(stats.violations)
    breaches = f"{count} {'breach' if count == 1 else 'breaches'} of the protocol"
    yield "sent", f"{plural(stats.frames_sent, 'frame')}, {breaches}"
    for violation in stats.violations:
        yield "", violation
