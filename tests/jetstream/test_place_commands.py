"""Commands over a stream: info, convert, archive, replay and doctor, on a real server."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import json
import os
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from qos_async import Client, Gap, Limits, RecordingError, Trade, replay
from qos_async.cli import main
from qos_async.jetstream.places import parse_place
from qos_async.jetstream.streams import StreamOptions, ensure_stream
from qos_async.jetstream.summary import stream_summary
from qos_async.jetstream.wire import Wire
from qos_async.recordings import Recorder, archive, convert, follow
from qos_async.recordings.replay_server import ReplayServer
from qos_async.sim import Simulator
from tests.support.cli_process import Ran
from tests.support.nats_servers import NatsServer
from tests.support.written_stream import Writer

pytest.importorskip("nats")

SYMBOLS = ("CF:BTCUSDT", "US:AAPL")
LATER = datetime(2100, 1, 1, tzinfo=UTC)


class Recorded:
    """A stream that was recorded, and what the recorded client received."""

    def __init__(self, place: str) -> None:
        self.place, self.stream = place, place.rpartition("/")[2]
        self.trades: list[Any] = []

    async def record(self) -> None:
        recorder = Recorder(self.place, name="main", lease=1)
        async with (
            Simulator(rate=50) as sim,
            Client(
                sim.key,
                http_url=sim.http_url,
                stream_url=sim.stream_url,
                recorder=recorder,
                limits=Limits(command_interval=0.01),
            ) as client,
            client.watch_trades(*SYMBOLS) as trades,
        ):
            gaps, recovered_at = 0, 0
            async for event in trades.events():
                if isinstance(event, Gap):
                    gaps, recovered_at = gaps + 1, time.time_ns()
                if isinstance(event, Trade):
                    self.trades.append(event)
                    if len(self.trades) == 40:
                        sim.cut()
                    # The last ten were received after the outage.
                    recent = self.trades[-10:][0].received_at or 0
                    if gaps == len(SYMBOLS) and recent > recovered_at:
                        break


@pytest.fixture(scope="module")
def recorded(_node_of_session: NatsServer) -> Recorded:
    made = Recorded(f"{_node_of_session.url}/C{os.getpid()}")
    asyncio.run(made.record())
    return made


@pytest.fixture
def qos(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run a command in this process."""

    def run(*words: Any) -> Ran:
        code = main([str(word) for word in words])
        out, err = capfd.readouterr()
        return Ran(code, out, err)

    return run


async def played(place: Any, **options: Any) -> list[Any]:
    async with replay(place, None, **options) as client:
        topics = client.topics
        return [tick async for tick in client.watch(*topics)] if topics else []


# Replay


async def test_a_slice_of_a_stream_by_place_goes_on_where_another_ended(recorded):
    whole = await played(recorded.place)
    assert len(whole) >= 80
    for number in (5, 20, len(whole) - 1):
        middle = whole[number].place
        first = await played(recorded.place, end=middle)
        rest = await played(recorded.place, start=middle)
        assert [one.place for one in first + rest] == [one.place for one in whole]


