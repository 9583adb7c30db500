"""A recorder takes over: followers get one gap, filled, and each trade once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from qos_async import Gap, Interrupted, Limits, Trade
from qos_async.recordings import follow
from qos_async.sim import Simulator
from tests.support.nats_servers import NatsServer
from tests.support.record_process import RecordProcess
from tests.support.tape_judge import Consumer, check_trades

pytestmark = pytest.mark.slow

SYMBOLS = ("CF:BTCUSDT", "CF:ETHUSDT")


@pytest.fixture
async def sim() -> AsyncGenerator[Simulator]:
    plan = Limits(command_interval=0.2, http_requests=10_000)
    async with Simulator(seed=1, plan=plan, rate=4.0) as simulator:
        yield simulator


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


@asynccontextmanager
async def consumer(place: str) -> AsyncGenerator[Consumer]:
    """A follower of the trades."""
    async with follow(place) as client:
        made = Consumer(client, *SYMBOLS)
        await made.start()
        yield made
        await made.stop()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(40):
        while not condition():  # noqa: ASYNC110 - lists that others fill
            await asyncio.sleep(0.05)


def trades_behind_gaps(made: Consumer) -> dict[str, int]:
    """Return how many trades of each symbol followed its last gap."""
    count = dict.fromkeys(SYMBOLS, -1)
    for event in made.events:
        if isinstance(event, Gap):
            count[event.topic.symbol] = 0
        elif isinstance(event, Trade) and count[event.symbol] >= 0:
            count[event.symbol] += not event.recovered
    return count


def check(made: Consumer, sim: Simulator) -> None:
    """Check that each trade came once, and that each topic had one gap, filled."""
    assert sorted(gap.topic.symbol for gap in made.gaps()) == sorted(SYMBOLS)
    assert {gap.status for gap in made.gaps()} == {"filled"}
    assert any(gap.recovered for gap in made.gaps())
    assert [one.topic.symbol for one in made.events if isinstance(one, Interrupted)]
    check_trades(made, sim, to_now=False)


def record(sim: Simulator, place: str, *options: Any) -> RecordProcess:
    return RecordProcess(sim, *SYMBOLS, "-o", place, *options)


@pytest.mark.fault("N120")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_standby_fills_the_gap_of_the_holder_before_it(
    sim: Simulator, node: NatsServer, stream_name: str, number: signal.Signals
):
    place = f"{node.url}/{stream_name}"
    async with record(sim, place, "--lease", "2") as holder:
        await holder.line("2 topics to")
        async with (
            record(sim, place, "--lease", "2") as standby,
            consumer(place) as made,
        ):
            await standby.line("standby: waiting for the lease")
            await until(lambda: len(made.events) > 20)
            # It takes over so soon after SIGTERM that there may be nothing to recover.
            standby.send(signal.SIGSTOP)
            await holder.end(number)
            await asyncio.sleep(1.0)
            standby.send(signal.SIGCONT)
            await until(lambda: min(trades_behind_gaps(made).values()) > 3)
            check(made, sim)


@pytest.mark.fault("N120")
async def test_a_recorder_that_is_started_again_fills_its_own_gap(
    sim: Simulator, node: NatsServer, stream_name: str, tmp_path: Path
):
    place = f"{node.url}/{stream_name}"
    options = ("--spool", str(tmp_path / "spool"))
    async with record(sim, place, *options) as first:
        await first.line("2 topics to")
        async with consumer(place) as made:
            await until(lambda: len(made.events) > 20)
            await first.end(signal.SIGKILL)
            async with record(sim, place, *options):
                await until(lambda: min(trades_behind_gaps(made).values()) > 3)
                check(made, sim)
