"""Hub: frames a second to many clients, the latency that it adds, and its memory.

    python -m benchmarks.hub [--quick] [--json]

- The server writes prebuilt trades of 100 symbols as fast as the hub reads them; 1, 10 and
  100 clients have all of them. A bare aiohttp server writes the same frames to as many,
  prebuilt, without reading them from anywhere. The clients are raw protocols that count
  bytes, in another process on the server's core.
- The same for clients that have 10 symbols each, every one others.
- One trade at a time, 1,000 a second, to a client through a hub and to a client on the
  direct link. Hub and client share a core.
- The memory that everything but the simulator has allocated, with 100 clients on 10
  topics, after ten minutes of virtual time and after an hour.
"""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from functools import partial
from time import process_time_ns
from typing import Any

import msgspec
from aiohttp import WSMsgType, web

from benchmarks.baselines import client
from benchmarks.harness import (
    Candidate,
    Figures,
    Report,
    Rounds,
    Server,
    Spread,
    in_child,
    main,
    other_process,
    pin,
    read_line,
    run_in,
)
from benchmarks.hub_parts import SYMBOLS, Reader, ReadersPlan, Reading, dial
from benchmarks.latency import each_trade
from benchmarks.wires import WIRES, symbols
from qos_async import Client
from qos_async.hub import Hub
from qos_async.sim import Simulator
from qos_async.testing.virtual import simulate

__all__ = ["run"]

_CLIENTS = (1, 10, 100)
_EACH = 10
_RATE = 1_000
_HUB, _BARE = "hub", "bare aiohttp server"
_THROUGH, _DIRECT = "through a hub", "direct link"
_BEFORE_YIELD = 64
_READERS = 100
_BEAT = 5.0
_TOPICS = [
    (kind, code)
    for kind in ("T", "K", "S", "D")
    for code in ("US:AAPL", "HK:700", "CF:BTCUSDT")
][:10]


def run(*, quick: bool) -> Report:
    """Measure the hub."""
    pin()
    report = Report(benchmark="hub")
    _fan_out(report, quick=quick)
    _added(report, quick=quick)
    _flat(report, quick=quick)
    return report


# To many clients.


def _fan_out(report: Report, *, quick: bool) -> None:
    loads = [(count, SYMBOLS) for count in (_CLIENTS[:2] if quick else _CLIENTS)]
    loads.append((_CLIENTS[1 if quick else 2], _EACH))
    with Server(symbols=SYMBOLS) as server:
        ways: dict[str, Candidate] = {}
        for count, each in loads:
            frames = 20_000 if quick else 200_000 * min(count, 2)
            way = partial(_turn, _served_bare, count, frames, each)
            ways[_to(_BARE, count, each)] = way
            # A hub needs more to be measured for long enough.
            frames *= 1 if count == 1 or quick else 5
            way = partial(_turn, _served_by_hub, server.url, count, frames, each)
            ways[_to(_HUB, count, each)] = way
        rounds = Rounds(ways, quick=quick, apart=True)
    report.rounds = rounds.count
    for count, each in loads:
        hub, bare = _to(_HUB, count, each), _to(_BARE, count, each)
        what = f"{hub}: frames a second, to a bare aiohttp server's"
        report.reach("11", what, rounds.ratio(bare, "wall", hub), at_least=0.7)
    for name in rounds.values:
        rate = Spread.of(1e6 / ns for ns in rounds.each(name, "wall"))
        report.figure("thousand frames a second", name, "k/s", rate)
    for name in rounds.values:
        report.figure("CPU a frame", name, "ns", rounds.spread(name, "cpu"))


def _to(server: str, count: int, each: int) -> str:
    symbols = "" if each == SYMBOLS else f" with {each} symbols each"
    return f"{server}, {count} client{'s' if count > 1 else ''}{symbols}"


def _turn(work: Callable[..., Awaitable[Figures]], *words: Any) -> Figures:
    return run_in(None, work(*words))


async def _served_by_hub(upstream: str, count: int, frames: int, each: int) -> Figures:
    async with Hub(client(upstream, Decimal)) as hub:
        return await _measured(hub.stream_url, count, frames, each)


async def _served_bare(count: int, frames: int, each: int) -> Figures:
    async with _bare_server() as url:
        return await _measured(url, count, frames, each)


