"""Simulator: a QOS server with a simulated market, for tests and for trying out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from functools import partial
from typing import Self, get_args

from qos_async._deprecation import renamed_options
from qos_async._event_loop import running_loop
from qos_async._validation import as_whole, check_number, check_whole
from qos_async.config import Limits
from qos_async.sim.faults import ScheduledFault
from qos_async.sim.market import (
    MarketHoursOption,
    MarketPushSource,
    SimulatedMarket,
)
from qos_async.sim.server import ProtocolServer
from qos_async.sim.source import MarketData, PushSource, Row
from qos_async.sim.variants import Variants

__all__ = ["Simulator"]

_MAX_PORT = 65535
_MOST = {"speed": 10_000, "history": 604_800, "rate": 10_000}
"""Beyond these, to generate the trades keeps the event loop for minutes, or for ever."""
_LATEST_START = 4_102_444_800
"""The beginning of 2100: dates of Python end in 9999, and the market needs some ahead."""


class Simulator(ProtocolServer):
    """A QOS server on a loopback port that serves a simulated market.

    Use it as an async context manager, once. The same ``seed`` and ``start`` give the
    same trades, to the byte.

    Args:
        seed: Of everything random; any whole number.
        speed: Market seconds in a real second, up to 10,000; 0 stops the market's clock.
        plan: The limits of the key; what exceeds them is recorded in ``violations``.
        faults: Faults to inject, each with its time.
        variants: The behaviour where the protocol is undocumented.
        host: Address to listen on.
        port: 0 chooses a free one.
        key: The key to accept.
        start: The market's time on entering, in epoch seconds until the year 2100; None: the
            wall clock's.
        history: Market seconds of trades before that, in the hours of each market; up to
            a week.
        rate: Trades of each symbol in a market second, up to 10,000; None: 1 to 3, by
            symbol.
        push_interval: Real seconds between two rounds of pushes; what would be pushed
            several times in a round (a snapshot, a book, a kline) is pushed once.
        heartbeat_limit: Real seconds that a link may be without ``H``.
        open_universe: Whether unlisted symbols exist, with generated data.
        oldest_bars: The least number of klines of each interval before the trades; none
            is from before 1970.
        market_hours: ``"always"``: from the start on each market trades at any time, so
            that there is something to see, and has klines of that time although the
            calendar says that it is closed. ``"real"``: a market trades in its hours
            only, Hong Kong not at lunch, the US from 4:00 to 20:00. Before the start
            it is so in either case: no kline is from a weekend, a holiday (25 December
            and 1 January here) or the afternoon of a half day.

    Raises:
        ValueError: For an option of a wrong type or out of range; the message names
            the option and the value.
    """

    @renamed_options(beat="push_interval")
    def __init__(
        self,
        *,
        seed: int = 1,
        speed: float = 1.0,
        plan: Limits | None = None,
        faults: Iterable[ScheduledFault] = (),
        variants: Variants | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        key: str = "sim-0123456789abcdef",
        start: float | None = None,
        history: float = 900.0,
        rate: float | None = None,
        push_interval: float = 0.02,
        heartbeat_limit: float = 30.0,
        open_universe: bool = False,
        oldest_bars: int = 3000,
        market_hours: MarketHoursOption = "always",
    ) -> None:
        check = check_number
        speed, history = check("speed", speed), check("history", history)
        rate = check("rate", rate, above_zero=True, optional=True)
        for name, number in (("speed", speed), ("history", history), ("rate", rate)):
            _check_amount(name, number or 0)
        start = check("start", start, optional=True, most=_LATEST_START)
        seed = _check_seed(seed)
        super().__init__(
            plan=plan,
            faults=faults,
            variants=variants,
            host=host,
            port=check_whole("port", port, least=0, most=_MAX_PORT),
            key=key,
            seed=seed,
            push_interval=check("push_interval", push_interval, above_zero=True),
            heartbeat_limit=check("heartbeat_limit", heartbeat_limit, above_zero=True),
        )
        _check_hours(market_hours)
        self._make_market = partial(
            SimulatedMarket,
            seed,
            history=history,
            rate=rate,
            open_universe=open_universe,
            oldest_bars=check_whole("oldest_bars", oldest_bars, least=0),
            market_hours=market_hours,
        )
        self._speed, self._start = speed, start

    async def __aenter__(self) -> Self:
        self._entered_at = running_loop().time()
        if self._start is None:
            self._start = time.time()
        self.market = self._make_market(self._start)
        return await super().__aenter__()

    @property
    def now(self) -> float:
        """The market's time, in epoch seconds."""
        elapsed = asyncio.get_running_loop().time() - self._entered_at
        return (self._start or 0.0) + self._speed * elapsed

    def tape(self, symbol: str) -> list[Row]:
        """Return every trade of a symbol until now as rows of the wire, oldest first.

        Raises:
            KeyError: If the symbol is unknown.
        """
        return self.market.trades(symbol, self.now, self.market.count(symbol, self.now))

    def _sources(self) -> tuple[MarketData, PushSource]:
        return self.market, MarketPushSource(self.market)


def _check_amount(name: str, number: float) -> None:
    if number > _MOST[name]:
        raise ValueError(
            f"{name} must be at most {_MOST[name]:,}, not {number!r}: the trades of so "
            "much market time take too long to generate"
        )


def _check_seed(seed: object) -> int:
    whole = as_whole(seed)
    if whole is None:
        raise ValueError(f"seed must be a whole number, not {seed!r}")
    return whole


def _check_hours(market_hours: object) -> None:
    if market_hours not in get_args(MarketHoursOption):
        raise ValueError(
            f'market_hours must be "always" or "real", not {market_hours!r}'
        )
