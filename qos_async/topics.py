"""Topics: what can be subscribed to."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct
from msgspec.structs import force_setattr

from qos_async.enums import Channel, Interval
from qos_async.symbols import canonical

__all__ = ["Topic", "WireTopic", "in_order"]


class Topic(Struct, frozen=True, order=True, cache_hash=True):
    """One symbol on one channel; for klines, at one interval.

    ``Topic("trade", "US:AAPL")``, ``Topic("kline", "CF:BTCUSDT", "1m")``.

    Attributes:
        channel: The kind of its ticks.
        symbol: Canonical, such as ``"US:AAPL"``.
        interval: The length of the klines; None on the other channels.

    Raises:
        ValueError: For an unknown channel, a malformed symbol, a kline topic without
            a known interval, or an interval on another channel.
    """

    channel: Channel
    symbol: str
    interval: Interval | None = None

    if TYPE_CHECKING:  # The constructor accepts more types than the fields hold.

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


class WireTopic(NamedTuple):
    """A topic in the terms of the protocol (chapter 5); equal to the plain tuple.

    Attributes:
        letter: ``S``, ``T``, ``D`` or ``K``.
        symbol: Canonical.
        kt: The interval's number; None except for ``K``.
    """

    letter: str
    symbol: str
    kt: int | None = None


_parts = attrgetter("channel", "symbol", "interval")


def in_order(topics: Iterable[Topic]) -> list[Topic]:
    """Return topics sorted; many times faster than ``sorted`` by their own order."""
    return sorted(topics, key=_parts)


def _channel(name: str) -> Channel:
    try:
        return Channel(name)
    except ValueError:
        allowed = ", ".join(Channel)
        raise ValueError(
            f"unknown channel {name!r}: expected one of {allowed}"
        ) from None