async def test_a_slice_of_a_stream_by_time_has_what_was_received_then(recorded):
    whole = await played(recorded.place)
    at = [one.received_at for one in whole if one.received_at]
    start, end = sorted(at)[20] // 1000, sorted(at)[-10] // 1000
    times = [datetime.fromtimestamp(one / 1e6, UTC) for one in (start, end)]
    found = await played(recorded.place, start=times[0], end=times[1])
    live = [one.received_at // 1000 for one in found if one.received_at]
    # It begins with what was stored then, which was received a little earlier.
    assert sorted(one for one in live if one >= start) == sorted(
        one // 1000 for one in at if start <= one // 1000 < end
    )
    assert len(live) < len(at)


async def test_an_end_in_another_stream_is_an_error(recorded):
    place = f"{1:013d}.main.{1:016d}.{1:010d}.00000"
    with pytest.raises(RecordingError, match=r"is not in nats://.*another recording"):
        await played(recorded.place, end=place)


async def test_a_stream_is_served_as_if_it_were_live(recorded):
    whole = await played(recorded.place)
    async with ReplayServer(recorded.place, speed=1000) as server:
        assert {topic.symbol for topic in server.contents.topics} == set(SYMBOLS)
        async with Client(
            server.key,
            http_url=server.http_url,
            stream_url=server.stream_url,
            limits=Limits(command_interval=0.0),
        ) as client:
            found: list[Any] = []
            async for trade in client.watch_trades(*SYMBOLS):
                found.append(trade)
                if {one.symbol for one in found} == set(SYMBOLS):
                    break
    assert {one.price for one in found} <= {one.price for one in whole}


# Info


def test_info_shows_topics_gaps_recorders_and_limits(recorded, qos):
    ran = qos("info", recorded.place)
    assert ran.code == 0, ran.err
    assert ran.lines[0] == recorded.place
    assert "  replicas    1" in ran.out
    assert re.search(r"  recorder    main: epoch \d{13} \(1 epoch kept\), ", ran.out)
    assert "  lease       main: released" in ran.out
    assert "  topics      2 trade: CF:BTCUSDT (" in ran.out
    assert "trade CF:BTCUSDT: " in ran.out
    assert "recovered: the connection broke" in ran.out


def test_info_is_one_json_object(recorded, qos):
    found = json.loads(qos("info", recorded.place, "--json").out)
    assert found["kind"] == "stream"
    assert set(found["topics"]) == {"trade CF:BTCUSDT", "trade US:AAPL"}
    assert found["max_bytes"] > 0
    [recorder] = found["recorders"]
    assert (recorder["name"], recorder["lease"]) == ("main", "released")
    ended = [gap for gap in found["gaps"] if gap["until"]]
    assert {gap["topic"] for gap in ended} == set(found["topics"])


async def test_info_shows_who_has_a_durable_name(node, stream_name):
    place = f"{node.url}/{stream_name}"
    await create(place)
    await begin(place)
    async with follow(place, durable="bot-1"):
        [found] = (await stream_summary(parse_place(place, {}))).durables
    assert (found.name, found.host) == ("bot-1", socket.gethostname())
    assert (found.pid, found.behind) == (os.getpid(), 0)


def test_info_shows_durable_names_as_they_were_given(node, stream_name, qos):
    place = f"{node.url}/{stream_name}"

    async def handle() -> None:
        await create(place)
        await begin(place)
        async with follow(place, durable="bot-1"):
            pass
        await begin(place)  # Two more messages.

    asyncio.run(handle())
    ran = qos("info", place)
    [line] = [line for line in ran.lines if "bot-1" in line]
    assert line.startswith("  durable     bot-1: no process has it, written at 20")
    assert line.endswith(", 2 messages behind")
    assert "KV" not in ran.out
    [found] = json.loads(qos("info", place, "--json").out)["durables"]
    assert (found["name"], found["behind"], found["pid"]) == ("bot-1", 2, 0)


@pytest.mark.parametrize("command", ["info", "convert", "archive", "replay", "doctor"])
def test_a_stream_that_does_not_exist_is_reported(command, node, qos, tmp_path):
    more = ["-o", tmp_path / "out"] if command in ("convert", "archive") else []
    ran = qos(command, f"{node.url}/NOSUCH", *more)
    assert ran.code == 1
    assert "NOSUCH" in ran.out + ran.err
    assert "qos record" in (ran.out + ran.err).replace("\n", " ")
    assert not (tmp_path / "out").exists()


# Convert


def test_a_stream_is_converted_with_each_trade_once(recorded, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    made = convert(recorded.place, tmp_path, numbers=str)
    tables = [parquet.ParquetFile(file).read().to_pylist() for file in made.files]
    received = Counter((t.symbol, str(t.price), str(t.size)) for t in recorded.trades)
    found = Counter(
        (row["symbol"], row["price"], row["size"]) for table in tables for row in table
    )
    assert received <= found
    assert made.rows == {"trade": found.total()}
    assert {file.name for file in made.files} == {f"{recorded.stream}.parquet"}


def test_csv_has_the_symbols_and_times_that_were_named(recorded, qos, tmp_path):
    ran = qos(
        "convert", recorded.place, "-o", tmp_path, "--csv", "--symbols", "US:AAPL"
    )
    assert ran.code == 0, ran.err
    [file] = tmp_path.glob("channel=trade/date=*/*.csv")
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert {row["symbol"] for row in rows} == {"US:AAPL"}
    assert any(int(row["received_at"]) for row in rows)
    ran = qos("convert", recorded.place, "-o", tmp_path / "a", "--csv", "--from", "2h")
    assert ran.code == 0, ran.err
    assert "trade rows, " in ran.err
    ran = qos("convert", recorded.place, "-o", tmp_path / "none", "--to", "2h")
    assert ran.code == 0, ran.err
    assert "no rows, 0 files" in ran.err


def test_a_stream_without_the_symbols_says_which_it_has(recorded, qos, tmp_path):
    ran = qos("convert", recorded.place, "-o", tmp_path / "o", "--symbols", "US:NOSUCH")
    assert ran.code == 1
    symbols = ", ".join(SYMBOLS)
    words = f"qos: {recorded.place} has no US:NOSUCH: its symbols are {symbols}\n"
    assert ran.err == words
    assert not (tmp_path / "o").exists()
    names = "US:NOSUCH,AAPL"
    ran = qos("convert", recorded.place, "-o", tmp_path / "o", "--symbols", names)
    assert ran.code == 0
    assert "US:NOSUCH: the recording has no such symbol" in ran.err


# Archive


def digests(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


@pytest.mark.fault("N73")
async def test_an_archive_of_a_stream_has_the_same_bytes_again(recorded, tmp_path):
    made = await asyncio.to_thread(archive, recorded.place, tmp_path, now=LATER)
    assert [one.market for one in made.written] == ["CF", "US"]
    before = digests(tmp_path)
    again = await asyncio.to_thread(archive, recorded.place, tmp_path, now=LATER)
    assert again.written == ()
    assert len(again.unchanged) == 2
    elsewhere = tmp_path / "elsewhere"
    await asyncio.to_thread(archive, recorded.place, elsewhere, now=LATER)
    assert digests(elsewhere) == before
    assert len(before) == 3


@pytest.mark.fault("N73")
async def test_ticks_of_an_archive_keep_their_places(recorded, tmp_path):
    await asyncio.to_thread(archive, recorded.place, tmp_path, now=LATER)
    whole = await played(recorded.place)
    for market in ("CF", "US"):
        wanted = [one for one in whole if one.symbol.startswith(market)]
        found = await played(tmp_path / market)
        assert found == wanted
        assert [one.place for one in found] == [one.place for one in wanted]
        later = await played(tmp_path / market, start=wanted[5].place)
        assert later == wanted[6:]
        assert any(one.recovered for one in found) == any(o.recovered for o in wanted)


def test_days_that_go_on_are_left_out(recorded, qos, tmp_path):
    ran = qos("archive", recorded.place, "-o", tmp_path)
    assert ran.code == 0, ran.err
    assert "left out, not finished: CF " in ran.err
    assert "0 files written" in ran.err


# Doctor


@pytest.fixture
def running(node: NatsServer, stream_name: str) -> Generator[str]:
    """The place of a recorder that holds the lease: of its own, for others count entries."""
    place = f"{node.url}/{stream_name}"

    async def hold(stop: asyncio.Event) -> None:
        async with (
            Simulator() as sim,
            Client(
                sim.key,
                http_url=sim.http_url,
                stream_url=sim.stream_url,
                recorder=Recorder(place, name="main", lease=1),
                limits=Limits(command_interval=0.01),
            ) as client,
            client.watch_trades(*SYMBOLS),
        ):
            ready.set()
            await stop.wait()

    ready, loop, stop = threading.Event(), asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(hold(stop)))
    thread.start()
    assert ready.wait(20)
    yield place
    loop.call_soon_threadsafe(stop.set)
    thread.join(20)
    loop.close()


def checks(ran: Ran) -> dict[str, dict[str, str]]:
    return {one["check"]: one for one in map(json.loads, ran.lines)}


def test_doctor_checks_a_stream_and_its_server(node, qos, running):
    url = f"http://127.0.0.1:{node.monitor}"
    found = checks(qos("doctor", running, "--monitor", url, "--json"))
    assert "nats-server 2." in found["server"]["detail"]
    assert found["server"]["status"] == "ok"
    assert "120 s, which a power loss" in found["flush interval"]["detail"]
    assert found["flush interval"]["status"] == "failed"
    assert 'sync_interval: "1s"' in found["flush interval"]["hint"]
    assert found["stream"]["status"] == found["disk"]["status"] == "ok"
    assert found["lease"]["status"] == "ok"
    assert "renewed while this ran" in found["lease"]["detail"]
    assert found["permissions"]["detail"] == "this user may follow, record, take leases"


def test_doctor_reports_a_released_lease_and_a_port_that_it_cannot_see(
    recorded, node, qos
):
    url = f"http://127.0.0.1:{node.port}"
    ran = qos("doctor", recorded.place, "--monitor", url, "--json")
    assert ran.code == 1
    found = checks(ran)
    assert found["flush interval"]["status"] == "skipped"
    assert "--monitor http://HOST:PORT" in found["flush interval"]["hint"]
    assert found["lease"]["status"] == "failed"
    assert "released" in found["lease"]["detail"]


async def create(place: str) -> None:
    parsed = parse_place(place, {})
    async with Wire(parsed) as wire:
        await wire.connect()
        await ensure_stream(wire, parsed.stream, StreamOptions(max_bytes=10_000_000))


async def begin(place: str) -> None:
    """Begin an epoch, as a recorder without a lease does."""
    parsed = parse_place(place, {})
    async with Wire(parsed) as wire:
        await wire.connect()
        await Writer(wire, parsed.stream, "main").begin()


def test_doctor_says_that_no_recorder_has_written_yet_and_how_to_start_one(
    own_node, qos
):
    own_node.start()
    place = f"{own_node.url}/QOS"
    asyncio.run(create(place))
    found = checks(qos("doctor", place, "--json"))
    assert found["recorders"]["detail"] == "no recorder has written to it yet"
    assert found["recorders"]["hint"] == f"start one: qos record US:AAPL -o {place}"
    assert found["permissions"]["detail"] == "this user may follow, record"


def test_doctor_says_that_a_recorder_has_no_lease(node, stream_name, qos):
    place = f"{node.url}/{stream_name}"
    asyncio.run(create(place))
    asyncio.run(begin(place))
    found = checks(qos("doctor", place, "--json"))
    words = "main: no recorder of this name has taken one yet"
    assert found["lease"]["detail"] == words
    assert "qos record --lease 10" in found["lease"]["hint"]


@pytest.mark.fault("N72")
def test_doctor_names_what_a_user_may_not_do(own_node, qos):
    follower = {
        "publish": ["$JS.API.STREAM.INFO.QOS", "$JS.API.CONSUMER.>"],
        "subscribe": ["_INBOX.>"],
    }
    users = [
        {"user": "all", "password": "password-1"},
        {"user": "some", "password": "password-2", "permissions": follower},
    ]
    own_node.configure(f"authorization: {json.dumps({'users': users})}")
    own_node.start()
    place = own_node.url.replace("://", "://{}@") + "/QOS"
    asyncio.run(create(place.format("all:password-1")))
    ran = qos("doctor", place.format("some:password-2"), "--json")
    detail = checks(ran)["permissions"]["detail"]
    assert detail == "this user may follow, and not record, take leases"
    assert "password-2" not in ran.out + ran.err


@pytest.mark.fault("N72")
def test_doctor_reports_each_server_that_is_gone(node, recorded, qos, monkeypatch):
    monkeypatch.setattr("qos_async.cli.doctor.streams._TIMEOUT", 0.5)
    gone = f"nats://127.0.0.1:1,{node.url}"
    ran = qos("doctor", f"{gone}/{recorded.stream}", "--json")
    rows = [json.loads(line) for line in ran.lines]
    servers = [
        (row["status"], row["detail"]) for row in rows if row["check"] == "server"
    ]
    assert [status for status, _ in servers] == ["failed", "ok"]
    assert "127.0.0.1:1" in servers[0][1]
