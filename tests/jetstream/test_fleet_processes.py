"""``qos record --fleet``: a process whose file changes, on real servers."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from pathlib import Path

import pytest

from qos_async.jetstream.places import parse_place
from qos_async.jetstream.summary import stream_summary
from qos_async.sim import Simulator
from tests.support.cli_process import start
from tests.support.nats_servers import NatsServer

pytestmark = pytest.mark.slow

pytest.importorskip("nats")

KEY = "key-of-the-us-plan-0123456789"


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator(rate=20, key=KEY) as simulator:
        yield simulator


class Fleet:
    """A recorder of a fleet file, and its log."""

    def __init__(self, path: Path, place: str, sim: Simulator) -> None:
        self.path, self.place, self.sim = path, place, sim
        self.lines: list[str] = []
        self.process: subprocess.Popen[str]

    def write(self, symbols: str, limit: str = "10", **more: str) -> None:
        options = "".join(f"{name} = {value}\n" for name, value in more.items())
        self.path.write_text(
            f'stream = "{self.place}"\nlease = 1\n[holders.us]\n'
            f'key = {{ file = "{self.path.parent / "key"}" }}\n'
            f"limits = {{ symbols = {limit}, command_interval = 0.1 }}\n"
            f'symbols = ["{symbols}"]\n{options}'
        )

    def start(self) -> None:
        (self.path.parent / "key").write_text(f"{KEY}\n")
        self.process = start(
            *("record", "--fleet", str(self.path), "--name", "us"),
            QOS_HTTP_URL=self.sim.http_url,
            QOS_STREAM_URL=self.sim.stream_url,
        )

    async def line(self, words: str) -> str:
        assert self.process.stderr is not None
        while True:
            async with asyncio.timeout(30):
                text = await asyncio.to_thread(self.process.stderr.readline)
            assert text, f"{words!r} was never written: {self.lines}"
            self.lines.append(text)
            if words in text:
                return text

    async def subscribed(self, *symbols: str) -> None:
        def is_so() -> bool:
            return {one.symbol for one in self.sim.subscribed} == set(symbols)

        await self.sim.until(is_so, timeout=20)

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.communicate()


@pytest.fixture
async def fleet(
    tmp_path: Path, node: NatsServer, stream_name: str, sim: Simulator
) -> AsyncGenerator[Fleet]:
    made = Fleet(tmp_path / "fleet.toml", f"{node.url}/{stream_name}", sim)
    made.write("US:AAPL,TSLA")
    made.start()
    await made.line("2 topics to")
    yield made
    made.end()


def arguments(process: subprocess.Popen[str]) -> str:
    """Return what ``ps`` shows of a process, where there is /proc."""
    path = Path(f"/proc/{process.pid}/cmdline")
    return path.read_text() if path.exists() else ""


@pytest.mark.fault("N71")
async def test_changes_of_the_file_are_applied_on_the_same_link(fleet, sim):
    """A mistake changes nothing; nor do more symbols than the link was opened for."""
    await fleet.subscribed("US:AAPL", "US:TSLA")
    fleet.write("US:AAPL,NVDA")
    line = await fleet.line("was read again")
    assert line.endswith("was read again: +trade US:NVDA, -trade US:TSLA\n")
    await fleet.subscribed("US:AAPL", "US:NVDA")

    fleet.write("US:AAPL,TSLA US:NVDA")
    line = await fleet.line("nothing was changed")
    assert "fleet.toml, line 6: holders.us.symbols: malformed symbol" in line
    fleet.path.unlink()
    await fleet.line("No such file or directory; nothing was changed")
    names = ",".join(f"A{number}" for number in range(11))
    fleet.write(f"US:{names}", limit="11")
    assert "the plan allows 10 symbols" in await fleet.line("nothing was changed")
    await fleet.subscribed("US:AAPL", "US:NVDA")

    fleet.write("US:AAPL", lease="9", on_conflict='"retake"')
    line = await fleet.line("was read again")
    assert "-trade US:NVDA, lease, on_conflict from the next start on" in line
    await fleet.subscribed("US:AAPL")
    assert {one.link for one in sim.frames} == {1}


@pytest.mark.fault("N71")
async def test_a_run_outlives_the_rejection_of_all_its_symbols(fleet, sim):
    """SIGHUP reads the file, SIGTERM ends the run, and the key shows nowhere."""
    sim.reject_symbols("US:NVDA", message="No permission")
    fleet.write("US:NVDA")
    await fleet.line("nothing is left: waiting for")
    fleet.write("US:AAPL")
    await fleet.subscribed("US:AAPL")
    found = await stream_summary(parse_place(fleet.place))
    assert found.recorders[0].topics == ("trade US:AAPL",)

    assert KEY not in await asyncio.to_thread(arguments, fleet.process)
    if hasattr(signal, "SIGHUP"):
        fleet.process.send_signal(signal.SIGHUP)
        await fleet.line("fleet.toml has not changed")
    fleet.process.send_signal(signal.SIGTERM)
    out, err = await asyncio.to_thread(fleet.process.communicate, timeout=20)
    assert fleet.process.returncode == 0
    assert KEY not in "".join(fleet.lines) + out + err


@pytest.fixture
def standby(fleet: Fleet) -> Generator[Fleet]:
    made = Fleet(fleet.path, fleet.place, fleet.sim)
    made.start()
    yield made
    made.end()


@pytest.mark.fault("N99")
async def test_a_standby_takes_over_with_the_symbols_of_the_file_then(fleet, standby):
    await standby.line("standby")
    fleet.write("US:AAPL,NVDA")
    await fleet.line("was read again")
    await standby.line("was read again")
    fleet.process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(fleet.process.communicate, timeout=20)
    await standby.line("2 topics to")
    await fleet.subscribed("US:AAPL", "US:NVDA")
