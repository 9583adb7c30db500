"""What the demo shows, and when."""

from __future__ import annotations

from msgspec import Struct

from qos_async import Limits, Timing, Topic

__all__ = ["SYMBOLS", "Script"]

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
_INTERVAL = "1m"
_FULL = 12.0
"""From this many seconds on, everything fits at the pace of the free plan."""
_CUT = 0.4


class Script(Struct, frozen=True, kw_only=True):
    """A run of the demo.

    Attributes:
        seconds: How long it is.
        seed: Of the market.
        speed: Market seconds in a second.
    """

    seconds: float = 15.0
    seed: int = 1
    speed: float = 1.0

    @property
    def topics(self) -> tuple[Topic, ...]:
        """Every channel of every symbol."""
        klines = (Topic("kline", symbol, _INTERVAL) for symbol in SYMBOLS)
        others = (
            Topic(channel, symbol)
            for channel in ("snapshot", "trade", "depth")
            for symbol in SYMBOLS
        )
        return (*others, *klines)

    @property
    def hurry(self) -> float:
        """By how much the waits are shortened; 1 where everything fits as it is."""
        return 1.0 if self.seconds >= _FULL else self.seconds / _FULL / 2

    @property
    def limits(self) -> Limits:
        """The plan, of the simulator and of the client."""
        return Limits(command_interval=Limits().command_interval * self.hurry)

    @property
    def timing(self) -> Timing:
        """How patient the client is."""
        return Timing(backoff_initial=Timing().backoff_initial * self.hurry)

    @property
    def cut_at(self) -> float:
        """When the link is cut: all is live by then, and again well before the end."""
        return _CUT * self.seconds
