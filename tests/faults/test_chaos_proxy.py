"""The client and the simulator with a network between them that does harm."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
import trustme

from qos_async import Client, Gap, Limits, LinkState, Subscription, Timing, Trade
from qos_async.sim import Simulator
from tests.support.chaos_proxy import ChaosProxy
from tests.support.memory_transport import KEY

BTC = "CF:BTCUSDT"
PLAN = Limits(command_interval=0.01, http_requests=1000, http_period=1.0)
CALM = Timing(
    heartbeat=2.0,
    silence=5.0,
    request_timeout=4.0,
    backoff_initial=0.02,
    backoff_max=0.1,
    close_timeout=0.3,
)
NERVOUS = Timing(
    heartbeat=0.2,
    silence=0.5,
    request_timeout=0.5,
    connect_timeout=0.5,
    backoff_initial=0.02,
    backoff_max=0.1,
    close_timeout=0.3,
)

Row = tuple[int, Decimal, Decimal]


class Trial:
    """A client that watches trades through a proxy, and the events it received."""

    def __init__(
        self, sim: Simulator, proxy: ChaosProxy, client: Client, sub: Subscription[Any]
    ) -> None:
        self.sim, self.proxy, self.client, self.sub = sim, proxy, client, sub
        self.received: list[Any] = []

    @property
    def gaps(self) -> list[Gap]:
        return [one for one in self.received if isinstance(one, Gap)]

    async def listen(self, most: int = 8, *, gaps: int = 0) -> None:
        """Receive ``most`` more live trades, and ``gaps`` gaps in total."""
        async with asyncio.timeout(30):
            async for event in self.sub.events():
                self.received.append(event)
                most -= isinstance(event, Trade) and not event.recovered
                if most <= 0 and len(self.gaps) >= gaps:
                    return

    def judge(self) -> None:
        """Check that trades are in the order of the tape, and each hole is in a gap."""
        tape = [_row(r["p"], r["v"], r["ts"]) for r in self.sim.tape(BTC)]
        live = [t.received_at for t in self.trades if not t.recovered]
        at, since = -1, live[0]
        for trade in self.trades:
            row = _row(trade.price, trade.size, trade.timestamp)
            found = tape.index(row, at + 1)  # A ValueError: it came twice.
            until = trade.received_at or min(t for t in live if t > since)
            if at >= 0 and found > at + 1:
                assert self._is_told(since, until), (trade, self.gaps)
            at, since = found, trade.received_at or since

    @property
    def trades(self) -> list[Trade[Decimal]]:
        return [one for one in self.received if isinstance(one, Trade)]

    def _is_told(self, since: int, until: int) -> bool:
        return any(
            gap.status != "filled"
            and _ns(gap.since) <= until
            and _ns(gap.until) >= since
            for gap in self.gaps
        )


def _row(price: object, size: object, timestamp: int) -> Row:
    return timestamp, Decimal(str(price)), Decimal(str(size))


def _ns(time: datetime) -> int:
    return int(time.timestamp() * 1e9)


@asynccontextmanager
async def trial(
    timing: Timing = CALM, *, authority: trustme.CA | None = None
) -> AsyncGenerator[Trial]:
    """Open client, proxy and simulator; see that nothing of them is left."""
    async with Simulator(plan=PLAN, rate=50.0, history=5.0, key=KEY) as sim:
        port = int(sim.http_url.rpartition(":")[2])
        async with _secured(port, authority) as inner, ChaosProxy(inner) as proxy:
            tls = "" if authority is None else "s"
            client = Client(
                KEY,
                http_url=f"http{tls}://127.0.0.1:{proxy.port}",
                stream_url=f"ws{tls}://127.0.0.1:{proxy.port}/ws",
                limits=PLAN,
                timing=timing,
                ssl=True if authority is None else _trusting(authority),
            )
            async with client, client.watch_trades(BTC) as sub:
                made = Trial(sim, proxy, client, sub)
                await made.listen()
                yield made
            async with asyncio.timeout(20):
                while proxy.connections or sim.connections:  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
        assert not sim.violations


@asynccontextmanager
async def _secured(port: int, authority: trustme.CA | None) -> AsyncGenerator[int]:
    if authority is None:
        yield port
        return
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with ChaosProxy(port, tls=context) as outer:
        yield outer.port


def _trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def latency(proxy: ChaosProxy) -> None:
    proxy.to_client.latency = proxy.to_server.latency = 0.15


def jitter(proxy: ChaosProxy) -> None:
    proxy.to_client.jitter = proxy.to_server.jitter = 0.1


def bandwidth(proxy: ChaosProxy) -> None:
    proxy.to_client.bandwidth = 20_000.0


def slicer(proxy: ChaosProxy) -> None:
    proxy.to_client.slicer = proxy.to_server.slicer = 1


def slow_close(proxy: ChaosProxy) -> None:
    proxy.to_client.slow_close = proxy.to_server.slow_close = 0.2


@pytest.mark.fault("T25")
@pytest.mark.parametrize("harm", [latency, jitter, bandwidth, slicer, slow_close])
async def test_a_slow_line_loses_no_link_and_no_trade(harm: Callable[..., None]):
    async with trial() as made:
        harm(made.proxy)
        answer = await made.client.fetch_snapshots(BTC, via="stream")
        assert [*answer] == [BTC]
        await made.listen()
        assert [*await made.client.fetch_snapshots(BTC)] == [BTC]
        made.judge()
        assert not made.gaps
        assert made.client.stats.links == 1
        made.proxy.clear()


@pytest.mark.fault("T25")
async def test_a_slow_close_does_not_keep_a_dead_link_alive():
    async with trial() as made:
        slow_close(made.proxy)
        made.sim.cut()
        await made.listen(gaps=1)
        made.judge()
        made.proxy.clear()


def down(proxy: ChaosProxy) -> None:
    proxy.down = True
    proxy.reset_peer()


def reset_peer(proxy: ChaosProxy) -> None:
    proxy.reset_peer()


def limit_data(proxy: ChaosProxy) -> None:
    proxy.to_client.limit_data = 1000


def limit_sent_data(proxy: ChaosProxy) -> None:
    proxy.to_server.limit_data = 0
    proxy.to_client.limit_data = 500


@pytest.mark.fault("T1", "T2", "T7")
@pytest.mark.parametrize("harm", [down, reset_peer, limit_data, limit_sent_data])
async def test_a_lost_line_is_a_gap_and_no_trade_is_delivered_twice(
    harm: Callable[..., None],
):
    async with trial() as made:
        harm(made.proxy)
        await lost(made)
        made.proxy.clear()
        await made.listen(gaps=1)
        assert len(made.gaps) == 1
        made.judge()
        assert made.client.state is LinkState.OPEN


async def lost(made: Trial) -> None:
    async with asyncio.timeout(20):
        async for change in made.client.states():
            if change.state is LinkState.BACKOFF:
                return


@pytest.mark.fault("T3", "T4")
async def test_a_black_hole_is_detected_and_its_late_bytes_are_ignored():
    async with trial(NERVOUS) as made:
        made.proxy.to_client.timeout = True
        await lost(made)
        made.proxy.clear()
        await made.listen(gaps=1)
        made.judge()


@pytest.mark.fault("T13")
async def test_a_dial_into_a_black_hole_times_out():
    async with trial(NERVOUS) as made:
        made.proxy.to_client.timeout = made.proxy.to_server.timeout = True
        made.proxy.reset_peer()
        async with asyncio.timeout(20):
            async for change in made.client.states():
                if "within 0.5 s" in change.reason:
                    break
        made.proxy.clear()
        await made.listen(gaps=1)
        made.judge()


@pytest.mark.fault("T21")
async def test_tls_ends_a_corrupted_line_before_a_price_is_wrong():
    async with trial(authority=trustme.CA()) as made:
        made.proxy.to_client.corrupt = 300
        await lost(made)
        made.proxy.clear()
        await made.listen(gaps=1)
        made.judge()


@pytest.mark.fault("T1")
async def test_short_lived_connections_lose_nothing_outside_of_gaps():
    async with trial() as made:
        for more in (0, 100, 400, 900):
            made.proxy.clear()
            made.proxy.to_client.limit_data = more
            await lost(made)
        made.proxy.clear()
        await made.listen(gaps=1)
        made.judge()
