"""``qos record`` to a stream whose broker is away: what it says, and its exit code."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from qos_async.cli import main
from qos_async.sim import Simulator
from tests.support.cli_process import Ran
from tests.support.nats_servers import NatsServer, free_ports
from tests.support.record_process import RecordProcess

pytest.importorskip("nats")


@pytest.fixture
def record(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Ran]:
    """Record a simulator for a moment, in this process."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr("qos_async.jetstream.recorder._CLOSE_TIMEOUT", 1.0)

    def run(*words: Any) -> Ran:
        given = "record", "--sim", "--speed", "20", "CF:BTCUSDT", "--seconds", "1"
        code = main([*given, *map(str, words)])
        out, err = capfd.readouterr()
        return Ran(code, out, err)

    return run


def test_what_the_broker_does_not_have_at_the_end_is_lost_with_exit_code_1(record):
    ran = record("-o", f"nats://127.0.0.1:{free_ports(1)[0]}/QOS")
    assert ran.code == 1
    *_, stored, lost = ran.err.splitlines()
    assert stored.endswith(" frames, 0 messages stored")
    assert lost.startswith("qos: the stream could not be written to at the end: ")
    assert lost.endswith(
        " messages are lost. With --spool DIR the next run sends such messages"
    )


def test_what_is_in_a_spool_is_not_lost(record, tmp_path):
    place = f"nats://127.0.0.1:{free_ports(1)[0]}/QOS"
    ran = record("-o", place, "--spool", tmp_path / "spool")
    assert ran.code == 0
    assert " are not stored yet" in ran.err
    assert "lost" not in ran.err


def test_a_recording_that_is_stored_leaves_nothing_to_report(
    record, node: NatsServer, stream_name: str
):
    ran = record("-o", f"{node.url}/{stream_name}")
    assert ran.code == 0
    assert ran.err.splitlines()[-1].endswith(" messages stored")


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator(rate=50) as simulator:
        yield simulator


@pytest.mark.slow
async def test_an_absence_of_the_broker_has_a_line_at_its_begin_and_at_its_end(
    sim: Simulator, own_node: NatsServer
):
    await asyncio.to_thread(own_node.start)
    words = "CF:BTCUSDT", "-o", f"{own_node.url}/QOS"
    async with RecordProcess(sim, *words) as process:
        await process.line("1 topic to")
        await asyncio.to_thread(own_node.kill)
        line = await process.line("the stream gets nothing: ")
        assert "Connection refused" in line
        assert line.endswith("; what is received waits in memory\n")
        await asyncio.to_thread(own_node.start)
        await process.line("the stream is written again")


@pytest.mark.slow
async def test_a_standby_names_the_holder_it_waits_for(
    sim: Simulator, node: NatsServer, stream_name: str
):
    words = "CF:BTCUSDT", "-o", f"{node.url}/{stream_name}", "--lease", "2"
    async with RecordProcess(sim, *words) as holder:
        await holder.line("1 topic to")
        async with RecordProcess(sim, *words) as standby:
            line = await standby.line("standby: waiting for the lease, which process ")
            assert f"process {holder.pid} on {socket.gethostname()} has" in line
