"""A server that refuses frames or closes links for the pace: the client waits."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from typing import Any

import pytest

from qos_async import (
    Client,
    Gap,
    LimitError,
    Limits,
    LinkState,
    RejectedError,
    Trade,
    TransportError,
)
from qos_async.sim import Simulator, Variants
from qos_async.testing.virtual import simulate
from tests.support.memory_transport import KEY, Frame, Network, Peer, opened, trade
from tests.support.scripted_server import AAPL, ScriptedServer, connected

pytestmark = pytest.mark.fault("F1")

TOO_SOON = "Request too frequent: at least 1 second between two."
TEXTS = [TOO_SOON, "请求过于频繁", "Too many requests", "请稍后再试", "server busy"]


def refusing(
    times: float, text: str = TOO_SOON, *, only: str = ""
) -> tuple[Network, list[str]]:
    """Return a network whose server refuses the first ``times`` frames."""
    kinds: list[str] = []

    def respond(peer: Peer, frame: Frame) -> str:
        kind = frame["type"]
        if only and kind != only:
            return "OK"
        kinds.append(kind)
        return text if len(kinds) <= times else "OK"

    return Network(respond=respond, latency=0.01), kinds


@pytest.mark.virtual_time
@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("times", [1, 5])
async def test_a_subscription_that_is_refused_for_the_pace_is_acknowledged_later(
    times, text
):
    net, kinds = refusing(times, text)
    async with (
        opened(net, limits=Limits()) as client,
        client.watch_trades("US:AAPL", "US:TSLA") as trades,
    ):
        net.peers[0].push(trade(1))
        assert isinstance(await anext(trades), Trade)
        assert len(trades.topics) == 2
    assert kinds == ["T"] * (times + 1)
    assert len(net.peers) == 1


@pytest.mark.virtual_time
@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("times", [1, 5])
async def test_a_request_that_is_refused_for_the_pace_is_replied_to_later(times, text):
    net, kinds = refusing(times, text, only="RS")
    async with opened(net, limits=Limits()) as client:
        assert not await client.fetch_snapshots("US:AAPL", via="stream")
    assert kinds == ["RS"] * (times + 1)


@pytest.mark.virtual_time
@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("interval", [0.0, 0.5, 1.0, 3.0])
async def test_a_server_that_refuses_everything_for_the_pace_is_a_limit_error(
    interval, text
):
    net, _ = refusing(1e9, text)
    async with opened(net, limits=Limits(command_interval=interval)) as client:
        with pytest.raises(LimitError, match=r"times in a row.*command_interval"):
            await client.fetch_snapshots("US:AAPL", via="stream")
        with pytest.raises(LimitError, match="times in a row") as failed:
            async with client.watch_trades("US:AAPL", "US:TSLA"):
                pass
        assert failed.value.symbols == ("US:AAPL", "US:TSLA")
        assert failed.value.message.startswith(text)
        assert client.state is LinkState.OPEN
        assert len(net.frames) < 40


@pytest.mark.virtual_time
async def test_what_the_plan_does_not_allow_is_raised_at_once():
    net, kinds = refusing(1e9, "Too many symbols: the limit is 10.")
    async with opened(net, limits=Limits()) as client:
        with pytest.raises(LimitError, match=r"limit is 10\.$"):
            async with client.watch_trades("US:AAPL"):
                pass
        with pytest.raises(RejectedError):
            await client.fetch_snapshots("US:AAPL", via="stream")
    assert kinds == ["T", "RS"]


@pytest.mark.virtual_time
async def test_an_outage_is_recovered_through_refusals_for_the_pace():
    server = ScriptedServer()
    refusals = {"T": 2, "RT": 1}
    respond = server.net.respond

    def refuse(peer: Peer, frame: Frame) -> str | None:
        kind = frame["type"]
        if len(server.net.peers) > 1 and refusals.get(kind):
            refusals[kind] -= 1
            return TOO_SOON
        return respond(peer, frame)

    server.net.respond = refuse
    async with connected(server) as client, client.watch_trades(AAPL) as trades:
        events = trades.events()
        await server.trades(5)
        await server.outage()
        await server.trades(30)
        await client.aclose()
        got = [event async for event in events]
    assert refusals == {"T": 0, "RT": 0}
    assert [event.status for event in got if isinstance(event, Gap)] == ["filled"]
    prices = [int(event.price) for event in got if isinstance(event, Trade)]
    assert prices == server.prices()


def closing_for_pace(times: int, code: int, words: str) -> Any:
    def on_link(peer: Peer) -> None:
        if peer.number < times:
            text = f"the server closed the link with {code}: {words}"
            asyncio.get_running_loop().call_later(0.5, peer.end, code, text)

    return on_link


@pytest.mark.virtual_time
@pytest.mark.parametrize("times", [1, 5])
@pytest.mark.parametrize(
    ("code", "words"),
    [(1008, "too fast"), (4029, "Too many requests"), (1008, "请求过于频繁")],
)
async def test_a_link_that_is_closed_for_the_pace_is_replaced_soon(code, words, times):
    net = Network()
    net.on_link = closing_for_pace(times, code, words)
    async with opened(net, limits=Limits()) as client:
        trades = client.watch_trades("US:AAPL")
        (await net.link(times)).push(trade(1))
        assert isinstance(await anext(trades), Trade)
        assert asyncio.get_running_loop().time() < 40
    waits = [b - a for a, b in zip(net.dialled_at, net.dialled_at[1:], strict=False)]
    assert min(waits) >= 1.0


@pytest.mark.fault("F61")
@pytest.mark.virtual_time
@pytest.mark.parametrize("times", [1, 3])
async def test_a_request_whose_link_is_closed_for_the_pace_is_sent_on_the_next(times):
    net = Network()

    def respond(peer: Peer, _: Frame) -> str | None:
        if peer.number < times:
            peer.end(1008, "the server closed the link with 1008: too fast")
            return None
        return "OK"

    net.respond = respond
    async with opened(net, limits=Limits()) as client:
        assert not await client.fetch_snapshots("US:AAPL", via="stream")
    assert [frame["type"] for frame in net.frames] == ["RS"] * (times + 1)


@pytest.mark.fault("F61")
@pytest.mark.virtual_time
async def test_a_request_whose_link_is_closed_for_another_reason_fails():
    net = Network()
    net.respond = lambda peer, _: peer.end(1001, "the server closed the link with 1001")
    async with opened(net, limits=Limits()) as client:
        with pytest.raises(TransportError, match="lost before the reply"):
            await client.fetch_snapshots("US:AAPL", via="stream")


@pytest.mark.virtual_time
async def test_a_server_that_closes_every_link_for_the_pace_is_a_limit_error():
    net = Network()
    net.on_link = closing_for_pace(10**9, 1008, "too fast")
    async with opened(net, limits=Limits()) as client:
        trades = client.watch_trades("US:AAPL")
        with pytest.raises(LimitError, match="too fast"):
            await anext(trades)
    assert len(net.peers) == 6


@pytest.mark.virtual_time
async def test_connecting_waits_through_a_close_for_the_pace():
    net = Network()
    net.respond = lambda peer, frame: None if peer.number == 0 else "OK"
    net.on_link = closing_for_pace(1, 1008, "too fast")
    async with opened(net, limits=Limits()) as client:
        await client.connect()
        assert len(net.peers) == 2


async def first_trade(sim: Simulator) -> Trade[Any]:
    async with (
        Client(KEY, http_url=sim.http_url, stream_url=sim.stream_url) as client,
        client.watch_trades("US:AAPL") as trades,
    ):
        await client.fetch_snapshots("US:AAPL", via="stream")
        return await anext(trades)


async def first_snapshot(sim: Simulator) -> Trade[Any]:
    async with Client(KEY, http_url=sim.http_url, stream_url=sim.stream_url) as client:
        assert await client.fetch_snapshots("US:AAPL", via="stream")
        return await anext(client.watch_trades("US:AAPL"))


@pytest.mark.fault("F61")
@pytest.mark.parametrize("program", [first_trade, first_snapshot])
@pytest.mark.parametrize("too_fast", ["error", "close", "drop"])
async def test_a_program_that_runs_twice_in_a_row_starts_cleanly(
    too_fast, program, caplog
):
    caplog.set_level(logging.WARNING, "qos_async.stream")
    variants = Variants(too_fast=too_fast)
    async with Simulator(key=KEY, rate=50.0, variants=variants) as sim:
        # Each in a loop of its own, as two processes: they share no state.
        for _ in range(2):
            found = await asyncio.to_thread(asyncio.run, program(sim))
            assert isinstance(found, Trade)
        assert any("arrived" in violation for violation in sim.violations)
    if too_fast != "close":
        assert not [r for r in caplog.records if r.name == "qos_async.stream"]


SYMBOL = "CF:BTCUSDT"


def test_a_topic_subscribed_again_while_its_removal_is_refused_is_acknowledged():
    async def main() -> None:
        async with Simulator(key=KEY) as sim, client_of(sim, 0.5) as client:
            async with client.watch_trades(SYMBOL):
                await asyncio.sleep(0.6)
            await asyncio.sleep(0)  # The removal is sent.
            async with asyncio.timeout(60), client.watch_trades(SYMBOL) as trades:
                await anext(trades)
                assert [frame.type for frame in sim.received("T", "TC")] == ["T", "TC"]

    simulate(main, horizon=1e6)


@pytest.mark.parametrize("interval", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(8))
def test_entering_and_leaving_at_any_pace_never_hangs(seed, interval):
    rng = random.Random(seed)

    async def main() -> None:
        async with Simulator(key=KEY) as sim, client_of(sim, interval) as client:
            for _ in range(12):
                async with asyncio.timeout(300):
                    with contextlib.suppress(LimitError):  # Refused too often in a row.
                        async with client.watch_trades(SYMBOL) as trades:
                            if rng.random() < 0.5:
                                await anext(trades)
                await asyncio.sleep(rng.choice([0, 0, 0.001, 0.2, 1.2]))

    simulate(main, seed=seed, horizon=1e6)


def client_of(sim: Simulator, interval: float) -> Client:
    return Client(
        KEY,
        http_url=sim.http_url,
        stream_url=sim.stream_url,
        limits=Limits(command_interval=interval),
    )
