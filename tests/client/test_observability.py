"""Observability of a client: stats, report and log."""

# ruff: noqa: SIM117 - one client, then what is watched with it.

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from qos_async import (
    AuthenticationError,
    Client,
    DropOldest,
    Latest,
    Limits,
    LinkState,
    Timing,
)
from qos_async._core.queries import Queries
from qos_async._io.transport import DialError
from qos_async.errors import TransportError
from qos_async.sim import Simulator
from tests.support.leak_check import assert_absent
from tests.support.memory_transport import KEY, Network, kline, opened, snapshot, trade
from tests.support.scripted_server import AAPL, ScriptedServer, connected

virtual = pytest.mark.virtual_time


@pytest.fixture
def server() -> ScriptedServer:
    return ScriptedServer()


@pytest.fixture
def wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the wall clock follow the virtual clock, from second 400 on."""
    now = lambda: 400.0 + asyncio.get_running_loop().time()  # noqa: E731
    monkeypatch.setattr(time, "time", now)
    monkeypatch.setattr(time, "time_ns", lambda: int(now() * 1e9))


def lines(caplog: pytest.LogCaptureFixture, level: int = logging.INFO) -> list[str]:
    return [
        f"{record.levelname} {record.getMessage()}"
        for record in caplog.records
        if record.name.startswith("qos_async") and record.levelno >= level
    ]


async def settle() -> None:
    await asyncio.sleep(0.01)


# Frames and ticks


@virtual
async def test_frames_and_their_bytes_are_counted_both_ways():
    net = Network()
    async with opened(net) as client, client.watch_trades(AAPL):
        before = client.stats
        net.peers[0].push(b'{"tp":"X"}', b"?")
        await settle()
        after = client.stats
        assert after.frames_received == before.frames_received + 2
        assert after.bytes_received == before.bytes_received + 11
        assert (after.unknown, after.unreadable) == (1, 1)
        [frame] = net.frames
        assert after.frames_sent == 1
        assert len(frame["type"]) < after.bytes_sent < 100


@virtual
async def test_ticks_are_counted_by_channel_even_without_a_subscription():
    net = Network()
    async with opened(net) as client:
        async with client.watch_trades(AAPL), client.watch_klines(AAPL, interval="1m"):
            net.peers[0].push(
                trade(), trade(), kline(60), snapshot(), trade(symbol="HK:7")
            )
            await settle()
        net.peers[0].push(trade())
        await settle()
        stats = client.stats
    assert stats.ticks_by_channel == {"snapshot": 1, "trade": 4, "depth": 0, "kline": 1}
    assert stats.ticks == 6
    assert stats.unrouted == 3


# Links


@virtual
@pytest.mark.parametrize(
    ("error", "word"),
    [
        (DialError("nobody home"), "unreachable"),
        (DialError("late", label="timeout"), "timeout"),
        (TransportError("something"), "other"),
    ],
)
async def test_an_attempt_that_failed_has_a_reason(error, word):
    net = Network(error)
    async with opened(net, jitter=0.0) as client, client.watch_trades(AAPL):
        assert client.stats.reconnects_by_reason == {word: 1}


@virtual
@pytest.mark.parametrize(
    ("code", "word"), [(None, "broken"), (1001, "close 1001"), (3210, "close 3xxx")]
)
async def test_a_link_that_ended_has_a_reason(code, word):
    net = Network()
    async with opened(net, jitter=0.0) as client, client.watch_trades(AAPL):
        net.peers[0].end(code)
        await net.link(1)
        assert client.stats.reconnects_by_reason == {word: 1}
        assert client.stats.reconnects == 1


@virtual
async def test_silence_and_a_server_that_stopped_reading_are_reasons():
    net = Network()
    async with opened(net, jitter=0.0) as client, client.watch_trades(AAPL):
        net.respond = lambda peer, frame: None
        await net.link(1)
        assert client.stats.reconnects_by_reason == {"silence": 1}
        net.respond = lambda peer, frame: "OK"
        net.peers[1].stops_reading = True
        await net.link(2)
        assert client.stats.reconnects_by_reason == {"silence": 1, "send": 1}


@virtual
async def test_a_key_rejected_while_the_old_link_lingers_is_a_reason():
    net = Network(None, AuthenticationError("no"))
    async with opened(net, jitter=0.0) as client, client.watch_trades(AAPL):
        net.peers[0].end()
        await net.link(1)
        assert client.stats.reconnects_by_reason == {"broken": 1, "key refused": 1}


# Readers


@virtual
async def test_losses_of_closed_subscriptions_stay_counted():
    net = Network()
    async with opened(net) as client:
        async with client.watch_trades(AAPL, buffer=DropOldest(2)) as trades:
            net.peers[0].push(*[trade(price) for price in range(5)])
            await settle()
            assert client.stats.dropped == trades.stats.dropped == 3
            await trades.aclose()
            assert client.stats.dropped == 3
        assert client.stats.dropped == 3
        assert client.stats.subscriptions == 0


@virtual
async def test_closing_the_client_closes_subscriptions_whose_buffers_can_be_read():
    net = Network()
    async with opened(net) as client:
        trades = client.watch_trades(AAPL)
        await net.link()
        net.peers[0].push(trade())
        await settle()
        assert client.stats.subscriptions == 1
        await client.aclose()
        assert (client.stats.subscriptions, client.stats.backlog) == (0, 1)
        assert [tick.price async for tick in trades] == [1]
        assert client.stats.backlog == 0


@virtual
@pytest.mark.usefixtures("wall_clock")
@pytest.mark.parametrize("buffer", [DropOldest(), Latest()])
async def test_the_lag_is_the_age_of_the_oldest_buffered_tick(buffer):
    net = Network()
    async with opened(net) as client:
        async with (
            client.watch_trades(AAPL, "HK:7", buffer=buffer) as slow,
            client.watch_snapshots(AAPL) as quick,
        ):
            assert client.stats.consumer_lag == slow.stats.lag == 0
            net.peers[0].push(trade(1))
            await asyncio.sleep(2.0)
            net.peers[0].push(trade(2, "HK:7"), snapshot())
            await asyncio.sleep(1.0)
            assert slow.stats.lag == pytest.approx(3.0)
            assert quick.stats.lag == pytest.approx(1.0)
            assert client.stats.consumer_lag == pytest.approx(3.0)
            assert (client.stats.backlog, client.stats.subscriptions) == (3, 2)
            await anext(slow)
            assert client.stats.consumer_lag == pytest.approx(1.0)
            await anext(slow)
            await anext(quick)
            assert client.stats.consumer_lag == client.stats.backlog == 0


@virtual
@pytest.mark.usefixtures("wall_clock")
async def test_recovered_ticks_have_no_age_and_live_ones_have(server):
    async with connected(server) as client, client.watch_trades(AAPL) as trades:
        await server.trades(5)
        while trades.stats.backlog:
            await anext(trades)
        await server.outage(lasting=2.0)
        await server.trades(20)
        assert trades.stats.recovered
        received = [t.received_at for t in trades._queue.buffer._ticks]  # type: ignore[attr-defined]
        assert received[0] == 0
        first = min(filter(None, received))
        assert trades.stats.lag == pytest.approx(time.time() - first / 1e9)


@virtual
async def test_growing_klines_are_counted_separately():
    net = Network()
    async with opened(net) as client:
        async with client.watch_klines(AAPL, interval="1m", final=True) as klines:
            net.peers[0].push(kline(60), kline(60), kline(120))
            await settle()
            assert (klines.stats.received, klines.stats.unfinished) == (1, 2)


# Outages


@virtual
async def test_gaps_are_counted_by_status_and_recovered_ticks_one_by_one(server):
    async with connected(server) as client, client.watch_trades(AAPL) as trades:
        await server.trades(5)
        await server.outage(lasting=3.0)
        await server.trades(20)
        server.unanswered.add("RT")
        await server.outage(lasting=3.0)
        await server.trades(40)
        stats = client.stats
        assert stats.gaps_by_status["filled"] == 1
        assert stats.gaps == sum(stats.gaps_by_status.values()) == 2
        assert stats.recovered == trades.stats.recovered > 0


@virtual
async def test_held_ticks_are_counted(server):
    async with connected(server) as client, client.watch_trades(AAPL):
        await server.trades(5)
        server.unanswered.add("RT")
        await server.outage(lasting=3.0)
        await server.trades(4)
        assert client.stats.held > 0
        await server.trades(40)
        assert client.stats.held == 0


# The conversation


@virtual
async def test_commands_wait_for_the_pace_of_the_plan(server):
    async with connected(server, limits=Limits(command_interval=1.0)) as client:
        await client.connect()
        await asyncio.sleep(5.0)
        assert client.stats.commands == 0
        trades, books = client.watch_trades(AAPL), client.watch_depth(AAPL)
        async with trades, books:
            stats = client.stats
            assert stats.commands == 2
            assert stats.command_wait_max == stats.command_wait_last
            assert stats.command_wait_last == pytest.approx(1.01)
            assert stats.command_wait_total == pytest.approx(1.01)


@virtual
async def test_a_request_that_waits_for_a_link_does_not_wait_for_the_pace():
    [query] = Queries(float, chunk=10).trades([AAPL], count=1)
    net = Network(4.0)
    async with opened(net) as client:
        await client._stream.fetch(query)
        assert client.stats.commands == 1
        assert client.stats.command_wait_max == 0


@virtual
async def test_time_without_a_link_is_no_wait_for_the_pace():
    [query] = Queries(float, chunk=10).trades([AAPL], count=1)
    net = Network(None, 6.0)
    slow = Limits(command_interval=1.0)
    async with opened(net, limits=slow, jitter=0.0) as client:
        async with client.watch_trades(AAPL):
            books = client.watch_depth(AAPL)
            await settle()
            net.peers[0].end()
            await asyncio.sleep(0.5)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(client._stream.fetch(query))
                await net.link(1)
            await asyncio.sleep(5.0)
            assert client.stats.commands >= 4
            assert 1.0 < client.stats.command_wait_max < 4.0
            await books.aclose()


@virtual
async def test_the_wait_of_a_request_starts_when_it_is_queued(server):
    [query] = Queries(float, chunk=10).trades([AAPL], count=1)
    async with connected(server, limits=Limits(command_interval=1.0)) as client:
        await client._stream.fetch(query)
        await asyncio.sleep(0.25)
        await client._stream.fetch(query)
        assert client.stats.command_wait_last == pytest.approx(0.75)


@virtual
async def test_the_wait_of_a_repeated_change_starts_anew():
    answers = iter([None, "OK"])
    net = Network(respond=lambda peer, frame: next(answers))
    async with opened(net) as client:
        trades = client.watch_trades(AAPL)
        await net.link()
        await net.until(lambda: len(net.frames) == 2)
        assert client.stats.commands == 2
        assert client.stats.command_wait_max < 1
        await trades.aclose()


@virtual
async def test_a_topic_removed_before_it_was_sent_is_not_waiting(server):
    async with connected(server, limits=Limits(command_interval=1.0)) as client:
        await client.connect()
        taken_back = client.watch_trades(AAPL)
        await taken_back.aclose()
        await asyncio.sleep(3.0)
        async with client.watch_trades(AAPL):
            assert client.stats.command_wait_max == 0


@virtual
async def test_a_heartbeat_measures_the_round_trip():
    net = Network(latency=0.125)
    async with opened(net) as client, client.watch_trades(AAPL):
        assert client.stats.heartbeat_round_trip is None
        await asyncio.sleep(20.0)
        assert client.stats.heartbeat_round_trip == pytest.approx(0.125)


@virtual
@pytest.mark.usefixtures("wall_clock")
async def test_the_clock_of_the_server_is_compared_with_the_wall_clock(server):
    async with connected(server) as client:
        assert client.stats.clock_offset is client.stats.clock_error is None
        async with client.watch_trades(AAPL):
            first = client.stats
            assert first.clock_offset is not None
            assert first.clock_error is not None
            # Second 1000 of the server is second 400 of the wall clock.
            assert abs(first.clock_offset - 600) <= first.clock_error < 0.6
            await asyncio.sleep(100.3)
            later = client.stats
            assert later.clock_offset is not None
            assert later.clock_error is not None
            assert abs(later.clock_offset - 600) <= later.clock_error


# The picture, and the page


@virtual
async def test_stats_do_not_change_after_they_were_taken():
    net = Network()
    async with opened(net) as client:
        before = client.stats
        async with client.watch_trades(AAPL):
            net.peers[0].end()
            await net.link(1)
        assert before.links == 0
        assert not before.reconnects_by_reason
        assert before.state is LinkState.IDLE


def test_an_unused_client_has_stats_and_a_report():
    client = Client(KEY)
    assert client.stats.links == 0
    assert client.report().splitlines()[1].startswith("state           idle for ")
    assert_absent(KEY, client.report(), client.stats.to_openmetrics())


def test_stats_can_be_read_after_the_loop_is_closed(server):
    async def main() -> Client:
        async with Simulator(rate=100.0, history=10.0) as sim:
            client = Client(
                sim.key,
                http_url=sim.http_url,
                stream_url=sim.stream_url,
                limits=sim.plan,
            )
            async with client, client.watch_trades("CF:BTCUSDT") as trades:
                await anext(trades)
                await client.fetch_snapshots("CF:BTCUSDT")
        return client

    client = asyncio.run(main())
    stats = client.stats
    assert stats.state is LinkState.CLOSED
    assert stats.clock_offset is not None
    assert abs(stats.clock_offset) < 5
    assert stats.http_bytes_sent > 0
    assert stats.http_bytes_received > 100
    assert list(text_string_to_metric_families(stats.to_openmetrics()))
    assert "closed by the user" in client.report()


@virtual
async def test_the_report_shows_each_subscription_and_the_last_reason():
    net = Network()
    async with opened(net, jitter=0.0) as client:
        async with client.watch_trades(AAPL), client.watch_depth("HK:7"):
            net.peers[0].push(trade())
            net.peers[0].end(text="evil \x1b[31m\n words")
            await net.link(1)
            await settle()
            page = client.report()
    assert "\n  trade US:AAPL: 1 received, 0 delivered, 0 dropped, " in page
    assert "\n  depth HK:7: " in page
    assert r"last reason     evil \x1b[31m\n words" in page


# The log


@virtual
async def test_a_normal_run_logs_three_lines_and_no_warning(caplog):
    net = Network()
    async with opened(net) as client:
        async with client.watch_trades(AAPL) as trades, client.watch_depth(AAPL):
            net.peers[0].push(trade())
            await anext(trades)
            await asyncio.sleep(600.0)
    assert lines(caplog) == [
        "INFO link connecting",
        "INFO link open",
        "INFO link closed: closed by the user",
    ]


@virtual
async def test_a_link_that_is_lost_is_one_warning_with_code_and_reason(caplog):
    net = Network(None, DialError("busy"))
    async with opened(net, jitter=1.0) as client, client.watch_trades(AAPL):
        net.peers[0].end(1001, "closed with 1001: bye")
        await net.link(1)
        await settle()
    assert lines(caplog)[2:-1] == [
        "WARNING link lost: closed with 1001: bye; attempt 2 in 0.5 s",
        "INFO link connecting",
        "WARNING link not opened: busy; attempt 3 in 1.0 s",
        "INFO link connecting",
        "INFO link open",
    ]


@virtual
async def test_an_unexpected_end_is_a_warning(caplog):
    net = Network(AuthenticationError("the server refused the key"))
    async with opened(net) as client:
        with pytest.raises(AuthenticationError):
            await client.connect()
    assert lines(caplog) == [
        "INFO link connecting",
        "WARNING link closed: the server refused the key",
    ]


@virtual
async def test_every_log_line_is_under_the_name_of_the_library(caplog):
    net = Network(TransportError("no"))
    async with opened(net, jitter=0.0, timing=Timing()) as client:
        async with client.watch_trades(AAPL):
            net.peers[0].push(b"?")
            await settle()
    own = [record for record in caplog.records if record.name != "asyncio"]
    assert own
    assert {record.name.partition(".")[0] for record in own} == {"qos_async"}


def test_without_a_logging_configuration_nothing_is_printed():
    handlers = logging.getLogger("qos_async").handlers
    assert {type(handler) for handler in handlers} == {logging.NullHandler}


async def test_a_normal_run_on_a_real_socket_logs_no_warning(
    sim: Simulator, dial: Any, caplog: pytest.LogCaptureFixture
):
    async with dial(sim) as client:
        await client.connect()
        await client.fetch_snapshots("CF:BTCUSDT")
        async with client.watch_trades("CF:BTCUSDT") as trades:
            await anext(trades)
            await trades.add("CF:ETHUSDT")
            await trades.remove("CF:BTCUSDT")
        await client.drain(timeout=1.0)
    assert lines(caplog, logging.WARNING) == []
    assert len(lines(caplog)) == 3
