"""Wrong, late, repeated and missing frames of the server."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from qos_async import (
    DropOldest,
    Gap,
    LimitError,
    LinkState,
    RejectedError,
    RequestTimeoutError,
    Timing,
    Trade,
)
from qos_async._core.registry import Registry
from tests.support.memory_transport import (
    Frame,
    Network,
    Peer,
    kline,
    opened,
    snapshot,
    trade,
)
from tests.support.wire_frames import ack, new_protocol
from tests.support.wire_frames import trades as topics

pytestmark = pytest.mark.virtual_time

AAPL, TSLA = "US:AAPL", "US:TSLA"


def seconds() -> float:
    return asyncio.get_running_loop().time()


def sizes(ticks: list[Any]) -> list[Decimal]:
    return [tick.price for tick in ticks]


async def taken(sub: Any, count: int) -> list[Any]:
    return [await anext(sub) for _ in range(count)]


# Heartbeats


@pytest.mark.fault("P1")
async def test_heartbeats_without_a_reply_end_a_link_without_other_frames():
    net = Network(respond=lambda peer, frame: None if frame["type"] == "H" else "OK")
    async with opened(net) as client, client.watch_trades(AAPL):
        heard_at = seconds()
        await net.link(1)
        assert 25.0 <= seconds() - heard_at < 30.0
        assert net.peers[0].closed_gracefully is False


@pytest.mark.fault("P1")
async def test_heartbeats_without_a_reply_keep_a_link_with_ticks():
    net = Network(respond=lambda peer, frame: None if frame["type"] == "H" else "OK")
    async with opened(net) as client, client.watch_trades(AAPL) as sub:
        for price in range(120):
            await asyncio.sleep(1.0)
            net.peers[0].push(trade(price))
        assert sizes(await taken(sub, 120)) == list(range(120))
        beats = [frame for frame in net.peers[0].sent if frame["type"] == "H"]
        assert len(beats) >= 120 // 30
        async with client.watch_trades(TSLA):  # Commands are still sent.
            assert len(net.peers) == 1


@pytest.mark.fault("P1", "P22")
async def test_a_late_reply_to_a_heartbeat_may_match_the_next_one():
    """A heartbeat has no id. The wrong match is harmless: the server has replied."""
    protocol = new_protocol()
    late = protocol.poll(15.0)
    protocol.receive(b'{"tp":"X"}', 20.0)
    protocol.tick(23.0)
    assert protocol.poll(30.0) == late
    protocol.receive(ack(late), 30.1)
    assert protocol.receive(ack(late), 30.5) is None
    assert protocol.stats.unmatched == 1
    assert protocol.poll(31.0) is None
    assert protocol.wake_at() == 45.0


@pytest.mark.fault("P2")
async def test_a_rejected_heartbeat_is_ignored_unless_it_names_the_key():
    net = Network(respond=lambda peer, frame: "busy" if frame["type"] == "H" else "OK")
    async with opened(net) as client, client.watch_trades(AAPL) as sub:
        await asyncio.sleep(100)
        net.peers[0].push(trade(7))
        assert (await anext(sub)).price == 7
        assert len(net.peers) == 1


# Replies


@pytest.mark.fault("P3", "P4")
async def test_a_request_without_a_reply_does_not_affect_others():
    net = Network(respond=lambda peer, f: None if f.get("codes") == [TSLA] else "OK")
    async with opened(net, timing=Timing()) as client:
        await client.connect()
        lost = asyncio.create_task(client.fetch_snapshots(TSLA, via="stream"))
        await net.peers[0].next_frame("RS")
        requested = net.peers[0].sent[-1]
        start = seconds()
        with pytest.raises(RequestTimeoutError):
            await lost
        assert seconds() - start <= 8.0
        # The late reply arrives while the next request is pending.
        net.latency = 1.0
        net.data = [{"c": AAPL, "lp": "2"}]
        request = asyncio.create_task(client.fetch_snapshots(AAPL, via="stream"))
        await net.peers[0].next_frame("RS")
        net.peers[0].answer(requested, data=[{"c": TSLA, "lp": "1"}])
        assert (await request)[AAPL].last_price == 2
        assert client.stats.unmatched == 1


STRANGE: list[dict[str, Any]] = [
    {"reqid": 10**25},
    {"reqid": -1},
    {"reqid": True},
    {"reqid": "one"},
    {"reqid": [1]},
    {"type": "S"},
    {"type": "TC"},
    {"type": "RT"},
    {"type": "H"},
]


@pytest.mark.fault("P5", "P7")
@pytest.mark.parametrize("wrong", STRANGE, ids=repr)
@pytest.mark.parametrize("message", ["OK", "no such code"])
async def test_a_reply_to_another_command_does_not_match(
    wrong: dict[str, Any], message: str
):
    def respond(peer: Peer, frame: Frame) -> str | None:
        if frame["type"] == "T":
            peer.push({"type": "T", "msg": message, "reqid": frame["reqid"]} | wrong)
            return None
        return "OK"

    net = Network(respond=respond)
    async with opened(net) as client:
        sub = client.watch_trades(AAPL)
        await asyncio.sleep(4)
        assert client.stats.unmatched == 1
        assert net.peers[0].types() == ["T"]  # It still waits.
        net.peers[0].answer(net.peers[0].sent[-1])
        net.peers[0].push(trade(3))
        assert (await anext(sub)).price == 3


@pytest.mark.fault("P4", "P5")
async def test_a_repeated_reply_changes_nothing():
    net = Network()
    async with opened(net) as client, client.watch_trades(AAPL) as sub:
        requested = net.peers[0].sent[-1]
        net.peers[0].answer(requested)
        net.peers[0].answer(requested, "no such code")
        net.peers[0].push(trade(1))
        assert (await anext(sub)).price == 1
        assert client.stats.unmatched == 2


# Subscriptions


class RejectsHeldTopic:
    """Rejects a topic that it holds, and is late with the first ack."""

    def __init__(self) -> None:
        self.late = True

    def __call__(self, peer: Peer, frame: Frame) -> str | None:
        if frame["type"] == "T":
            if ("T", AAPL, None) in peer.topics:
                return "already subscribed"
            if self.late:
                self.late = False
                peer.topics["T", AAPL, None] = None
                loop = asyncio.get_running_loop()
                loop.call_later(8.5, peer.push, {"type": "T", "msg": "OK", "reqid": 1})
                return None
        return "OK"


@pytest.mark.fault("P3", "P4", "P8")
async def test_a_live_topic_survives_two_rejections():
    net = Network(respond=RejectsHeldTopic())
    async with opened(net) as client:
        sub = client.watch_trades(AAPL)
        await asyncio.sleep(20)
        assert net.peers[0].types() == ["T", "T", "TC", "T"]
        net.peers[0].push(trade(5))
        assert (await anext(sub)).price == 5


@pytest.mark.fault("P3", "P8")
def test_a_rejection_after_a_timeout_is_final_the_second_time():
    registry, (topic,) = Registry(), topics(AAPL)
    registry.want([topic])
    additions: list[bool] = []
    for _ in range(2):
        change = registry.next_change()
        assert change is not None
        additions.append(change.add)
        registry.sent(change)
        registry.ack_timed_out(change)
        registry.expire(change)
    is_emitted = False
    while (change := registry.next_change()) is not None and len(additions) < 9:
        additions.append(change.add)
        registry.sent(change)
        is_emitted = registry.reject(change)
    assert additions == [True, True, True, False, True]
    assert is_emitted
    assert not registry.wants(topic)
    assert registry.settled


@pytest.mark.fault("P6")
async def test_a_rejection_without_type_and_id_is_of_the_last_command():
    def respond(peer: Peer, frame: Frame) -> str | None:
        if TSLA in str(frame):
            peer.push({"msg": "no such code"})
            return None
        return "OK"

    net = Network(respond=respond)
    async with opened(net) as client, client.watch_trades(AAPL) as sub:
        with pytest.raises(RejectedError) as caught:
            await client.watch_trades(TSLA).__aenter__()
        assert caught.value.symbols == (TSLA,)
        net.peers[0].push(trade(1))
        assert (await anext(sub)).price == 1


@pytest.mark.fault("P9")
async def test_symbols_over_the_plan_are_named_and_other_subscriptions_stay():
    def respond(peer: Peer, frame: Frame) -> str:
        adds = len(frame.get("codes", [""])[0].split(","))
        full = frame["type"] == "T" and len(peer.topics) + adds > 2
        return "exceeded the maximum of codes" if full else "OK"

    net = Network(respond=respond)
    async with opened(net) as client, client.watch_trades(AAPL, TSLA) as sub:
        with pytest.raises(LimitError) as caught:
            await client.watch_trades("US:NVDA").__aenter__()
        assert caught.value.symbols == ("US:NVDA",)
        net.peers[0].push(trade(1), trade(2, TSLA))
        assert sizes(await taken(sub, 2)) == [1, 2]
        # To replace a symbol, the old one is removed first.
        await sub.remove(TSLA)
        await sub.add("US:NVDA")
        assert {symbol for _, symbol, _ in net.peers[0].topics} == {AAPL, "US:NVDA"}


# Symbols


@pytest.mark.fault("P11")
async def test_a_symbol_in_the_spelling_of_the_server_is_the_requested_one():
    net = Network()
    net.data = [{"c": "US:AAPL", "lp": "2"}, {"c": "HK:700", "lp": "1"}]
    async with opened(net) as client:
        requested = ("HK:00700", "us:AAPL", "US:NONE")
        found = await client.fetch_snapshots(*requested, via="stream")
        assert list(found) == ["HK:700", AAPL]
        assert found["HK:700"].last_price == 1
        assert found.missing == ("US:NONE",)
        async with client.watch_trades("HK:00700") as sub:
            assert net.peers[0].sent[-1]["codes"] == ["HK:700"]
            net.peers[0].push(trade(1, "HK:700"), trade(2, "HK:00700"))
            ticks = await taken(sub, 2)
            assert {tick.symbol for tick in ticks} == {"HK:700"}


@pytest.mark.fault("P11")
async def test_an_unsubscribed_push_is_counted_and_ignored():
    net = Network()
    async with opened(net) as client, client.watch_trades(AAPL) as sub:
        net.peers[0].push(trade(1, "US:aapl"), trade(2, "??"), snapshot(3), trade(4))
        assert (await anext(sub)).price == 4
        assert client.stats.unrouted == 3


# Frames


@pytest.mark.fault("P19", "P20")
async def test_a_frame_that_is_neither_push_nor_reply_is_counted_and_skipped():
    net = Network()
    async with opened(net) as client, client.watch_trades(AAPL) as sub:
        before = client.stats
        net.peers[0].push({"type": "X"}, {"msg": 5}, {"tp": "Z", "c": AAPL})
        net.peers[0].push(trade(1, type="H"))
        assert (await anext(sub)).price == 1
        after = client.stats
        assert after.unmatched - before.unmatched == 2
        assert after.unknown - before.unknown == 1
        assert after.unreadable == before.unreadable


@pytest.mark.fault("P18")
@pytest.mark.parametrize("junk", ["NaN", "sNaN", "-Infinity"])
async def test_an_invalid_price_is_a_gap_and_stays_out_of_recovery(
    junk: str,
):
    net = Network()
    async with opened(net) as client, client.watch_trades(AAPL) as sub:
        events = sub.events()
        net.peers[0].push(trade(1), trade(junk), trade(2, ts=2))
        net.data = [trade(junk), trade(1)]
        assert isinstance(await anext(events), Trade)
        net.peers[0].end()
        (await net.link(1)).push(trade(3, ts=9))
        seen: list[Any] = []
        async with asyncio.timeout(60):
            while not seen or getattr(seen[-1], "price", 0) != 3:
                seen.append(await anext(events))
        assert any(isinstance(event, Gap) for event in seen)
        assert all(e.price.is_finite() for e in seen if isinstance(e, Trade))
        assert client.stats.unreadable == 1
        assert client.state is LinkState.OPEN


@pytest.mark.fault("P21")
async def test_equal_live_trades_are_delivered_as_received():
    net = Network()
    async with opened(net) as client, client.watch_trades(AAPL) as sub:
        stamps = [5, 5, 5, 3, 9, 3]
        net.peers[0].push(*[trade(1, ts=ts) for ts in stamps])
        assert [t.timestamp for t in await taken(sub, 6)] == stamps


@pytest.mark.fault("P21")
async def test_a_final_kline_is_delivered_once_however_often_it_is_pushed():
    net = Network()
    async with opened(net) as client:
        bars = client.watch_klines(AAPL, interval="1m", final=True)
        peer = await net.link()
        await peer.next_frame("K")
        await asyncio.sleep(1)
        stamps = [60, 60, 120, 60, 120, 180, 120, 240]
        peer.push(*[kline(ts) for ts in stamps])
        assert [bar.timestamp for bar in await taken(bars, 3)] == [60, 120, 180]


@pytest.mark.fault("P21")
async def test_snapshots_are_delivered_as_received_even_if_older():
    net = Network()
    async with opened(net) as client:  # noqa: SIM117 - first the client
        async with client.watch_snapshots(AAPL, buffer=DropOldest(9)) as sub:
            net.peers[0].push(*[snapshot(1, ts=ts) for ts in (5, 5, 4)])
            assert [tick.timestamp for tick in await taken(sub, 3)] == [5, 5, 4]
