"""The recovery after an outage, over in-memory links, in virtual time."""

# ruff: noqa: SIM117 - one client, then what is watched with it.

from __future__ import annotations

import asyncio
import gc
import itertools
from typing import Any

import pytest

from qos_async import (
    Client,
    Gap,
    LaggedError,
    Latest,
    Limits,
    Strict,
    Tick,
    Topic,
)
from qos_async.testing.virtual import VirtualLoop, block
from tests.support.factories import drain, gaps, prices
from tests.support.memory_transport import Frame, Peer, kline, opened, snapshot
from tests.support.scripted_server import AAPL, ScriptedServer, connected

pytestmark = [pytest.mark.virtual_time, pytest.mark.usefixtures("delivery")]

TSLA = "US:TSLA"


@pytest.fixture
def server() -> ScriptedServer:
    return ScriptedServer()


def kinds(events: list[Any]) -> str:
    """Return events as letters: Gap, recovered, live; equal neighbours count once."""
    names = ["G" if isinstance(e, Gap) else "r" if e.recovered else "l" for e in events]
    return "".join(name for name, _ in itertools.groupby(names))


def left(client: Client) -> dict[str, Any]:
    session = client._stream._protocol
    assert session.recovery is not None
    return {
        "cases": dict(session.recovery.cases),
        "echoes": dict(session.recovery.echoes),
        "outages": dict(session.outages.open),
    }


NOTHING: dict[str, Any] = {"cases": {}, "echoes": {}, "outages": {}}


# Verdicts


async def test_missed_trades_are_delivered_between_the_gap_and_new_ticks(
    server,
):
    async with connected(server) as client, client.watch_trades(AAPL) as sub:
        await server.trades(20)
        await server.outage(5.0)
        await server.trades(20)
        events = drain(sub)
        assert kinds(events) == "lGrl"
        assert prices(events) == server.prices()
        [gap] = gaps(events)
        assert (gap.status, gap.topic) == ("filled", Topic("trade", AAPL))
        assert gap.recovered == sum(e.recovered for e in events if isinstance(e, Tick))
        assert (gap.until - gap.since).total_seconds() == pytest.approx(5.5, abs=0.6)
        assert server.net.peers[1].types() == ["T", "RT"]
        requested = next(f for f in server.net.peers[1].sent if f["type"] == "RT")
        assert requested["count"] == 50


async def test_trades_received_under_another_spelling_are_not_recovered_again(
    server, monkeypatch
):
    symbol = "HK:700"

    def push(letter: str, row: Frame) -> None:
        for peer in server.net.open_peers:
            peer.push({"tp": letter, **row, "c": "HK:00700"})

    monkeypatch.setattr(server, "push", push)
    async with connected(server) as client, client.watch_trades(symbol) as sub:
        await server.trades(20, symbol=symbol)
        server.net.peers[0].end()
        await asyncio.sleep(5.0)
        await server.trades(20, symbol=symbol)
        events = drain(sub)
        assert [gap.status for gap in gaps(events)] == ["filled"]
        assert prices(events) == server.prices(symbol)


async def lose(peer: Peer, client: Client, turns: int) -> None:
    """Cut a link ``turns`` turns of the loop after the ack, and reconnect."""
    registry = client._stream._protocol.registry
    while not registry.held:  # noqa: ASYNC110 - a turn of the loop counts.
        await asyncio.sleep(0)
    for _ in range(turns):
        await asyncio.sleep(0)
    peer.end()
    await asyncio.sleep(30.0)


@pytest.mark.parametrize("turns", [0, 1, 50])
async def test_each_of_very_many_topics_has_one_gap_even_if_the_link_is_lost_again(
    server, turns
):
    names = [f"US:S{number}" for number in range(1500)]
    limits = Limits(symbols=2000, command_interval=0.05)
    async with connected(server, limits=limits) as client:
        async with client.watch_trades(*names) as sub:
            await asyncio.sleep(2.0)
            server.delay["T"] = 0.0
            server.net.peers[0].end()
            peer = await server.net.link(1)
            await peer.next_frame("T")
            await lose(peer, client, turns)
            events = gaps(drain(sub))
            assert sorted(gap.topic.symbol for gap in events) == sorted(names)
            assert left(client) == NOTHING


@pytest.mark.parametrize("turns", [0, 1, 50])
async def test_very_many_topics_are_live_at_the_ack_and_not_later(server, turns):
    names = [f"US:S{number}" for number in range(1500)]
    limits = Limits(symbols=2000, command_interval=0.05)
    server.delay["T"] = 0.0
    async with connected(server, limits=limits) as client:
        sub = client.watch_trades(*names)
        peer = await server.net.link(0)
        await peer.next_frame("T")
        await lose(peer, client, turns)
        events = gaps(drain(sub))
        assert sorted(gap.topic.symbol for gap in events) == sorted(names)
        await sub.aclose()


async def test_a_subscription_counts_what_was_recovered_for_it(server):
    async with connected(server) as client, client.watch_trades(AAPL) as sub:
        await server.trades(20)
        await server.outage(5.0)
        await server.trades(20)
        [gap] = gaps(drain(sub))
        assert gap.recovered > 0
        assert sub.stats.recovered == gap.recovered
        assert sub.stats.gaps == client.stats.gaps == 1


async def test_a_plain_loop_gets_everything_once_and_in_order(server):
    async with connected(server) as client, client.watch_trades(AAPL) as sub:
        seen: list[int] = []

        async def read() -> None:
            async for tick in sub:
                seen.append(int(tick.price))  # noqa: PERF401 - one by one.

        reader = asyncio.create_task(read())
        for _ in range(3):
            await server.trades(20)
            await server.outage(5.0)
        await server.trades(30)
        await sub.aclose()
        await reader
        assert seen == server.prices()


