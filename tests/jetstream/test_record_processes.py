"""``qos record`` to a stream: processes that are killed, and a broker that is."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from qos_async.sim import Simulator
from tests.support.cli_process import start
from tests.support.nats_servers import NatsServer
from tests.support.stream_judge import Found, check_tape, live_entries, read_stream

pytestmark = pytest.mark.slow

SYMBOLS = ("CF:BTCUSDT", "US:AAPL")

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator(rate=50) as simulator:
        yield simulator


@pytest.fixture
def record(sim: Simulator) -> Iterator[Start]:
    """Return a function that starts a recorder as a process."""
    started: list[subprocess.Popen[str]] = []

    def begin(place: str, *options: str) -> subprocess.Popen[str]:
        process: subprocess.Popen[str] = start(
            "record",
            *SYMBOLS,
            "-o",
            place,
            *options,
            QOS_API_KEY=sim.key,
            QOS_HTTP_URL=sim.http_url,
            QOS_STREAM_URL=sim.stream_url,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


async def line(process: subprocess.Popen[str], words: str) -> str:
    """Read stderr up to the line with some words."""
    assert process.stderr is not None
    seen: list[str] = []
    while True:
        async with asyncio.timeout(60):
            text = await asyncio.to_thread(process.stderr.readline)
        seen.append(text)
        assert text, f"{words!r} was never written: {seen}"
        if words in text:
            return text


async def end(process: subprocess.Popen[str], number: signal.Signals) -> str:
    """Send a signal; return what is left of stderr."""
    process.send_signal(number)
    _, err = await asyncio.to_thread(process.communicate, timeout=40)
    return err


async def check(node: NatsServer, stream: str, sim: Simulator) -> list[Found]:
    found = live_entries(await read_stream(node.url, stream))
    for symbol in SYMBOLS:
        assert check_tape(found, symbol, sim.tape(symbol)) >= 20
    return found


def epochs(found: list[Found]) -> int:
    return len({one.epoch for one in found})


def kinds(found: list[Found]) -> list[str]:
    return [one.entry.kind for one in found if one.entry is not None]


@pytest.mark.fault("N39")
async def test_sigterm_stores_what_was_received_and_exits_with_0(
    sim, node, stream_name, record
):
    process = record(f"{node.url}/{stream_name}", "--lease", "5")
    await line(process, "2 topics to nats://127.0.0.1")
    await asyncio.sleep(1)
    err = await end(process, signal.SIGTERM)
    assert process.returncode == 0
    assert "messages stored\n" in err
    found = await check(node, stream_name, sim)
    assert kinds(found)[-1] == "closed"


@pytest.mark.fault("N32")
async def test_a_recorder_that_is_killed_under_load_leaves_an_announced_gap(
    sim, node, stream_name, record, tmp_path
):
    place = f"{node.url}/{stream_name}"
    process = record(place, "--spool", str(tmp_path))
    await line(process, "2 topics to")
    await asyncio.sleep(1)
    await end(process, signal.SIGKILL)
    process = record(place, "--spool", str(tmp_path))
    await line(process, "2 topics to")
    await asyncio.sleep(1)
    await end(process, signal.SIGTERM)
    found = await check(node, stream_name, sim)
    assert epochs(found) == 2
    assert kinds(found).count("started") == 2


@pytest.mark.fault("N32")
async def test_what_was_spooled_when_recorder_and_broker_died_is_stored_later(
    sim, own_node, stream_name, record, tmp_path
):
    await asyncio.to_thread(own_node.start)
    place = f"{own_node.url}/{stream_name}"
    process = record(place, "--spool", str(tmp_path))
    await line(process, "2 topics to")
    await asyncio.sleep(1)
    await asyncio.to_thread(own_node.kill)
    await asyncio.sleep(2)
    await end(process, signal.SIGKILL)
    killed_at = sim.now
    process = record(place, "--spool", str(tmp_path))
    await line(process, "2 topics to")
    await asyncio.sleep(1)
    await asyncio.to_thread(own_node.start)
    await asyncio.sleep(2)
    await end(process, signal.SIGTERM)
    found = await check(own_node, stream_name, sim)
    assert epochs(found) == 2
    first = found[0].epoch
    last = max(one.stamp.at for one in found if one.epoch == first and one.stamp)
    assert last / 1e9 > killed_at - 1


@pytest.mark.fault("N39")
async def test_sigterm_without_a_broker_leaves_the_rest_to_the_next_process(
    sim, own_node, stream_name, record, tmp_path
):
    place = f"{own_node.url}/{stream_name}"
    process = record(place, "--spool", str(tmp_path))
    await line(process, "2 topics to")
    await asyncio.sleep(1)
    err = await end(process, signal.SIGTERM)
    assert process.returncode == 0
    assert "are not stored yet" in err
    await asyncio.to_thread(own_node.start)
    process = record(place, "--spool", str(tmp_path))
    await line(process, "2 topics to")
    await asyncio.sleep(1)
    await end(process, signal.SIGTERM)
    found = await check(own_node, stream_name, sim)
    assert kinds(found).count("closed") == 2


@pytest.mark.fault("N36")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_standby_takes_over_from_a_holder_that_ends(
    sim, node, stream_name, record, number
):
    place = f"{node.url}/{stream_name}"
    holder = record(place, "--lease", "2")
    await line(holder, "2 topics to")
    standby = record(place, "--lease", "2")
    await line(standby, "standby: waiting for the lease")
    await asyncio.sleep(1)
    assert sim.connections == 1
    await end(holder, number)
    await line(standby, "2 topics to")
    await asyncio.sleep(1)
    await end(standby, signal.SIGTERM)
    found = await check(node, stream_name, sim)
    assert epochs(found) == 2


@pytest.mark.fault("N36")
async def test_a_holder_that_was_stopped_harms_nothing_when_it_goes_on(
    sim, node, stream_name, record
):
    place = f"{node.url}/{stream_name}"
    holder = record(place, "--lease", "2")
    await line(holder, "2 topics to")
    standby = record(place, "--lease", "2")
    await line(standby, "standby: waiting for the lease")
    holder.send_signal(signal.SIGSTOP)
    sim.cut()  # Else the service waits 30 s for a heartbeat of the holder.
    await line(standby, "2 topics to")
    await asyncio.sleep(1)
    holder.send_signal(signal.SIGCONT)
    await line(holder, "waiting for the lease, which process")
    await asyncio.sleep(1)
    assert sim.connections == 1
    for process in (standby, holder):
        await end(process, signal.SIGTERM)
    found = await check(node, stream_name, sim)
    assert epochs(found) >= 2


@pytest.mark.fault("N40")
@pytest.mark.parametrize("options", [(), ("--lease", "5")])
async def test_a_broker_that_refuses_the_password_ends_the_program(
    sim, own_node, stream_name, record, options
):
    own_node.configure('authorization { user: "u", password: "right-one" }')
    await asyncio.to_thread(own_node.start)
    place = f"nats://u:wrong-one@127.0.0.1:{own_node.port}/{stream_name}"
    process = record(place, *options)
    _, err = await asyncio.to_thread(process.communicate, timeout=30)
    assert process.returncode == 1
    assert "refuses the credentials: check QOS_NATS_USER" in err
    assert "wrong-one" not in err


async def test_a_wrong_place_and_options_of_a_directory_are_usage_errors(
    sim, record, tmp_path
):
    for place, options, words in (
        ("nats://host/", (), "malformed place 'nats://host/'"),
        (str(tmp_path), ("--lease", "5"), "lease is an option of a stream"),
        ("nats://host/S", ("--to", "parquet"), "--to parquet is for directories"),
        ("nats://host/S", ("--name", "a b"), "cannot be the name of a recorder"),
    ):
        process = record(place, *options)
        _, err = await asyncio.to_thread(process.communicate, timeout=40)
        assert process.returncode == 2
        assert words in err
