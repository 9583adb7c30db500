"""Calls in a thread without an asyncio loop, which is also what trio looks like."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qos_async import Client, Recorder, replay
from qos_async.recordings.replay_server import ReplayServer
from qos_async.sim import Simulator
from tests.support.memory_transport import KEY, Network, opened

pytestmark = pytest.mark.fault("F26")

SENTENCE = r"needs asyncio.*asyncio\.run\(\).*run_coroutine_threadsafe.*trio"


def client() -> Client:
    return Client(KEY)


def history() -> Any:
    return client().iter_history("US:AAPL", interval="1d", start=0)


ENTRANCES: dict[str, Callable[[], Any]] = {
    "async with Client": lambda: client().__aenter__(),
    "connect": lambda: client().connect(),
    "drain": lambda: client().drain(),
    "watch_trades": lambda: client().watch_trades("US:AAPL"),
    "watch_klines": lambda: client().watch_klines("US:AAPL", interval="1m"),
    "fetch over HTTP": lambda: client().fetch_snapshots("US:AAPL"),
    "fetch over the stream": lambda: client().fetch_trades("US:AAPL", via="stream"),
    "fetch_calendar": lambda: client().fetch_calendar("US"),
    "iter_history": lambda: anext(history()),
    "iter_history in one frame": lambda: history().to_polars(),
    "states": lambda: anext(client().states()),
    "Simulator": lambda: Simulator().__aenter__(),
}


def step(call: Callable[[], Any]) -> None:
    """Take the first step of a call, as another event loop than asyncio's would."""
    found = call()
    if hasattr(found, "__await__"):
        step = found.__await__()
        next(step)


@pytest.mark.parametrize("call", ENTRANCES.values(), ids=ENTRANCES)
def test_each_entrance_says_that_it_needs_asyncio_and_what_to_do(call):
    with pytest.raises(RuntimeError, match=SENTENCE):
        step(call)


def test_a_recording_and_a_recorder_say_it_too(tmp_path: Path):
    recorder = Recorder(tmp_path)
    try:
        for call in (
            recorder.aclose,
            recorder.flush,
            lambda: replay(tmp_path).__aenter__(),
            lambda: ReplayServer(tmp_path).__aenter__(),
        ):
            with pytest.raises(RuntimeError, match=SENTENCE):
                step(call)
    finally:
        recorder.close()


async def test_an_open_client_says_it_in_a_thread_without_a_loop():
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        calls: list[Callable[[], Any]] = [
            lambda: client.watch_trades("US:TSLA"),
            lambda: client.fetch_snapshots("US:AAPL", via="stream"),
            client.aclose,
            lambda: aiter(trades),
            lambda: anext(trades),
            lambda: aiter(trades.events()),
            lambda: anext(trades.events()),
            lambda: aiter(trades.events(stale=True)),
            lambda: anext(trades.events(stale=True)),
            lambda: anext(trades.batches()),
            lambda: anext(client.states()),
            lambda: trades.add("US:TSLA"),
            lambda: trades.remove("US:TSLA"),
            trades.ready,
        ]

        def run() -> list[str]:
            texts = []
            for call in calls:
                with pytest.raises(RuntimeError) as failed:
                    step(call)
                texts.append(str(failed.value))
            return texts

        texts = await asyncio.to_thread(run)
    assert {text.partition(",")[0] for text in texts} == {"qos_async needs asyncio"}


def test_a_client_that_was_never_used_can_be_closed_without_a_loop():
    closing = client().aclose().__await__()
    with pytest.raises(StopIteration):
        next(closing)