async def test_an_outage_longer_than_the_history_of_the_server_is_partial(server):
    async with connected(server) as client, client.watch_trades(AAPL) as sub:
        await server.trades(20)
        await server.outage(60.0)
        await server.trades(20)
        events = drain(sub)
        assert kinds(events) == "lGrl"
        [gap] = gaps(events)
        assert gap.status == "partial"
        assert 40 < gap.recovered <= 50
        assert prices(events)[20:] == server.prices()[-len(prices(events)) + 20 :]


async def test_inconsistent_data_leaves_the_gap_unverified(server):
    async with connected(server) as client, client.watch_trades(AAPL) as sub:
        await server.trades(20)
        server.tape[12]["v"] = "77"  # The history is changed.
        await server.outage(5.0)
        await server.trades(20)
        events = drain(sub)
        assert [gap.status for gap in gaps(events)] == ["unverified"]
        assert prices(events) == sorted(set(prices(events)))


async def test_without_a_trade_before_the_outage_nothing_is_verified(server):
    async with connected(server) as client, client.watch_trades(AAPL) as sub:
        await asyncio.sleep(5)
        await server.outage(5.0)
        await server.trades(20)
        events = drain(sub)
        assert kinds(events) == "Gl"
        assert [gap.status for gap in gaps(events)] == ["unverified"]


FAILURES: dict[str, Any] = {
    "lost": lambda server: server.unanswered.add("RT"),
    "late": lambda server: server.delay.update(RT=6.0),
    "refused": lambda server: server.rejections.update(RT="No permission."),
    "nothing": lambda server: server.data.update(RT=[]),
    "null": lambda server: server.data.update(RT=None),
    "no list": lambda server: server.data.update(RT={"a": 1}),
    "rows of null": lambda server: server.data.update(RT=[None]),
    "a trade without a price": lambda server: server.data.update(RT=[{"c": AAPL}]),
    "a second in words": lambda server: server.data.update(
        RT=[{"c": AAPL, "p": "1", "v": "1", "ts": "soon"}]
    ),
    "symbol left out": lambda server: server.omitted.add(AAPL),
    "another symbol": lambda server: server.data.update(
        RT=[{"c": TSLA, "p": "1", "v": "1", "ts": 1}]
    ),
}


@pytest.mark.parametrize("how", FAILURES)
async def test_without_a_reply_the_gap_is_unfilled_and_held_ticks_are_delivered(
    how, server
):
    async with connected(server) as client, client.watch_trades(AAPL) as sub:
        await server.trades(20)
        FAILURES[how](server)
        await server.outage(5.0)
        await server.trades(30)
        events = drain(sub)
        assert kinds(events) == "lGl"
        assert [gap.status for gap in gaps(events)] == ["unfilled"]
        # One more is lost: it is pushed before the client has sent its next request.
        assert prices(events) == [p for p in server.prices() if not 20 < p <= 31]
        assert left(client) == NOTHING


async def test_an_invalid_reply_ends_nothing(server):
    junk = [
        [],
        [[]],
        {"c": 1},
        [{"c": AAPL, "p": "x", "ts": 1}],
        [{"c": AAPL, "p": "1", "v": None, "ts": None}],
        [{"c": AAPL, "p": "1", "ts": -5}],
        [{"c": AAPL, "p": "1", "ts": 10**17}],
        [{"c": AAPL, "p": "1", "v": "1", "ts": 1e9}],
        "text",
        7,
    ]
    async with connected(server) as client, client.watch_trades(AAPL) as sub:
        for data in junk:
            await server.trades(3)
            server.data["RT"] = data
            await server.outage(2.0)
            await server.trades(16)
        events = drain(sub)
        assert "filled" not in {gap.status for gap in gaps(events)}
        assert len(gaps(events)) == len(junk)
        live = [e for e in events if isinstance(e, Tick) and not e.recovered]
        assert prices(live) == sorted(set(prices(live)))
        assert left(client)["cases"] == {}


async def test_live_ticks_are_held_five_seconds_at_most(server):
    async with connected(server) as client, client.watch_trades(AAPL) as sub:
        await server.trades(20)
        server.unanswered.add("RT")
        peer = await server.outage(5.0)
        await peer.next_frame("T")
        drain(sub)
        await server.trades(8)  # Four seconds.
        assert drain(sub) == []
        await server.trades(4)
        assert kinds(drain(sub)) == "Gl"


async def test_ten_thousand_ticks_are_held_and_no_more(server):
    async with connected(server) as client, client.watch_trades(AAPL) as sub:
        await server.trades(20)
        server.unanswered.add("RT")
        peer = await server.outage(5.0)
        await peer.next_frame("T")
        await asyncio.sleep(0.1)
        drain(sub)
        for _ in range(9_999):
            server.trade()
        await asyncio.sleep(0.1)
        assert drain(sub) == []
        server.trade()
        await asyncio.sleep(0.1)
        events = drain(sub)
        assert (kinds(events), len(events)) == ("Gl", 10_001)
        server.trade()
        await asyncio.sleep(0.1)
        assert len(drain(sub)) == 1


async def test_a_quiet_topic_is_settled_by_its_first_push_after_the_ack(server):
    async with connected(server) as client, client.watch_trades(AAPL) as sub:
        await server.trades(20)
        peer = await server.outage(5.0)
        await peer.next_frame("T")
        await asyncio.sleep(0.5)
        assert server.second > server.tape[-1]["ts"]
        server.delay["RT"] = 2.0
        await asyncio.sleep(1.5 - 0.4)  # The one push arrives before the reply.
        server.trade()
        server.delay.clear()
        await asyncio.sleep(10)
        [gap] = gaps(drain(sub))
        assert gap.status == "filled"


