"""Gaps while the link is open: ticks that may be missing without an outage."""

# ruff: noqa: SIM117 - one client, then what is watched with it.

from __future__ import annotations

import asyncio
import itertools
import json
from datetime import UTC, datetime, timedelta

import pytest

from qos_async import Gap, Limits, Topic, Trade
from qos_async._io import clocks
from qos_async.testing.virtual import block
from tests.support.factories import drain, gaps, prices
from tests.support.scripted_server import AAPL, ScriptedServer, connected

pytestmark = pytest.mark.virtual_time

TSLA = "US:TSLA"
BAR = {"c": AAPL, "ts": 960, "kt": 1, "v": "1"} | dict.fromkeys(
    ["o", "h", "l", "cl"], "1"
)
_GARBAGE = b"\xff not JSON at all"
_BROKEN = b'{"tp":"T","c":"US:AAPL","p":[],"v":"1","ts":1007,"d":1}'


@pytest.fixture
def server() -> ScriptedServer:
    return ScriptedServer()


@pytest.mark.fault("P10")
async def test_a_topic_that_never_ticks_has_no_gap(server):
    async with connected(server) as client, client.watch_trades(AAPL) as sub:
        await asyncio.sleep(3600.0)
        assert drain(sub) == []
        assert len(server.net.peers) == 1
        assert set(server.peer.types()) == {"T"}


# The loop stood still


@pytest.mark.fault("U10", "I8")
async def test_a_blocked_loop_is_a_gap_even_if_nothing_was_missed(server):
    async with connected(server) as client, client.watch_trades(AAPL) as sub:
        await server.trades(20)
        await asyncio.sleep(0.1)
        block(61.0)
        server.trade(ts=server.second - 40)  # They waited in the socket.
        server.trade(ts=server.second - 20)
        await server.trades(10)
        events = drain(sub)
        [gap] = gaps(events)
        assert prices(events) == server.prices()
        assert events.index(gap) == 20
        assert gap.status == "filled"
        assert gap.recovered == 0
        assert gap.reason == "nothing was read for 62 s: the event loop was blocked"
        assert gap.until - gap.since > timedelta(seconds=61)
        assert len(server.net.peers) == 1, "a link that stands is kept"


@pytest.mark.fault("U10")
async def test_trades_dropped_by_the_server_while_the_loop_was_blocked_are_recovered(
    server,
):
    async with connected(server) as client, client.watch_trades(AAPL) as sub:
        await server.trades(20)
        held_back = server.push
        server.push = lambda *_: None
        block(30.0)
        for age in (25, 15, 5):
            server.trade(ts=server.second - age)
        server.push = held_back
        await server.trades(10)
        events = drain(sub)
        [gap] = gaps(events)
        assert (gap.status, gap.recovered) == ("filled", 3)
        assert prices(events) == server.prices()
        assert [t.recovered for t in events[21:25]] == [True, True, True, False]


@pytest.mark.fault("U10")
async def test_a_quiet_topic_gets_the_gap_of_a_blocked_loop_with_the_heartbeat(
    server,
):
    async with connected(server, recover=False) as client:
        async with client.watch_snapshots(AAPL) as sub:
            await asyncio.sleep(1.0)
            block(61.0)
            await asyncio.sleep(1.0)
            [gap] = gaps(drain(sub))
            assert (gap.status, gap.topic) == ("unfilled", Topic("snapshot", AAPL))


@pytest.mark.fault("U10")
async def test_a_loop_blocked_for_less_than_the_silence_timeout_is_no_gap(server):
    async with connected(server) as client, client.watch_trades(AAPL) as sub:
        await server.trades(5)
        block(20.0)
        await server.trades(20)
        assert gaps(drain(sub)) == []


@pytest.mark.fault("U10", "T3")
async def test_a_link_lost_while_the_loop_was_blocked_is_one_gap(server):
    async with connected(server) as client, client.watch_trades(AAPL) as sub:
        await server.trades(20)
        block(61.0)
        server.trade()
        server.peer.end(1006)
        await asyncio.sleep(5.0)
        await server.trades(10)
        events = drain(sub)
        [gap] = gaps(events)
        assert gap.reason == "nothing was read for 62 s: the event loop was blocked"
        assert prices(events) == server.prices()


# The machine slept


