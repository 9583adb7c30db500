"""Followers of recorders that are processes of their own, and are killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import Any

import pytest

from qos_async import Gap, Trade, follow, replay
from qos_async.sim import Simulator
from tests.support.markdown import ROOT
from tests.support.observations import trade_key, trade_key_of

pytestmark = pytest.mark.slow

BTC, ETH = "CF:BTCUSDT", "CF:ETHUSDT"

_RECORDER = """
import asyncio, sys
from qos_async import Client, Limits, Recorder
async def main(place, key, http, stream):
    recorder = Recorder(place, flush=0.05, rotate=1.0)
    limits = Limits(command_interval=0.01)
    async with Client(
        key, http_url=http, stream_url=stream, limits=limits, recorder=recorder
    ) as client:
        print("there", flush=True)
        async for _ in client.watch_trades("CF:BTCUSDT,ETHUSDT"):
            pass
asyncio.run(main(*sys.argv[1:]))
"""

_FOLLOWER = """
import asyncio, json, sys
from qos_async import follow
async def main(place, out):
    with open(out, "a") as file:
        async with follow(place, start="first", durable="writer") as client:
            async for tick in client.watch_trades("CF:BTCUSDT,ETHUSDT"):
                file.write(json.dumps([tick.place, tick.symbol, str(tick.price)]) + "\\n")
                file.flush()
asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@contextmanager
def running(code, *arguments):
    """Run a program that is killed at the end."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, env=os.environ
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def recorder_of(sim, place):
    return running(_RECORDER, place, sim.key, sim.http_url, sim.stream_url)


async def collect(client, events):
    async for event in client.watch_trades(BTC, ETH).events():
        events.append(event)


async def until(condition):
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - another process changes it
            await asyncio.sleep(0.05)


async def until_more(events, count):
    enough = len(events) + count
    await until(lambda: len(events) >= enough)


async def until_larger(file, size):
    enough = file.stat().st_size + size
    await until(lambda: file.stat().st_size >= enough)


@pytest.mark.fault("R2")
async def test_a_follower_goes_on_when_the_recorder_is_killed_and_started_again(
    tmp_path,
):
    place = tmp_path / "in"
    events: list[Any] = []
    async with Simulator(rate=20.0) as sim, follow(place, start="first") as client:
        reading = asyncio.create_task(collect(client, events))
        for number in range(3):
            with recorder_of(sim, place) as recorder:
                await until_more(events, 100)
                if number == 1:
                    before = len(events)
                    sim.cut()
                    await until(lambda: any(map(is_gap, events[before:])))  # noqa: B023
                recorder.send_signal(signal.SIGKILL)
                recorder.wait()
        await asyncio.sleep(0.5)
        reading.cancel()
        tapes = {symbol: sim.tape(symbol) for symbol in (BTC, ETH)}
    places = [tick.place for tick in events if isinstance(tick, Trade)]
    assert places == sorted(set(places))
    for symbol in (BTC, ETH):
        check_against_tape([e for e in events if symbol in str(e)], tapes[symbol])
    async with replay(place, None) as client:
        again = [tick.place async for tick in client.watch_trades(BTC, ETH)]
    assert again == places


def is_gap(event):
    return isinstance(event, Gap)


def check_against_tape(events, rows):
    """Check that each trade is there once and in order, or in a gap that is not filled."""
    tape = [trade_key(row) for row in rows]
    next_, may_skip = None, True
    for event in events:
        if isinstance(event, Gap):
            may_skip = may_skip or event.status != "filled"
        elif isinstance(event, Trade):
            key = trade_key_of(event)
            found = tape.index(key, next_ or 0)
            assert may_skip or found == next_, (event, found, next_)
            next_, may_skip = found + 1, False


@pytest.mark.fault("R3")
async def test_a_durable_follower_that_is_killed_loses_nothing_and_repeats_places_only(
    tmp_path,
):
    place, out = tmp_path / "in", tmp_path / "out.jsonl"
    out.touch()
    async with Simulator(rate=50.0) as sim:
        with recorder_of(sim, place):
            for _ in range(3):
                with running(_FOLLOWER, place, out) as follower:
                    await until_larger(out, 20_000)
                    follower.send_signal(signal.SIGKILL)
                    follower.wait()
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    by_place = {row[0]: row for row in rows}
    assert all(by_place[row[0]] == row for row in rows)
    async with replay(place, None) as client:
        whole = [
            [tick.place, tick.symbol, str(tick.price)]
            async for tick in client.watch_trades(BTC, ETH)
        ]
    assert sorted(by_place.values()) == whole[: len(by_place)]