async def test_a_push_while_a_topic_is_held_does_not_replace_the_time_of_the_ack(
    server,
):
    server.unanswered.add("RT")
    async with connected(server) as client, client.watch_trades(AAPL) as sub:
        await server.trades(20)
        await server.outage(5.0)
        await asyncio.sleep(0.1)
        [case] = left(client)["cases"].values()
        acked_at = case.acked_at
        assert acked_at is not None
        server.trade()
        await asyncio.sleep(0.1)
        assert case.acked_at == acked_at
        assert len(case.held) == 1
        assert sub.stats.gaps == 0


async def test_an_unfilled_gap_does_not_affect_the_next_one(server):
    async with connected(server) as client, client.watch_trades(AAPL) as sub:
        await server.trades(20)
        server.rejections["RT"] = "No permission."
        await server.outage(3.0)
        await server.trades(10)
        assert [gap.status for gap in gaps(drain(sub))] == ["unfilled"]
        server.rejections.clear()
        await server.outage(3.0)  # The reply reaches back before the first gap.
        await server.trades(14)
        events = drain(sub)
        assert prices(events) == server.prices()[-len(prices(events)) :]
        assert [gap.status for gap in gaps(events)] == ["filled"]


# Frames


ALL = (
    Topic("trade", AAPL),
    Topic("kline", AAPL, "1m"),
    Topic("kline", AAPL, "5m"),
    Topic("snapshot", AAPL),
    Topic("depth", AAPL),
    Topic("trade", TSLA),
    Topic("snapshot", TSLA),
)


async def test_subscriptions_are_sent_first_and_then_one_request_a_channel(server):
    async with connected(server) as client, client.watch(*ALL):
        await asyncio.sleep(5)
        server.peer.end()
        peer = await server.net.link(1)
        await asyncio.sleep(10)
        types = peer.types()
        assert set(types[:5]) == {"T", "K", "S", "D"}
        assert sorted(types[5:]) == ["RD", "RK", "RK", "RS", "RT"]
        codes = {f["type"]: f.get("codes") for f in peer.sent}
        assert sorted(codes["RT"][0][3:].split(",")) == ["AAPL", "TSLA"]
        assert sorted(codes["RS"][0][3:].split(",")) == ["AAPL", "TSLA"]
        requested = [f["kline_reqs"][0] for f in peer.sent if f["type"] == "RK"]
        assert all(2 <= one["co"] <= 5 for one in requested)


async def test_the_plans_pace_is_kept_in_recovery(server):
    limits = Limits(command_interval=1.0)
    async with connected(server, limits=limits) as client, client.watch(*ALL):
        server.peer.end()
        await server.net.link(1)
        await asyncio.sleep(30)
        times = [at for at, _ in server.sent_at]
        assert all(b - a >= 1.0 for a, b in itertools.pairwise(times))


async def test_one_request_is_sent_even_if_pushes_overtake_the_ack(server):
    server.net.respond = lambda peer, frame: None if frame["type"] == "T" else "OK"
    async with opened(server.net) as client:
        sub = client.watch_trades(AAPL, TSLA)
        first = await server.net.link(0)
        first.answer(await first.next_frame("T"))
        await asyncio.sleep(5)
        first.end()
        peer = await server.net.link(1)
        frame = await peer.next_frame("T")
        peer.push({"tp": "T", "c": AAPL, "p": "1", "v": "1", "ts": 1000})
        await asyncio.sleep(0.2)
        peer.answer(frame)
        await asyncio.sleep(10)
        assert peer.types() == ["T", "RT"]
        await sub.aclose()


async def test_requests_for_missed_data_are_not_repeated_without_new_data(server):
    # The reply lags: it has no trade from after the ack.
    async with connected(server) as client, client.watch_trades(AAPL) as sub:
        await server.trades(20)
        peer = await server.outage(5.0)
        server.data["RT"] = list(server.tape)
        server.delay["RT"] = 0.5
        await server.trades(100, 0.1)
        assert len(gaps(drain(sub))) == 1
        questions = peer.types("T")
        assert len(questions) <= 8
        await asyncio.sleep(10)
        assert peer.types("T") == questions


async def test_no_request_is_sent_while_one_is_pending(server):
    limits = Limits(command_interval=1.0)
    async with connected(server, limits=limits) as client:
        async with client.watch_trades(AAPL) as sub:
            await server.trades(20)
            peer = await server.outage(5.0)
            server.data["RT"] = list(server.tape)  # The server lags behind.
            await server.trades(100, 0.1)
            assert len(gaps(drain(sub))) == 1
            before = len(peer.types("T"))
            await asyncio.sleep(30)
            assert len(peer.types("T")) == before
            assert before <= 5


async def test_recovery_requests_of_a_lost_link_are_not_sent_on_the_next(server):
    limits = Limits(command_interval=1.0)
    async with connected(server, limits=limits) as client, client.watch(*ALL):
        await asyncio.sleep(20)
        server.peer.end()
        peer = await server.net.link(1)
        await server.net.until(lambda: len(peer.types()) >= 6)
        peer.end()  # While requests are pending.
        peer = await server.net.link(2)
        await asyncio.sleep(40)
        types = peer.types()
        assert set(types[:5]) == {"T", "K", "S", "D"}
        assert sorted(types[5:]) == ["RD", "RK", "RK", "RS", "RT"]


async def test_recovery_requests_of_a_removed_topic_are_not_sent(server):
    limits = Limits(command_interval=1.0)
    async with connected(server, limits=limits) as client:
        keep = client.watch_trades(AAPL)
        async with client.watch(*ALL[1:]):
            await asyncio.sleep(20)
            server.peer.end()
            peer = await server.net.link(1)
            await server.net.until(lambda: len(peer.types()) == 6)
        await asyncio.sleep(40)
        assert len([kind for kind in peer.types() if kind[0] == "R"]) <= 2
        assert left(client)["cases"] == {}
        await keep.aclose()