class Clock:
    """The clocks of a machine that may sleep."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.asleep = 0.0
        patch.setattr(clocks, "_total_suspended", lambda: self.asleep)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.mark.fault("U11", "I8")
async def test_a_suspended_machine_is_a_gap_from_before_the_suspension(server, clock):
    async with connected(server) as client, client.watch_trades(AAPL) as sub:
        await server.trades(20)
        clock.asleep += 3600.0
        count = len(server.sent_at)
        await asyncio.sleep(30.0)
        assert [kind for _, kind in server.sent_at[count:]][:2] == ["H", "RT"]
        await server.trades(10)
        events = drain(sub)
        [gap] = gaps(events)
        assert gap.reason == "the machine slept for 3600 s"
        assert timedelta(seconds=3600) < gap.until - gap.since < timedelta(seconds=3660)
        assert abs(datetime.now(UTC) - gap.until) < timedelta(seconds=60)
        assert prices(events) == server.prices()


@pytest.mark.fault("U11")
async def test_a_suspension_in_an_outage_is_part_of_the_gap(server, clock):
    async with connected(server) as client:
        async with client.watch_trades(AAPL) as sub:
            async with client.watch_klines(AAPL, interval="1m") as bars:
                await server.trades(20)
                server.push("K", BAR)
                server.net.script.append(40.0)
                server.peer.end()
                await asyncio.sleep(1.0)
                clock.asleep += 7200.0
                await asyncio.sleep(60.0)
                for events in (drain(sub), drain(bars)):
                    [gap] = gaps(events)
                    assert gap.until - gap.since > timedelta(seconds=7240)
                frames = server.net.peers[-1].sent
                [requested] = [frame for frame in frames if frame["type"] == "RK"]
                assert requested["kline_reqs"][0]["co"] >= 120, "the bars of two hours"


@pytest.mark.fault("U11")
async def test_a_suspension_during_recovery_is_part_of_the_gap(server, clock):
    server.delay["RT"] = 20.0
    async with connected(server) as client, client.watch_trades(AAPL) as sub:
        await server.trades(20)
        await server.outage(1.0)
        await asyncio.sleep(2.0)
        clock.asleep += 7200.0
        await asyncio.sleep(30.0)
        [gap] = gaps(drain(sub))
        assert gap.until - gap.since > timedelta(seconds=7200)


@pytest.mark.fault("U11")
async def test_the_first_tick_after_a_suspension_comes_after_its_gap(
    server, clock, monkeypatch
):
    now = [1_000_000_000_000]
    monkeypatch.setattr("qos_async._io.clocks.time.time_ns", lambda: now[0])
    async with connected(server, recover=False) as client:
        async with client.watch_trades(AAPL) as sub:
            await server.trades(5, every=0.01)
            clock.asleep += 30.0
            now[0] += 30_000_000_000
            count = len(server.sent_at)
            server.trade()  # Before any timer of the client is due.
            await asyncio.sleep(0.1)
            assert [kind for _, kind in server.sent_at[count:]] == ["H"]
            events = drain(sub)
            assert isinstance(events[5], Gap)
            assert prices(events) == server.prices()


@pytest.mark.fault("U11")
async def test_a_short_suspension_is_no_gap(server, clock):
    async with connected(server) as client, client.watch_trades(AAPL) as sub:
        await server.trades(5)
        clock.asleep += 10.0
        await asyncio.sleep(30.0)
        await server.trades(5)
        assert gaps(drain(sub)) == []


@pytest.mark.fault("U11")
def test_a_suspension_is_the_boot_clock_minus_the_loop_clock(monkeypatch):
    boot, running = [100.0], [40.0]
    monkeypatch.setattr(clocks, "_boot_time", lambda: boot[0])
    monkeypatch.setattr("qos_async._io.clocks.time.monotonic", lambda: running[0])
    watch = clocks.SuspendDetector()
    boot[0], running[0] = 107.0, 47.0
    assert watch.seconds_suspended() == 0.0
    boot[0], running[0] = 167.0, 50.0
    assert watch.seconds_suspended() == 57.0
    assert watch.seconds_suspended() == 0.0


@pytest.mark.fault("U11")
def test_a_system_without_a_boot_clock_uses_the_wall_clock(monkeypatch):
    monkeypatch.delattr("qos_async._io.clocks.time.CLOCK_BOOTTIME", raising=False)
    monkeypatch.setattr("qos_async._io.clocks.time.time", lambda: 1234.5)
    assert clocks._boot_time() == 1234.5


# Unreadable frames


@pytest.mark.fault("P12", "P19")
async def test_an_unreadable_trade_is_a_gap_of_its_topic_alone(server):
    async with connected(server) as client:
        async with client.watch_trades(AAPL, TSLA) as sub:
            for _ in range(10):
                server.trade(TSLA)
                await server.trades(1)
            server.tape.append(
                {"c": AAPL, "p": "7007", "v": "1", "ts": server.second, "d": 1}
            )
            server.peer.push(_BROKEN)
            for _ in range(10):
                server.trade(TSLA)
                await server.trades(1)
            events = drain(sub)
            [gap] = gaps(events)
            assert gap.topic == Topic("trade", AAPL)
            assert gap.reason == "a frame could not be read"
            assert (gap.status, gap.recovered) == ("filled", 1)
            ours = [e for e in events if isinstance(e, Trade) and e.symbol == AAPL]
            assert prices(ours) == server.prices()
            assert client.stats.unreadable == 1


@pytest.mark.fault("P12", "P13", "P14")
@pytest.mark.parametrize(
    "noise",
    [_GARBAGE, b"", b"null", b"[]", b"5", b'{"tp":5}', b'{"tp":"T","c":5}'],
    ids=repr,
)
async def test_a_frame_that_may_be_of_any_topic_is_a_gap_of_all(server, noise):
    async with connected(server) as client:
        async with client.watch_trades(AAPL, TSLA) as sub:
            await asyncio.sleep(2.0)
            server.peer.push(noise)
            await asyncio.sleep(10.0)
            topics = [gap.topic.symbol for gap in gaps(drain(sub))]
            assert sorted(topics) == [AAPL, TSLA]
            assert len(server.net.peers) == 1, "the link is none the worse"


@pytest.mark.fault("P12")
@pytest.mark.parametrize(
    "tp", [b"", b'"tp":null,', b'"tp":"",', b'"tp":"t",', b'"tq":"T",']
)
async def test_a_trade_without_a_type_is_a_gap_of_its_symbol(server, tp):
    async with connected(server) as client:
        async with client.watch_trades(AAPL, TSLA) as sub:
            await server.trades(3)
            row = {"c": AAPL, "p": "7007", "v": "1", "ts": server.second, "d": 1}
            server.tape.append(row)
            server.peer.push(b"{" + tp + json.dumps(row)[1:].encode())
            await server.trades(20)
            events = drain(sub)
            [gap] = gaps(events)
            assert (gap.topic, gap.status) == (Topic("trade", AAPL), "filled")
            assert prices(events) == server.prices()
            assert client.stats.unreadable == 1


@pytest.mark.fault("P12")
async def test_a_type_in_the_wrong_case_is_a_gap_of_its_channel_alone(server):
    async with connected(server) as client:
        async with client.watch_trades(AAPL) as sub:
            async with client.watch_snapshots(AAPL) as states:
                await server.trades(3)
                server.peer.push(b'{"tp":"t","c":"US:AAPL","p":"1"}')
                await server.trades(20)
                assert len(gaps(drain(sub))) == 1
                assert gaps(drain(states)) == []


@pytest.mark.fault("P12")
@pytest.mark.parametrize(
    "noise",
    [
        b'{"tp":"T","c":"US:MSFT","p":[]}',
        b'{"tp":"D","c":"US:AAPL","b":5}',
        b'{"tp":"K","c":"US:AAPL","kt":5,"o":[]}',
        b'{"type":"RT","reqid":[],"msg":5}',
        b'{"tp":"Z","c":"US:AAPL"}',
    ],
    ids=["another symbol", "another channel", "another interval", "answer", "unknown"],
)
async def test_an_unreadable_frame_of_other_topics_is_no_gap(server, noise):
    async with connected(server) as client:
        async with client.watch_trades(AAPL) as sub:
            async with client.watch_klines(AAPL, interval="1m") as bars:
                await server.trades(3)
                server.peer.push(noise)
                await server.trades(20)
                assert gaps(drain(sub)) == []
                assert gaps(drain(bars)) == []


@pytest.mark.fault("P12", "P19")
async def test_an_unreadable_kline_is_a_gap_of_its_interval(server):
    async with connected(server) as client:
        async with client.watch_klines(AAPL, interval="1m") as minutes:
            async with client.watch_klines(AAPL, interval="5m") as fives:
                await asyncio.sleep(1)
                server.peer.push(b'{"tp":"K","c":"US:AAPL","kt":5,"o":[]}')
                await asyncio.sleep(10)
                assert gaps(drain(minutes)) == []
                [gap] = gaps(drain(fives))
                assert gap.topic == Topic("kline", AAPL, "5m")


@pytest.mark.fault("P12")
async def test_another_unreadable_frame_widens_the_gap(server):
    async with connected(server) as client, client.watch_trades(AAPL) as sub:
        await server.trades(20)
        for price in (7001, 7002, 7003):  # The second while the first is recovered.
            row = {"c": AAPL, "p": str(price), "v": "1", "ts": server.second, "d": 1}
            server.tape.append(row)
            server.peer.push(_BROKEN)
            await server.trades(2)
        await server.trades(10)
        events = drain(sub)
        [gap] = gaps(events)
        assert gap.status == "filled"
        assert gap.recovered >= 3, "ticks pushed meanwhile count as recovered, too"
        assert prices(events) == server.prices()


@pytest.mark.fault("P12", "I9")
async def test_a_reply_to_a_request_from_before_the_frame_is_discarded(server):
    server.delay["RT"] = 1.2  # The tape moves on meanwhile.
    async with connected(server) as client, client.watch_trades(AAPL) as sub:
        await server.trades(20)
        server.peer.push(_BROKEN)
        await server.trades(4)  # By now the request is in flight.
        row = {"c": AAPL, "p": "7002", "v": "1", "ts": server.second, "d": 1}
        server.tape.append(row)
        server.peer.push(_BROKEN)
        await server.trades(20)
        events = drain(sub)
        [gap] = gaps(events)
        assert prices(events) == server.prices()
        assert gap.status == "filled"


@pytest.mark.fault("P12")
async def test_a_snapshot_requested_before_the_frame_does_not_replace_it(
    server,
):
    server.delay["RS"] = 1.5
    server.rows["RS", AAPL] = {"c": AAPL, "lp": "1", "ts": 1, "s": 0}
    async with connected(server) as client, client.watch_snapshots(AAPL) as sub:
        server.push("S", server.rows["RS", AAPL])
        server.peer.push(b'{"tp":"S","c":"US:AAPL","lp":[]}')
        await asyncio.sleep(1.0)  # By now the request is in flight.
        server.rows["RS", AAPL] = {"c": AAPL, "lp": "2", "ts": 2, "s": 0}
        server.peer.push(b'{"tp":"S","c":"US:AAPL","lp":[]}')
        await asyncio.sleep(10.0)
        assert int(drain(sub)[-1].last_price) == 2


@pytest.mark.fault("P12", "T1")
async def test_a_link_that_ends_with_an_unreadable_frame_is_restored_before_its_gap(
    server,
):
    async with connected(server, recover=False) as client:
        async with client.watch_trades(AAPL) as sub:
            await server.trades(5)
            server.peer.push(_BROKEN)
            await server.outage(5.0)
            await server.trades(5)
            [gap] = gaps(drain(sub))
            assert gap.until - gap.since > timedelta(seconds=5)


@pytest.mark.fault("P12", "I3")
async def test_a_flood_of_unreadable_frames_holds_ticks_for_a_bounded_time(server):
    limits = Limits(command_interval=1.0)
    async with connected(server, limits=limits) as client:
        async with client.watch_trades(AAPL) as sub:
            await server.trades(20)
            oldest = 0.0
            for _ in range(400):
                server.peer.push(_GARBAGE)
                server.trade()
                await asyncio.sleep(0.25)
                oldest = 0.0 if drain(sub) else oldest + 0.25
                assert oldest <= 5.5
            beats = [at for at, kind in server.sent_at if kind == "H"]
            assert all(b - a <= 20 for a, b in itertools.pairwise(beats))
            assert len(beats) >= 5
            assert len(server.net.peers) == 1


@pytest.mark.fault("P12")
async def test_unknown_frames_do_not_delay_the_request_for_missed_data(
    server,
):
    async with connected(server) as client, client.watch_trades(AAPL) as sub:
        waits = list[float]()
        for _ in range(60):
            server.peer.push(b"ping")
            server.trade()
            before = len(drain(sub))
            await asyncio.sleep(0.5)
            waits = [*waits, 0.5] if not before else []
            assert sum(waits) <= 2.0
        assert server.peer.types().count("RT") > 10


@pytest.mark.fault("P12")
async def test_without_recovery_an_unreadable_frame_is_a_gap_at_once(server):
    async with connected(server, recover=False) as client:
        async with client.watch_trades(AAPL) as sub:
            await server.trades(3)
            server.peer.push(_BROKEN)
            await asyncio.sleep(0)
            server.trade()
            await asyncio.sleep(0.01)
            events = drain(sub)
            assert [type(event) for event in events] == [
                Trade,
                Trade,
                Trade,
                Gap,
                Trade,
            ]
            assert events[3].status == "unfilled"
            assert "RT" not in server.net.peers[0].types()


@pytest.mark.fault("P12", "U5", "I8")
async def test_a_subscription_opened_during_recovery_of_a_gap_gets_the_next_gap(
    server,
):
    server.unanswered.add("RT")
    async with connected(server) as client, client.watch_trades(AAPL):
        await server.trades(3)
        server.peer.push(_BROKEN)
        await server.trades(2)
        async with client.watch_trades(AAPL) as later:
            await server.trades(2)
            server.peer.push(_BROKEN)
            await server.trades(30)
            events = drain(later)
            assert len(gaps(events)) == 1
            ours = server.prices()[5:]
            assert [price for price in prices(events) if price in ours] == ours


@pytest.mark.fault("P12")
async def test_a_subscription_opened_after_the_frame_gets_no_gap(server):
    async with connected(server) as client, client.watch_trades(AAPL):
        await server.trades(3)
        server.peer.push(_BROKEN)
        await server.trades(20)
        async with client.watch_trades(AAPL) as later:
            await server.trades(5)
            assert gaps(drain(later)) == []
