"""Fixtures: a simulator in a thread of its own, because ``main`` runs its own loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qos_async import Limits
from qos_async.cli import main
from qos_async.sim import Simulator
from tests.support.cli_process import Ran

FAST = Limits(command_interval=0.01, http_requests=100_000, http_period=1.0)
CONFIG = (
    "[limits]\ncommand_interval = 0.01\nhttp_requests = 100_000\nhttp_period = 1.0\n"
)


class Live:
    """A service for commands, and access to its simulator in its thread."""

    def __init__(self) -> None:
        self.sim = Simulator(seed=1, speed=20, plan=FAST)
        self._ready, self._loop = threading.Event(), asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(5)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._enough.set)
        self._thread.join(5)

    def once_watched(self, act: Callable[[], object]) -> None:
        """Call something when a link has received its first ticks."""

        async def wait() -> None:
            before = self.sim.pushed.total()
            await self.sim.until(lambda: self.sim.subscribed, timeout=30)
            await self.sim.until(lambda: self.sim.pushed.total() > before, timeout=30)
            act()

        asyncio.run_coroutine_threadsafe(wait(), self._loop)

    def soon(self, act: Callable[[], object]) -> None:
        """Call something in the thread, without waiting for it."""
        self._loop.call_soon_threadsafe(act)

    def ask(self, question: Callable[[], Any]) -> Any:
        async def answer() -> Any:
            return question()

        return asyncio.run_coroutine_threadsafe(answer(), self._loop).result(5)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._run())

    async def _run(self) -> None:
        self._enough = asyncio.Event()
        async with self.sim:
            self._ready.set()
            await self._enough.wait()


@pytest.fixture(scope="session")
def _live() -> Iterator[Live]:
    live = Live()
    live.start()
    yield live
    live.stop()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration without a key and with fast limits; returns the path of ``config.toml``."""
    for name in ("QOS_API_KEY", "QOS_HTTP_URL", "QOS_STREAM_URL", "QOS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    path = tmp_path / "qos-async" / "config.toml"
    path.parent.mkdir()
    path.write_text(CONFIG)
    path.chmod(0o600)
    return path


@pytest.fixture
def live(_live: Live, home: Path, monkeypatch: pytest.MonkeyPatch) -> Live:
    """The service, its address and its key in the environment."""
    monkeypatch.setenv("QOS_API_KEY", _live.sim.key)
    monkeypatch.setenv("QOS_HTTP_URL", _live.sim.http_url)
    monkeypatch.setenv("QOS_STREAM_URL", _live.sim.stream_url)
    return _live


@pytest.fixture
def qos(home: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run a command in this process."""

    def run(*words: Any) -> Ran:
        code = main([str(word) for word in words])
        out, err = capfd.readouterr()
        return Ran(code, out, err)

    return run


@pytest.fixture
def rejected_symbol(live):
    """A symbol that the service rejects."""
    live.sim.reject_symbols("US:TSLA", message="No permission")
    yield "US:TSLA"
    live.sim.allow_symbols()