async def test_trades_are_requested_before_other_channels(server):
    limits = Limits(command_interval=1.0)
    topics = [Topic("kline", AAPL, f"{n}m") for n in (1, 5, 15, 30)]
    topics += [Topic("snapshot", AAPL), Topic("depth", AAPL), Topic("trade", AAPL)]
    async with connected(server, limits=limits) as client:
        async with client.watch(*topics) as sub:
            await asyncio.sleep(20)
            await server.trades(20)
            peer = await server.outage(5.0)
            await server.trades(60)
            questions = [kind for kind in peer.types() if kind[0] == "R"]
            verdicts = {gap.topic: gap.status for gap in gaps(drain(sub))}
            assert questions[0] == "RT", questions
            assert verdicts[topics[-1]] == "filled"


async def test_requests_of_users_are_served_during_a_recovery(server):
    server.unanswered.add("RT")
    async with connected(server) as client, client.watch(*ALL):
        await asyncio.sleep(5)
        server.peer.end()
        peer = await server.net.link(1)
        await peer.next_frame("T")
        server.unanswered.clear()
        server.delay["RT"] = 3.0
        async with asyncio.timeout(8):
            await client.fetch_snapshots("US:MSFT", via="stream")


async def test_a_waiting_recovery_does_not_wake_the_loop(server):
    server.unanswered.add("RT")
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    async with connected(server) as client, client.watch(*ALL):
        await asyncio.sleep(5)
        server.peer.end()
        await server.net.link(1)
        steps = loop.steps
        await asyncio.sleep(100)
        assert loop.steps - steps < 200


async def test_recovery_does_not_wait_for_subscriptions_that_are_not_restored(server):
    async with connected(server) as client:
        sub = client.watch(Topic("trade", AAPL), Topic("snapshot", AAPL))
        await asyncio.sleep(2)
        await server.trades(20)
        server.unanswered.add("S")
        await server.outage(5.0)
        drain(sub)
        await server.trades(60)
        events = drain(sub)
        assert kinds([e for e in events if "trade" in str(e)]) in ("G", "Gl", "Grl")
        assert prices([e for e in events if isinstance(e, Tick)])
        await sub.aclose()


# Second outages


async def test_a_second_outage_while_ticks_are_held_widens_the_gap(server):
    async with connected(server) as client, client.watch_trades(AAPL) as sub:
        await server.trades(20)
        server.unanswered.add("RT")
        await server.outage(3.0)
        await server.trades(5)
        assert len(drain(sub)) == 20
        server.unanswered.clear()
        await server.outage(3.0)
        await server.trades(20)
        events = drain(sub)
        assert kinds(events) == "Grl"
        [gap] = gaps(events)
        assert prices(events) == server.prices()[20:]
        assert gap.status == "filled"
        assert (gap.until - gap.since).total_seconds() == pytest.approx(9, abs=0.7)
        assert sub.stats.gaps == client.stats.gaps == 1


@pytest.mark.parametrize("held", [0.05, 0.5, 0.95, 1.05, 1.5, 2.5])
async def test_two_cuts_at_any_times_deliver_the_tape(held, server):
    async with connected(server) as client, client.watch_trades(AAPL) as sub:
        await server.trades(20)
        server.delay["RT"] = 0.4
        await server.outage(2.0)
        await server.trades(int(held * 20), 0.05)
        await server.outage(2.0)
        await server.trades(20)
        events = drain(sub)
        ticks = prices(events)
        assert ticks == sorted(set(ticks))
        if {gap.status for gap in gaps(events)} == {"filled"}:
            assert ticks == server.prices()


async def test_ticks_held_on_a_lost_link_are_delivered_without_any_reply(
    server,
):
    async with connected(server) as client, client.watch_trades(AAPL) as sub:
        await server.trades(20)
        server.unanswered.add("RT")
        await server.outage(3.0)
        await server.trades(5)
        held = server.prices()[-4:]
        await server.outage(3.0)
        await server.trades(30)
        events = drain(sub)
        assert set(held) <= set(prices(events))
        assert prices(events) == sorted(set(prices(events)))
        assert len(gaps(events)) == 1


async def test_a_second_outage_after_the_first_gap_is_another_gap(server):
    async with connected(server) as client, client.watch_trades(AAPL) as sub:
        for _ in range(2):
            await server.trades(20)
            await server.outage(3.0)
        await server.trades(20)
        events = drain(sub)
        assert kinds(events) == "lGrlGrl"
        assert prices(events) == server.prices()
        assert [gap.status for gap in gaps(events)] == ["filled", "filled"]


async def test_a_blocked_loop_does_not_lose_the_recovery_reply(server):
    server.delay["RT"] = 0.2
    async with connected(server) as client, client.watch_trades(AAPL) as sub:
        await server.trades(20)
        peer = await server.outage(5.0)
        await peer.next_frame("RT")
        server.trade()
        block(6)  # The reply waits in the socket meanwhile.
        await server.trades(20)
        assert [gap.status for gap in gaps(drain(sub))] == ["filled"]


# Watchers


async def test_two_subscriptions_each_get_the_gap_and_the_missed_ticks(server):
    async with connected(server) as client:
        subs = [client.watch_trades(AAPL) for _ in range(2)]
        await asyncio.sleep(1)
        await server.trades(20)
        await server.outage(5.0)
        await server.trades(20)
        for sub in subs:
            events = drain(sub)
            assert kinds(events) == "lGrl"
            assert prices(events) == server.prices()
            await sub.aclose()
        assert left(client) == NOTHING