@asynccontextmanager
async def _bare_server() -> AsyncGenerator[str]:
    """Serve the trades of the benchmarks' server that a client asks for, over and over."""
    wire = WIRES["qos"](SYMBOLS)
    trades = {
        name.removeprefix("US:"): wire.payload(index, 24600 + index)
        for index, name in enumerate(symbols(SYMBOLS))
    }

    async def handle(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(compress=False)
        await ws.prepare(request)
        [codes] = (await ws.receive_json())["codes"]
        payloads = [trades[name] for name in codes.removeprefix("US:").split(",")]
        with suppress(ConnectionError):
            while True:
                for payload in payloads:
                    await ws.send_frame(payload, WSMsgType.TEXT)
                await asyncio.sleep(0)  # Sending waits only while the socket is full.
        return ws

    app = web.Application()
    app.router.add_get("/ws", handle)
    runner = web.AppRunner(
        app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"ws://127.0.0.1:{runner.addresses[0][1]}/ws"
    finally:
        await runner.cleanup()


async def _measured(url: str, count: int, frames: int, each: int) -> Figures:
    plan = ReadersPlan(url=url, count=count, frames=frames, symbols=each)
    words = ("readers", msgspec.json.encode(plan).decode())
    async with other_process("benchmarks.hub_parts", *words) as lines:
        await read_line(lines)
        cpu = process_time_ns()
        line = await read_line(lines)
        cpu = process_time_ns() - cpu
    reading = msgspec.json.decode(line, type=Reading)
    return {"wall": reading.wall / reading.frames, "cpu": cpu / reading.frames}


# Latency.


def _added(report: Report, *, quick: bool) -> None:
    warm, ticks = _RATE // 20, _RATE // 10 if quick else 2 * _RATE
    with Server(rate=_RATE) as server:
        ways: dict[str, Candidate] = {
            _THROUGH: partial(_turn, _through_hub, server.url, warm, ticks),
            _DIRECT: partial(_turn, each_trade, server.url, warm, ticks),
        }
        rounds = Rounds(ways, quick=quick, apart=True)
    pairs = zip(rounds.each(_THROUGH, "p50"), rounds.each(_DIRECT, "p50"), strict=True)
    added = Spread.of((through - direct) / 1e6 for through, direct in pairs)
    what = f"{_RATE}/s: p50 that a hub adds to the direct link's"
    report.reach("11", what, added, at_most=0.3, unit="ms")
    for name in rounds.values:
        for figure in ("p50", "p99"):
            value = rounds.spread(name, figure, 1e-3)
            report.figure(f"{_RATE}/s, {name}", figure, "us", value)


async def _through_hub(upstream: str, warm: int, ticks: int) -> Figures:
    async with other_process("benchmarks.hub_parts", "hub", upstream) as lines:
        url = (await read_line(lines)).decode().strip()
        return await each_trade(url, warm, ticks)


# Memory.


def _flat(report: Report, *, quick: bool) -> None:
    minutes = 1 if quick else 60
    figures = in_child(lambda: simulate(lambda: _long(minutes * 60.0)))
    what = (
        f"{_READERS} clients on {len(_TOPICS)} topics: memory after {minutes} minutes "
        "of virtual time, to after a sixth"
    )
    grown = Spread.of([figures["last"] / figures["first"]])
    report.reach("11", what, grown, at_most=1.01)
    for name, words in (("first", "after a sixth"), ("last", "at the end")):
        size = Spread.of([figures[name] / 2**20])
        report.figure("allocated, without the simulator", words, "MiB", size)
    report.note(f"frames to {_READERS} clients in virtual time: {figures['sent']:,.0f}")


async def _long(seconds: float) -> Figures:
    tracemalloc.start(2)  # The trades of the tape are made by a frame below its own.
    async with Simulator(push_interval=0.5) as sim:
        upstream = Client(sim.key, http_url=sim.http_url, stream_url=sim.stream_url)
        async with Hub(upstream) as hub:
            readers = await dial(hub.stream_url, _READERS)
            for reader in readers:
                for number, (kind, code) in enumerate(_TOPICS):
                    reader.send(type=kind, codes=[code], kt=1, reqid=number)
            await _beat(readers, seconds / 6)
            first = _allocated()
            await _beat(readers, seconds * 5 / 6)
            last = _allocated()
            stats = hub.stats
            assert len(stats.clients) == _READERS
            for reader in readers:
                reader.abort()
    tracemalloc.stop()
    sent = sum(one.sent for one in stats.clients)
    return {"first": first, "last": last, "sent": sent}


async def _beat(readers: list[Reader], seconds: float) -> None:
    """Send the heartbeats of clients for some seconds."""
    until = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < until:
        await asyncio.sleep(_BEAT)
        for reader in readers:
            reader.send(type="H")


def _allocated() -> int:
    """Return the bytes allocated outside the simulator, whose tape grows."""
    gc.collect()
    others = [tracemalloc.Filter(False, "*/qos_async/sim/*", all_frames=True)]
    snapshot = tracemalloc.take_snapshot().filter_traces(others)
    return sum(found.size for found in snapshot.statistics("filename"))


if __name__ == "__main__":
    main(run, "Measure the hub.")
