"""Judge of deliveries behind a hub: each trade of the tape once, or inside a gap."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from qos_async import Client, Gap, Topic, Trade
from qos_async.enums import Channel
from qos_async.sim import Simulator
from tests.support.observations import trade_key, trade_key_of

__all__ = ["Consumer", "check_trades"]

_LATE = 3.0  # Seconds of trades that may be under way when the test ends.


class Consumer:
    """A client that reads the events of some symbols' trades, until it is closed."""

    def __init__(self, client: Client[Any], *symbols: str) -> None:
        self.client = client
        self.symbols = symbols
        self.events: list[Any] = []
        self.reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Subscribe, and read in the background."""
        self.subscription = self.client.watch_trades(*self.symbols)
        await self.subscription.ready()
        self.reading = asyncio.create_task(self._read())

    async def ended(self) -> None:
        """Wait until the iteration has ended, and raise its error."""
        assert self.reading is not None
        await self.reading

    async def stop(self) -> None:
        """Stop reading, and close the client."""
        if self.reading is not None:
            self.reading.cancel()
            await asyncio.gather(self.reading, return_exceptions=True)
        await self.client.aclose()

    async def _read(self) -> None:
        async for event in self.subscription.events():
            self.events.append(event)

    def gaps(self) -> list[Gap]:
        return [event for event in self.events if isinstance(event, Gap)]


def check_trades(consumer: Consumer, sim: Simulator, *, to_now: bool = True) -> None:
    """Check that a consumer has each trade once and in order, or was given a gap.

    Args:
        consumer: The consumer.
        sim: Has the tape.
        to_now: Whether that holds up to now; not in the midst of an outage.
    """
    for symbol in consumer.symbols:
        topic = Topic(Channel.TRADE, symbol)
        tape = [trade_key(row) for row in sim.tape(symbol)]
        place = _first_place(consumer.events, symbol, tape)
        may_skip = False
        for event in consumer.events:
            if isinstance(event, Gap) and event.topic == topic:
                may_skip = event.status != "filled"
            elif isinstance(event, Trade) and event.symbol == symbol:
                key = trade_key_of(event)
                if may_skip:
                    assert key in tape[place:], f"{symbol}: {event} is no trade to come"
                    place = tape.index(key, place)
                    may_skip = event.recovered
                assert key == tape[place], f"{symbol}: {event}, not {tape[place]}"
                place += 1
        missing = [
            row for row in sim.tape(symbol)[place:] if row["ts"] < sim.now - _LATE
        ]
        assert not (to_now and missing) or may_skip, (
            f"{symbol}: {len(missing)} trades never came"
        )


def _first_place(
    events: Sequence[Any], symbol: str, tape: Sequence[tuple[Any, ...]]
) -> int:
    """Return the place on the tape of the first trades that arrived."""
    trades = [e for e in events if isinstance(e, Trade) and e.symbol == symbol]
    until_gap = [trade_key_of(trade) for trade in trades[:4]]
    if not until_gap:
        return len(tape)
    places = [
        n for n in range(len(tape)) if list(tape[n : n + len(until_gap)]) == until_gap
    ] or [tape.index(until_gap[0])]
    return places[-1]