@pytest.mark.parametrize("when", ["outage", "hold"])
async def test_a_later_subscription_gets_neither_the_gap_nor_older_ticks(when, server):
    server.delay["RT"] = 1.0
    async with connected(server) as client, client.watch_trades(AAPL) as old:
        await server.trades(20)
        server.net.script.append(5.0)
        server.peer.end()
        await server.trades(8)
        if when == "hold":
            await server.net.link(1)
            await server.trades(2)
        before = len(server.tape)
        fresh = client.watch_trades(AAPL)
        await server.trades(30)
        assert prices(drain(old)) == server.prices()
        events = drain(fresh)
        assert gaps(events) == []
        assert prices(events) == sorted(set(prices(events)))
        assert set(server.prices()[-20:]) <= set(prices(events))
        assert min(prices(events)) >= before  # That one was under way.
        await fresh.aclose()


async def test_a_subscription_opened_during_recovery_gets_the_next_gap(server):
    async with connected(server) as client, client.watch_trades(AAPL) as old:
        await server.trades(20)
        server.unanswered.add("RT")
        await server.outage(3.0)
        await server.trades(2)
        fresh = client.watch_trades(AAPL)
        await asyncio.sleep(0.1)
        server.unanswered.clear()
        await server.outage(3.0)
        await server.trades(20)
        assert len(gaps(drain(old))) == 1
        assert len(gaps(drain(fresh))) == 1
        await fresh.aclose()


async def test_closing_one_subscription_during_recovery_does_not_affect_the_other(
    server,
):
    async with connected(server) as client, client.watch_trades(AAPL) as stays:
        leaves = client.watch_trades(AAPL)
        await asyncio.sleep(1)
        await server.trades(20)
        await server.outage(5.0)
        server.trade()
        await asyncio.sleep(0.1)
        await leaves.aclose()
        await server.trades(20)
        assert prices(drain(stays)) == server.prices()


# Leaving


async def test_unsubscribing_during_recovery_leaves_nothing_behind(server):
    server.unanswered.add("RT")
    async with connected(server) as client:
        async with client.watch_trades(AAPL, TSLA) as sub:
            await server.trades(20)
            await server.outage(5.0)
            server.trade()
            await asyncio.sleep(0.1)
            await sub.remove(AAPL)
            assert AAPL not in str(left(client)["cases"].keys())
        await asyncio.sleep(20)
        assert left(client) == NOTHING


async def test_dropping_the_reference_during_recovery_leaves_nothing_behind(server):
    server.unanswered.add("RT")
    async with connected(server) as client:
        sub = client.watch_trades(AAPL)
        await asyncio.sleep(1)
        await server.trades(20)
        await server.outage(5.0)
        server.trade()
        await asyncio.sleep(0.1)
        assert left(client)["cases"]
        del sub
        gc.collect()
        await asyncio.sleep(1)
        assert left(client) == NOTHING
        await asyncio.sleep(20)
        assert server.peer.topics == {}


async def test_a_topic_rejected_after_an_outage_leaves_nothing_behind(server):
    async with connected(server) as client, client.watch_trades(AAPL) as sub:
        await server.trades(20)
        server.rejections["T"] = "No permission for this symbol."
        await server.outage(5.0)
        await asyncio.sleep(30)
        assert sub.topics == ()
        assert left(client) == NOTHING


async def test_a_subscription_after_a_rejection_gets_no_gap_of_the_old_outage(server):
    async with connected(server) as client, client.watch_trades(AAPL) as sub:
        await server.trades(20)
        server.rejections["T"] = "No permission for this symbol."
        await server.outage(5.0)
        await asyncio.sleep(30)
        server.rejections.clear()
        assert sub.topics == ()
        fresh = client.watch_trades(AAPL)
        await asyncio.sleep(1)
        await server.trades(1)
        assert kinds(drain(fresh)) == "l"
        assert server.peer.types("T") == []
        await fresh.aclose()


async def test_closing_the_client_delivers_held_ticks(server):
    server.unanswered.add("RT")
    async with connected(server) as client, client.watch_trades(AAPL) as sub:
        await server.trades(20)
        drain(sub)
        await server.outage(5.0)
        await asyncio.sleep(0.5)
        server.trade()
        await asyncio.sleep(0.1)
        await client.aclose()
        assert kinds(drain(sub)) == "Gl"
        assert left(client) == NOTHING


async def test_closing_the_client_during_recovery_ends_the_loop(server):
    server.unanswered.add("RT")
    async with connected(server) as client:
        sub = client.watch_trades(AAPL)
        await asyncio.sleep(1)
        await server.trades(20)
        await server.outage(5.0)
        server.trade()
        await asyncio.sleep(0.1)
    seen = [int(tick.price) async for tick in sub]
    assert seen[:20] == server.prices()[:20]


async def test_after_recovery_and_unsubscription_nothing_is_left(server):
    async with connected(server) as client:
        async with client.watch(*ALL):
            await server.trades(20)
            await server.outage(5.0)
            await server.trades(30)
            assert left(client)["cases"] == left(client)["outages"] == {}
            assert left(client)["echoes"] == {}
        assert left(client) == NOTHING


# Buffers


async def test_recovered_ticks_may_overflow_a_strict_buffer(server):
    async with connected(server) as client:
        strict = client.watch_trades(AAPL, TSLA, buffer=Strict(25))
        other = client.watch_trades(AAPL)
        await asyncio.sleep(1)
        await server.trades(20)
        await server.outage(5.0)
        await server.trades(20)
        assert prices(drain(other)) == server.prices()
        assert prices(drain(strict)) == server.prices()[:25]
        with pytest.raises(LaggedError):
            await anext(strict)
        assert client.state == "open"
        await other.aclose()
        assert left(client) == NOTHING


async def test_a_strict_buffer_of_two_topics_overflows_once(server):
    async with connected(server) as client:
        strict = client.watch_trades(AAPL, TSLA, buffer=Strict(11))
        await asyncio.sleep(1)
        for _ in range(5):
            server.trade(AAPL)
            server.trade(TSLA)
            await asyncio.sleep(1)
        server.net.script.append(4.5)
        server.peer.end()
        for _ in range(14):
            server.trade(AAPL)
            server.trade(TSLA)
            await asyncio.sleep(0.5)
        assert strict.topics == ()
        assert left(client) == NOTHING
        assert client.state == "open"


