"""What has happened in a run. Time is an argument, in seconds of a steady clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TypeAlias

from msgspec import Struct

from qos_async import (
    Channel,
    Depth,
    Gap,
    Kline,
    LinkState,
    Snapshot,
    StateChange,
    Topic,
    Trade,
)

__all__ = ["AnyTick", "Outage", "Tally", "channel_of", "topic_of"]

AnyTick: TypeAlias = Snapshot | Trade | Depth | Kline

_CHANNELS: dict[type[object], Channel] = {
    Snapshot: Channel.SNAPSHOT,
    Trade: Channel.TRADE,
    Depth: Channel.DEPTH,
    Kline: Channel.KLINE,
}


class Outage(Struct):
    """A time without the link, and what was not live again yet.

    Attributes:
        reason: Why the link ended.
        lost_at: When.
        back_at: When the next link was open; None: not yet.
        healed_at: When everything was live again; None: not yet.
        missing: What is not live yet.
    """

    reason: str
    lost_at: float
    missing: set[Topic]
    back_at: float | None = None
    healed_at: float | None = None


class Tally:
    """Counts ticks, and keeps track of what is live.

    Attributes:
        topics: What is watched.
        ticks: By channel.
        symbols: Those that ticked.
        gaps: By status.
        recovered: Ticks that were fetched after outages.
        dropped: Ticks that this program was too slow for.
        outages: In order.
        live: The topics that are.
        change: The newest move of the link.
        frames_sent: By the client.
        breaches: What the simulator has against the client, in words.
    """

    def __init__(self, topics: Iterable[Topic]) -> None:
        self.topics = frozenset(topics)
        self.ticks: Counter[Channel] = Counter()
        self.symbols: set[str] = set()
        self.gaps: Counter[str] = Counter()
        self.recovered = 0
        self.dropped = 0
        self.outages: list[Outage] = []
        self.live: set[Topic] = set()
        self.change = StateChange(LinkState.IDLE)
        self.frames_sent = 0
        self.breaches: list[str] = []

    def tick(self, tick: AnyTick, now: float) -> None:
        """Count a tick; its topic is live."""
        self.ticks[channel_of(tick)] += 1
        self.symbols.add(tick.symbol)
        if self.change.state is LinkState.OPEN and len(self.live) < len(self.topics):
            self._enliven(topic_of(tick), now)

    def gap(self, gap: Gap, now: float) -> None:
        """Count a gap; its topic is live again."""
        self.gaps[gap.status] += 1
        self.recovered += gap.recovered
        self._enliven(gap.topic, now)

    def drop(self, count: int) -> None:
        """Count ticks that were dropped because this program was too slow."""
        self.dropped += count

    def move(self, change: StateChange, now: float) -> None:
        """Follow the link."""
        if self.change.state is LinkState.OPEN and change.state is LinkState.BACKOFF:
            self.outages.append(Outage(change.reason, now, set(self.live)))
            self.live.clear()
        elif change.state is LinkState.OPEN:
            for outage in self.outages:
                if outage.back_at is None:
                    outage.back_at = now
        self.change = change

    @property
    def progress(self) -> str:
        """The link in one phrase."""
        state = self.change.state
        if state is LinkState.OPEN:
            return f"open, {len(self.live)} of {len(self.topics)} topics live"
        return "lost" if state is LinkState.BACKOFF else str(state)

    def _enliven(self, topic: Topic, now: float) -> None:
        self.live.add(topic)
        for outage in self.outages:
            outage.missing.discard(topic)
            if not outage.missing and outage.healed_at is None:
                outage.healed_at = now


def channel_of(tick: AnyTick) -> Channel:
    """Name the channel a tick came on."""
    return _CHANNELS[type(tick)]


def topic_of(tick: AnyTick) -> Topic:
    """Name the topic a tick belongs to."""
    interval = tick.interval if isinstance(tick, Kline) else None
    return Topic(channel_of(tick), tick.symbol, interval)
