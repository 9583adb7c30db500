"""Scenario of ``qos demo``: symbols, topics, and the time of the outage."""

from __future__ import annotations

from msgspec import Struct

from qos_async import Limits, Timing, Topic

__all__ = ["SYMBOLS", "Scenario"]

SYMBOLS = (
    "US:AAPL",
    "US:TSLA",
    "HK:700",
    "SH:600519",
    "SZ:000001",
    "CF:BTCUSDT",
    "CF:ETHUSDT",
    "FX:EURUSD",
    "IX:HSI",
    "CM:XAUUSD",
)
"""Ten symbols, as many as the free plan allows, of eight markets."""
_INTERVAL = "1m"
_FULL_LENGTH = 12.0
"""Seconds from which on a run needs no shorter waits than those of the free plan."""
_OUTAGE_AT = 0.4
"""When the link is cut, as a fraction of the run."""


class Scenario(Struct, frozen=True, kw_only=True):
    """One run of the demo.

    Attributes:
        seconds: Length of the run.
        seed: Seed of the simulated market.
        speed: Market seconds per second.
    """

    seconds: float = 15.0
    seed: int = 1
    speed: float = 1.0

    @property
    def topics(self) -> tuple[Topic, ...]:
        """All channels of all symbols."""
        klines = (Topic("kline", symbol, _INTERVAL) for symbol in SYMBOLS)
        others = (
            Topic(channel, symbol)
            for channel in ("snapshot", "trade", "depth")
            for symbol in SYMBOLS
        )
        return (*others, *klines)

    @property
    def time_scale(self) -> float:
        """Factor of the plan's and the client's waits; below 1 in a short run."""
        if self.seconds >= _FULL_LENGTH:
            return 1.0
        return self.seconds / _FULL_LENGTH / 2

    @property
    def limits(self) -> Limits:
        """The plan, of the simulator and of the client."""
        return Limits(command_interval=Limits().command_interval * self.time_scale)

    @property
    def timing(self) -> Timing:
        """The client's timing."""
        return Timing(backoff_initial=Timing().backoff_initial * self.time_scale)

    @property
    def outage_at(self) -> float:
        """Seconds until the link is cut: all topics are live, and will be again."""
        return _OUTAGE_AT * self.seconds