async def test_a_latest_buffer_shows_the_newest_tick_behind_the_gap(server):
    async with connected(server) as client:
        sub = client.watch_trades(AAPL, buffer=Latest())
        await asyncio.sleep(1)
        await server.trades(20)
        await server.outage(5.0)
        await server.trades(20)
        events = drain(sub)
        assert kinds(events) == "Gl"
        assert prices(events) == server.prices()[-1:]
        await sub.aclose()


# Klines


def bar(ts: int, close: object = 1, kt: int = 1, symbol: str = AAPL) -> Frame:
    row = kline(ts, close, symbol, kt)
    del row["tp"]
    return row


def closes(events: list[Any]) -> list[tuple[int, int, bool]]:
    return [
        (e.timestamp, int(e.close), e.recovered)
        for e in events
        if not isinstance(e, Gap)
    ]


async def test_missed_klines_are_delivered_once_and_in_order(server):
    async with connected(server) as client:
        async with client.watch_klines(AAPL, interval="1m") as sub:
            server.push("K", bar(900, 1))
            server.push("K", bar(960, 2))
            await asyncio.sleep(1)
            rows = [bar(900, 1), bar(960, 3), bar(1020, 4), bar(1080, 5)]
            server.rows["RK", AAPL] = [{"c": AAPL, "k": rows}]
            server.data["RK"] = [{"c": AAPL, "k": rows}]
            server.net.script.append(130.0)
            server.peer.end()
            peer = await server.net.link(1)
            await asyncio.sleep(5)
            server.push("K", bar(1080, 6))
            await asyncio.sleep(5)
            events = drain(sub)
            assert closes(events) == [
                (900, 1, False),
                (960, 2, False),
                (960, 3, True),
                (1020, 4, True),
                (1080, 5, True),
                (1080, 6, False),
            ]
            assert [(g.status, g.recovered) for g in gaps(events)] == [("filled", 3)]
            [requested] = [f for f in peer.sent if f["type"] == "RK"]
            assert requested["kline_reqs"][0]["co"] == 5  # 131 s: three bars, and two.


async def test_final_klines_of_an_outage_are_delivered_once_each(server):
    async with connected(server) as client:
        async with client.watch_klines(AAPL, interval="1m", final=True) as sub:
            server.push("K", bar(900, 1))
            server.push("K", bar(960, 2))
            await asyncio.sleep(1)
            rows = [bar(900, 1), bar(960, 3), bar(1020, 4), bar(1080, 5)]
            server.data["RK"] = [{"c": AAPL, "k": rows}]
            server.net.script.append(130.0)
            server.peer.end()
            await server.net.link(1)
            await asyncio.sleep(1)
            server.push("K", bar(1080, 6))
            await asyncio.sleep(5)
            server.push("K", bar(1140, 7))
            await asyncio.sleep(5)
            events = drain(sub)
            assert [one[:2] for one in closes(events)] == [
                (900, 1),
                (960, 3),
                (1020, 4),
                (1080, 6),
            ]


async def test_an_unchanged_kline_is_not_delivered_again(server):
    async with connected(server) as client:
        async with client.watch_klines(AAPL, interval="1m") as sub:
            server.push("K", bar(960, 2))
            await asyncio.sleep(1)
            server.data["RK"] = [{"c": AAPL, "k": [bar(900, 1), bar(960, 2)]}]
            server.peer.end()
            await server.net.link(1)
            await asyncio.sleep(8)
            events = drain(sub)
            assert closes(events) == [(960, 2, False)]
            assert [gap.status for gap in gaps(events)] == ["filled"]


async def test_live_klines_are_held_until_the_missed_ones_are_delivered(server):
    server.delay["RK"] = 2.0
    async with connected(server) as client:
        async with client.watch_klines(AAPL, interval="1m") as sub:
            server.push("K", bar(60, 1))
            await asyncio.sleep(1)
            rows = [bar(60, 2), bar(120, 3), bar(180, 4)]
            server.data["RK"] = [{"c": AAPL, "k": rows}]
            server.net.script.append(90.0)
            server.peer.end()
            await server.net.link(1)
            await asyncio.sleep(1)
            server.push("K", bar(180, 5))
            await asyncio.sleep(5)
            assert [one[:2] for one in closes(drain(sub))] == [
                (60, 1),
                (60, 2),
                (120, 3),
                (180, 5),
            ]


async def test_a_later_subscription_gets_no_older_klines(server):
    async with connected(server) as client:
        async with client.watch_klines(AAPL, interval="1m"):
            server.push("K", bar(60, 1))
            await asyncio.sleep(1)
            server.net.script.append(130.0)
            server.peer.end()
            await asyncio.sleep(120)
            fresh = client.watch_klines(AAPL, interval="1m")
            rows = [bar(60, 1), bar(120, 3), bar(180, 4)]
            server.data["RK"] = [{"c": AAPL, "k": rows}]
            await asyncio.sleep(20)
            assert [one for one in closes(drain(fresh)) if one[0] < 180] == []
            await fresh.aclose()


# State


def quote(price: int, ts: int = 0) -> Frame:
    row = snapshot(price, ts=ts)
    del row["tp"]
    return row


def last(events: list[Any]) -> list[tuple[int, bool]]:
    return [(int(e.last_price), e.recovered) for e in events if not isinstance(e, Gap)]


async def test_snapshots_are_current_at_once_after_an_outage(server):
    async with (
        connected(server) as client,
        client.watch_snapshots(AAPL, buffer=Strict()) as sub,
    ):
        server.push("S", quote(1, 100))
        await asyncio.sleep(1)
        server.rows["RS", AAPL] = quote(2, 110)
        server.peer.end()
        peer = await server.net.link(1)
        await asyncio.sleep(0.5)
        assert peer.types() == ["S", "RS"]
        events = drain(sub)
        assert last(events) == [(1, False), (2, True)]
        assert kinds(events) == "lGr"
        assert [(gap.status, gap.recovered) for gap in gaps(events)] == [("filled", 1)]


