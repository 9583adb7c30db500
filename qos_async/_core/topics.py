"""What can be subscribed to."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import TYPE_CHECKING, TypeAlias

from msgspec import Struct
from msgspec.structs import force_setattr

from qos_async.enums import Channel, Interval
from qos_async.models import Depth, Kline, N, Snapshot, Trade
from qos_async.symbols import canonical

__all__ = ["CHANNELS", "LETTERS", "AnyTick", "Topic", "in_order", "topic_of"]

AnyTick: TypeAlias = Snapshot[N] | Trade[N] | Depth[N] | Kline[N]

CHANNELS: dict[type[object], Channel] = {
    Snapshot: Channel.SNAPSHOT,
    Trade: Channel.TRADE,
    Depth: Channel.DEPTH,
    Kline: Channel.KLINE,
}
LETTERS = {
    Channel.SNAPSHOT: "S",
    Channel.TRADE: "T",
    Channel.DEPTH: "D",
    Channel.KLINE: "K",  # Section 5.5.1 says D; every example and SDK says K.
}


class Topic(Struct, frozen=True, order=True, cache_hash=True):
    """One symbol on one channel; for klines, at one interval.

    ``Topic("trade", "US:AAPL")``, ``Topic("kline", "CF:BTCUSDT", "1m")``.

    Attributes:
        channel: What kind of ticks come.
        symbol: Canonical, such as ``"US:AAPL"``.
        interval: How long the klines are; None on the other channels.

    Raises:
        ValueError: For an unknown channel, a malformed symbol, a kline topic without
            a known interval, or an interval on another channel.
    """

    channel: Channel
    symbol: str
    interval: Interval | None = None

    if TYPE_CHECKING:  # What it takes is wider than what it holds.

        def __init__(
            self,
            channel: Channel | str,
            symbol: str,
            interval: Interval | str | None = None,
        ) -> None: ...

    def __post_init__(self) -> None:
        force_setattr(self, "channel", _channel(self.channel))
        force_setattr(self, "symbol", canonical(self.symbol))
        if self.channel is Channel.KLINE:
            if self.interval is None:
                raise ValueError(
                    f'a kline topic needs an interval: Topic("kline", "{self.symbol}", "1m")'
                )
            force_setattr(self, "interval", Interval.parse(self.interval))
        elif self.interval is not None:
            raise ValueError(f"a {self.channel} topic has no interval")

    def __str__(self) -> str:
        tail = "" if self.interval is None else f" {self.interval.short}"
        return f"{self.channel} {self.symbol}{tail}"


_parts = attrgetter("channel", "symbol", "interval")


def in_order(topics: Iterable[Topic]) -> list[Topic]:
    """Sort topics, many times faster than they compare themselves."""
    return sorted(topics, key=_parts)


def topic_of(push: AnyTick[N]) -> Topic:
    """Name the topic that a push belongs to."""
    interval = push.interval if isinstance(push, Kline) else None
    return Topic(CHANNELS[type(push)], push.symbol, interval)


def _channel(name: str) -> Channel:
    try:
        return Channel(name)
    except ValueError:
        allowed = ", ".join(Channel)
        raise ValueError(
            f"unknown channel {name!r}: expected one of {allowed}"
        ) from None
