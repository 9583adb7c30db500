"""Fixtures of the sweeps: a client, the simulator, and a check of what was delivered.

Everything runs in virtual time, over a network in memory, with the real aiohttp.
``check_deliveries`` compares the events with the simulator's tape: nothing twice, nothing
out of order, and nothing missing without a gap.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, TypeAlias

from qos_async import Client, Dropped, Gap, Limits, Timing, Trade
from qos_async.sim import Simulator
from qos_async.sim.source import Row
from qos_async.testing.virtual import WALL, SimLoop
from tests.support.memory_transport import KEY

__all__ = [
    "EFFORT",
    "LIMITS",
    "OTHER",
    "SYMBOL",
    "TIMING",
    "check_deliveries",
    "check_no_violations",
    "make_client",
    "points",
    "running_loop",
    "serve",
    "until",
]

EFFORT = int(os.environ.get("QOS_TEST_EFFORT", "1"))
"""1 in an ordinary run; from 10 on, sweeps visit every point."""

SYMBOL, OTHER = "US:AAPL", "HK:700"
_Key: TypeAlias = tuple[int, Decimal, Decimal | None]

LIMITS = Limits(command_interval=0.1, http_requests=10_000, http_period=1.0)
TIMING = Timing(
    heartbeat=4.0,
    silence=10.0,
    request_timeout=3.0,
    connect_timeout=4.0,
    backoff_initial=0.2,
    backoff_max=1.0,
    stable_after=20.0,
    close_timeout=1.0,
)


def running_loop() -> SimLoop:
    """Return the running loop."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimLoop)
    return loop


@asynccontextmanager
async def serve(**options: Any) -> AsyncGenerator[Simulator]:
    """Run a simulator with a trade a second, which closes silent links after 8 s."""
    given = {
        "start": WALL,
        "history": 10.0,
        "rate": 1.0,
        "push_interval": 0.25,
        "heartbeat_limit": 8.0,
        "key": KEY,
        "plan": LIMITS,
    }
    async with Simulator(**{**given, **options}) as sim:
        yield sim


def make_client(sim: Simulator, **options: Any) -> Client:
    """Return a client that connects by host name."""
    given = {
        "http_url": sim.http_url.replace("127.0.0.1", "localhost"),
        "stream_url": sim.stream_url.replace("127.0.0.1", "localhost"),
        "limits": LIMITS,
        "timing": TIMING,
    }
    return Client(KEY, **{**given, **options})


async def until(condition: Callable[[], object], within: float = 60.0) -> None:
    """Wait until a condition, evaluated every 0.05 s, is true."""
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110 - any condition, so no event to wait for
            await asyncio.sleep(0.05)


def points(count: int, *, every: int, offset: int) -> range:
    """Return every ``every``-th of ``range(count)``, or all at an effort of 10."""
    return range(count) if EFFORT >= 10 else range(offset % every, count, every)


def check_no_violations(sim: Simulator, *, lingering: bool = False) -> None:
    """Check that the client kept to the protocol and the plan.

    Args:
        sim: The simulator that it was connected to.
        lingering: Whether the server still held links that the client had given up.
    """
    excused = ("connections, the plan has", "no heartbeat") if lingering else ()
    found = [v for v in sim.violations if not any(word in v for word in excused)]
    assert found == []


def check_deliveries(
    events: Iterable[Any], sim: Simulator, symbol: str = SYMBOL
) -> None:
    """Check all events of one symbol against its tape.

    Trades can look alike, so every possible position on the tape is followed. The side
    is not compared: it may be that of a trade with the same key. After a gap that is
    not ``"filled"``, trades until its end may be missing.
    """
    tape = [_row(row) for row in sim.tape(symbol)]
    positions, newest, incomplete_until = {-1}, 0.0, 0.0
    for event in events:
        if isinstance(event, Gap) and event.topic.symbol == symbol:
            if event.status != "filled":
                incomplete_until = event.until.timestamp() + 1.0
        elif isinstance(event, Trade) and event.symbol == symbol:
            may_skip = newest <= incomplete_until  # Before the first tick, too.
            before, advance = positions, _anywhere if may_skip else _next
            positions = advance(positions, _key(event), tape)
            assert positions, f"{event} does not follow trade {before} of {len(tape)}"
            newest = event.timestamp
        else:
            assert not isinstance(event, Dropped)
    assert positions != {-1}, "no tick at all"


def _anywhere(positions: set[int], key: _Key, tape: list[_Key]) -> set[int]:
    low = min(positions) + 1
    return {at for at, other in enumerate(tape[low:], low) if other == key}


def _next(positions: set[int], key: _Key, tape: list[_Key]) -> set[int]:
    return {at + 1 for at in positions if at + 1 < len(tape) and tape[at + 1] == key}


def _key(trade: Trade[Any]) -> _Key:
    return trade.timestamp, trade.price, trade.size


def _row(row: Row) -> _Key:
    return row["ts"], Decimal(row["p"]), Decimal(row["v"])