async def test_a_reply_does_not_overwrite_a_newer_push(server):
    async with (
        connected(server) as client,
        client.watch_snapshots(AAPL, buffer=Strict()) as sub,
    ):
        server.push("S", quote(1, 100))
        await asyncio.sleep(1)
        server.rows["RS", AAPL] = quote(2, 110)
        server.delay["RS"] = 1.0
        server.peer.end()
        peer = await server.net.link(1)
        await peer.next_frame("RS")
        server.push("S", quote(3, 120))
        await asyncio.sleep(10)
        assert last(drain(sub)) == [(1, False), (3, False)]
        assert left(client) == NOTHING


async def test_a_reply_does_not_overwrite_a_newer_push_from_before_the_outage(
    server,
):
    async with (
        connected(server) as client,
        client.watch_snapshots(AAPL, buffer=Strict()) as sub,
    ):
        server.push("S", quote(1, 100))
        await asyncio.sleep(1)
        server.rows["RS", AAPL] = quote(2, 90)  # From a cache that lags.
        server.peer.end()
        await server.net.link(1)
        await asyncio.sleep(10)
        assert last(drain(sub)) == [(1, False)]


async def test_depth_is_requested_too(server):
    async with connected(server) as client, client.watch_depth(AAPL) as sub:
        server.rows["RD", AAPL] = {"c": AAPL, "b": [], "a": [], "ts": 5}
        server.peer.end()
        peer = await server.net.link(1)
        await asyncio.sleep(1)
        assert peer.types() == ["D", "RD"]
        assert kinds(drain(sub)) == "Gr"


# Without


async def test_without_recovery_gaps_are_delivered_at_once_and_nothing_is_requested(
    server,
):
    async with opened(server.net, jitter=0.0, recover=False) as client:
        async with client.watch_trades(AAPL) as sub:
            await server.trades(20)
            peer = await server.outage(5.0)
            await asyncio.sleep(0.1)
            server.trade()
            await asyncio.sleep(0.1)
            events = drain(sub)
            assert kinds(events) == "lGl"
            assert [gap.status for gap in gaps(events)] == ["unfilled"]
            await asyncio.sleep(20)
            assert peer.types() == ["T"]
            assert sub.stats.recovered == 0


async def test_klines_delivered_before_an_unfilled_gap_are_not_delivered_again(
    server,
):
    async with connected(server) as client:
        async with client.watch_klines(AAPL, interval="1m") as sub:
            server.push("K", bar(960))
            server.push("K", bar(1020))
            server.unanswered.add("RK")
            await server.outage(5.0)
            await asyncio.sleep(20)
            server.unanswered.clear()
            rows = [bar(960), bar(1020), bar(1080)]
            server.data["RK"] = [{"c": AAPL, "k": rows}]
            await server.outage(5.0)
            await asyncio.sleep(20)
            bars = [e.timestamp for e in drain(sub) if isinstance(e, Tick)]
            assert bars == [960, 1020, 1080]


async def test_a_growing_kline_of_a_lost_link_is_not_final(
    server,
):
    server.unanswered.add("RK")
    async with connected(server) as client:
        async with client.watch_klines(AAPL, interval="1m", final=True) as sub:
            server.push("K", bar(960))
            for start in (1020, 1080):
                await server.outage(1.0)
                await asyncio.sleep(1.0)
                server.push("K", bar(start))  # Held back, and then the link is lost.
                await asyncio.sleep(0.1)
            await server.outage(1.0)
            await asyncio.sleep(1.0)
            server.push("K", bar(1140))
            await asyncio.sleep(20.0)
            server.push("K", bar(1200))
            await asyncio.sleep(0.1)
            events = drain(sub)
            assert [gap.status for gap in gaps(events)] == ["unfilled"]
            bars = [e.timestamp for e in events if isinstance(e, Tick)]
            assert bars == [1140], "nobody saw how the others ended"


async def test_klines_held_on_a_lost_link_are_delivered_once(server):
    server.unanswered.add("RK")
    async with connected(server) as client:
        async with client.watch_klines(AAPL, interval="1m") as sub:
            server.push("K", bar(960))
            await server.outage(1.0)
            await asyncio.sleep(1.0)
            server.push("K", bar(1020))  # Held back, and then the link is lost.
            await server.outage(1.0)
            await asyncio.sleep(20.0)
            server.unanswered.clear()
            rows = [bar(960), bar(1020), bar(1080)]
            server.data["RK"] = [{"c": AAPL, "k": rows}]
            await server.outage(1.0)
            await asyncio.sleep(20.0)
            bars = [e.timestamp for e in drain(sub) if isinstance(e, Tick)]
            assert bars == [960, 1020, 1080]


@pytest.mark.parametrize("leave", ["aclose", "remove"])
async def test_a_subscription_closed_during_recovery_gets_the_gap_and_held_ticks(
    server, leave
):
    server.unanswered.add("RT")
    async with connected(server) as client:
        async with client.watch_trades(AAPL) as sub, client.watch_trades(AAPL) as stays:
            await server.trades(5)
            await server.outage(1.0)
            await server.trades(4)
            await (sub.aclose() if leave == "aclose" else sub.remove(AAPL))
            assert kinds(drain(sub)) == "lGl"
            assert sub.stats.received == 8
            await server.trades(30)
            assert kinds(drain(stays)) == "lGl"
            assert stays.stats.received == 38
            stats = client.stats
            assert stats.held == stats.repeated == 0
            assert stats.gaps == 2


async def test_held_ticks_of_the_last_closed_subscription_are_counted(server):
    server.unanswered.add("RT")
    async with connected(server) as client:
        async with client.watch_trades(AAPL) as sub:
            await server.trades(5)
            await server.outage(1.0)
            await server.trades(4)
        assert kinds(drain(sub)) == "lGl"
        stats = client.stats
        assert (stats.ticks, stats.held, stats.repeated) == (8, 0, 0)


async def test_a_subscription_that_lags_too_far_gets_no_held_ticks(server):
    server.unanswered.add("RT")
    async with connected(server) as client:
        async with client.watch_trades(AAPL, buffer=Strict(6)) as sub:
            await server.trades(5)
            await server.outage(1.0)
            await server.trades(30)
            assert prices(drain(sub)) == [1, 2, 3, 4, 5, 9]
            with pytest.raises(LaggedError):
                await anext(sub)


async def test_a_lag_on_one_topic_ends_a_subscription_with_another_topic_held(server):
    server.unanswered.add("RT")
    topics = Topic("trade", AAPL), Topic("snapshot", TSLA)
    async with connected(server) as client:
        async with client.watch(*topics, buffer=Strict(4)) as sub:
            await server.trades(2)
            await server.outage(1.0)
            await server.trades(2)
            for second in range(5):
                server.push("S", {"c": TSLA, "lp": "1", "ts": second, "s": 0})
            await asyncio.sleep(0.1)
            assert len(drain(sub)) == 5, "two trades, the gap and two snapshots"
            with pytest.raises(LaggedError):
                await anext(sub)


@pytest.mark.parametrize("ending", ["the client closes", "the reader leaves"])
async def test_a_subscription_opened_during_recovery_gets_its_ticks_at_the_end(
    server, ending
):
    server.unanswered.add("RT")
    async with connected(server) as client, client.watch_trades(AAPL):
        await server.trades(3)
        await server.outage(1.0)
        await server.trades(2)
        async with client.watch_trades(AAPL) as later:
            await server.trades(3)  # Held back, and then the link is lost.
            server.net.script.append(60.0)
            server.peer.end()
            await asyncio.sleep(1.0)
            await (client if ending == "the client closes" else later).aclose()
            assert set(server.prices()[-3:]) <= set(prices(drain(later)))


async def test_resubscribing_during_recovery_delivers_no_tick_twice(server):
    server.unanswered.add("RT")
    async with connected(server) as client, client.watch_trades(AAPL) as stays:
        async with client.watch_trades(AAPL) as sub:
            await server.trades(3)
            await server.outage(1.0)
            await server.trades(4)
            await sub.remove(AAPL)
            await sub.add(AAPL)
            await server.trades(20)
            events, all_events = drain(sub), drain(stays)
            assert kinds(events) == kinds(all_events) == "lGl"
            assert prices(events) == prices(all_events)


async def test_a_subscription_opened_during_recovery_starts_with_the_next_tick(
    server,
):
    server.unanswered.add("RT")
    async with connected(server) as client, client.watch_trades(AAPL):
        await server.trades(3)
        await server.outage(1.0)
        await server.trades(3)
        async with client.watch_trades(AAPL) as later:
            first = len(server.tape)
            await server.trades(20)
            assert prices(drain(later)) == server.prices()[first:]


async def test_trades_of_a_lost_link_keep_their_order_of_arrival(server):
    async with connected(server) as client, client.watch_trades(AAPL) as sub:
        await server.trades(20)
        server.unanswered.add("RT")
        await server.outage(1.0)
        await asyncio.sleep(0.5)
        came = len(server.tape)
        for _ in range(3):
            server.trade(ts=server.second)
        lagging = server.tape[-20:-1]  # The replies lack the newest one.
        server.unanswered.clear()
        server.data["RT"] = lagging
        await server.outage(1.0)
        await server.trades(20)
        ours = server.prices()[came : came + 3]
        assert [price for price in prices(drain(sub)) if price in ours] == ours


async def bars_around(server: ScriptedServer, *rows: Frame, final: bool) -> list[Any]:
    """Return the events of an outage of three minutes, with a late final kline first."""
    server.delay["RK"] = 0.5
    async with connected(server) as client:
        async with client.watch_klines(AAPL, interval="1m", final=final) as sub:
            server.push("K", bar(900) | {"v": "50"})
            server.push("K", bar(960) | {"v": "7"})
            await asyncio.sleep(1)
            server.data["RK"] = [{"c": AAPL, "k": list(rows)}]
            server.net.script.append(180.0)
            server.peer.end()
            await server.net.link(1)
            await asyncio.sleep(0.2)
            server.push("K", bar(960) | {"v": "60"})
            server.push("K", bar(1140) | {"v": "2"})
            await asyncio.sleep(8)
            server.push("K", bar(1200) | {"v": "1"})
            await asyncio.sleep(1)
            return drain(sub)


@pytest.mark.parametrize("final", [False, True])
async def test_no_kline_is_lost_if_an_old_one_is_pushed_late(final, server):
    starts = (900, 960, 1020, 1080)
    rows = [bar(start) | {"v": "60"} for start in starts]
    events = await bars_around(server, *rows, bar(1140), final=final)
    assert [gap.status for gap in gaps(events)] == ["filled"]
    after = [e for e in events[events.index(gaps(events)[0]) :] if isinstance(e, Tick)]
    finished = [960, 1020, 1080, 1140]
    assert [e.timestamp for e in after] == (finished if final else [*finished, 1200])


async def test_a_kline_of_a_lagging_reply_is_not_final(server):
    rows = [bar(900) | {"v": "50"}, bar(960) | {"v": "60"}, bar(1020) | {"v": "3"}]
    events = await bars_around(server, *rows, final=True)
    assert [gap.status for gap in gaps(events)] == ["unverified"]
    assert 1020 not in [e.timestamp for e in events if isinstance(e, Tick)]
