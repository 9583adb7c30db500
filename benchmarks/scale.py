"""Scaling with symbols, subscriptions, buffered ticks and time.

    python -m benchmarks.scale [--quick] [--json]

- The CPU time of a tick with 1, 100 and 10,000 symbols, all in one round.
- The cost of each further subscription to a topic, compared with one ``deque.append``.
  They buffer all ticks and are not read: reading is measured elsewhere.
- A link that is cut with 10,000 symbols subscribed on four channels: the frames that
  restore them, and the longest hold of the event loop.
- The memory of a buffered trade, compared with the trade alone in a list.
- Whether memory stays flat over ten million ticks.
"""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from msgspec.structs import force_setattr

from benchmarks.baselines import TIMING, client, each_trade
from benchmarks.harness import (
    Candidate,
    Figures,
    Report,
    Round,
    Rounds,
    Server,
    Spread,
    main,
    pin,
    run_in,
)
from benchmarks.latency import Metronome
from benchmarks.wires import symbols, trade
from qos_async import DropOldest, Timing
from qos_async._core.wire import FrameDecoder

__all__ = ["run"]

_SYMBOLS = (1, 100, 10_000)
_SUBSCRIPTIONS = (1, 10, 100)
_TIMEOUT = 60.0


def run(*, quick: bool) -> Report:
    """Measure scaling."""
    pin()
    report = Report(benchmark="scale")
    _symbols(report, quick=quick)
    _subscriptions(report, quick=quick)
    _restoring(report, quick=quick)
    _buffered(report, quick=quick)
    _flat(report, quick=quick)
    return report


def _symbols(report: Report, *, quick: bool) -> None:
    warm, ticks = (10_000, 10_000) if quick else (30_000, 300_000)
    servers = {count: Server(symbols=count) for count in _SYMBOLS}
    with _all(servers.values()):
        ways: dict[str, Candidate] = {}
        for count, server in servers.items():

            def turn(count: int = count, server: Server = server) -> Figures:
                round_ = Round(warm, ticks)
                work = each_trade(server.url, round_, float, count)
                return run_in(None, work)

            ways[_of(count)] = turn
        rounds = Rounds(ways, quick=quick)
    report.rounds = rounds.count
    for count in _SYMBOLS[1:]:
        what = f"{count:,} symbols: CPU a tick, to that of one symbol"
        ratio = rounds.ratio(_of(count), "cpu", _of(1))
        report.reach("5", what, ratio, at_most=1.15)
    for name in rounds.values:
        report.figure("CPU a tick", name, "ns", rounds.spread(name, "cpu"))


def _of(count: int) -> str:
    return f"{count:,} symbol{'s' if count > 1 else ''}"


@contextmanager
def _all(servers: Any) -> Iterator[None]:
    started: list[Server] = []
    try:
        started.extend(server.__enter__() for server in servers)
        yield
    finally:
        for server in started:
            server.__exit__(None, None, None)


def _subscriptions(report: Report, *, quick: bool) -> None:
    ticks = 2_000 if quick else 30_000
    with Server(symbols=1) as server:
        ways: dict[str, Candidate] = {
            f"{count}": partial(
                lambda count: run_in(None, _watched(server.url, ticks, count)), count
            )
            for count in _SUBSCRIPTIONS
        }
        ways["append"] = _append
        rounds = Rounds(ways, quick=quick)
    least, most = _SUBSCRIPTIONS[0], _SUBSCRIPTIONS[-1]
    pairs = zip(
        rounds.each(f"{least}", "cpu"),
        rounds.each(f"{most}", "cpu"),
        rounds.each("append", "cpu"),
        strict=True,
    )
    grown = [((b - a) / (most - least), append) for a, b, append in pairs]
    price = Spread.of(each for each, _ in grown)
    report.figure("one more subscription to a topic", "adds to a tick", "ns", price)
    append = rounds.spread("append", "cpu")
    report.figure("one more subscription to a topic", "deque.append", "ns", append)
    what = "one more subscription to a topic, to a deque.append"
    ratio = Spread.of(each / append for each, append in grown)
    report.reach("5", what, ratio, at_most=2)
    for count in _SUBSCRIPTIONS:
        value = rounds.spread(f"{count}", "cpu")
        report.figure("CPU a tick, subscriptions to its topic", f"{count}", "ns", value)


async def _watched(url: str, ticks: int, count: int) -> Figures:
    everything = DropOldest(10 * ticks)
    round_ = Round(ticks // 10, ticks)
    async with client(url, float) as qos:
        trades, goal = qos.watch_trades(*symbols(1)), round_.goal
        others = [
            qos.watch_trades(*symbols(1), buffer=everything) for _ in range(count - 1)
        ]
        seen = 0
        async for _ in trades:
            seen += 1
            if seen == goal:
                goal = round_.mark(seen)
                if not goal:
                    break
        assert len(others) == count - 1
    return round_.figures


def _append() -> Figures:
    count, place = 200_000, deque[object]()
    append, item = place.append, object()
    start = time.process_time_ns()
    for _ in range(count):
        append(item)
    return {"cpu": (time.process_time_ns() - start) / count}


# Restoring after a cut.


def _restoring(report: Report, *, quick: bool) -> None:
    count = 1_000 if quick else 10_000

    def turn() -> Figures:
        with Server(symbols=count, silent=True, drop_after=4) as server:
            return run_in(None, _restored(server, count))

    rounds = Rounds({"restored": turn}, quick=quick)
    what = f"restoring {count:,} symbols on 4 channels"
    frames = rounds.spread("restored", "frames")
    report.reach("5", f"{what}: frames", frames, at_most=4, unit="frames")
    for figure, words in (("cpu", "CPU time"), ("wall", "by the clock")):
        hold = rounds.spread("restored", figure, 1e-6)
        if figure == "cpu":
            text = f"{what}: longest hold of the loop, {words}"
            report.reach("5", text, hold, at_most=15, unit="ms")
        else:
            report.figure(what, f"longest hold of the loop, {words}", "ms", hold)
    took = rounds.spread("restored", "took", 1e3)
    report.figure(what, "from the new link to the last yes", "ms", took)


async def _restored(server: Server, count: int) -> Figures:
    metronome = Metronome()
    timing = Timing(backoff_initial=0.01, close_timeout=TIMING.close_timeout)
    names = symbols(count)
    async with client(server.url, float, timing=timing) as qos:
        watched: list[Any] = [
            qos.watch_trades(*names),
            qos.watch_snapshots(*names),
            qos.watch_depth(*names),
            qos.watch_klines(*names, interval="1m"),
        ]
        for each in watched:
            async with asyncio.timeout(_TIMEOUT):
                await each.__aenter__()  # Waits for the acknowledgement.
        gc.collect()
        meter = asyncio.create_task(metronome.run())
        async with asyncio.timeout(_TIMEOUT):
            await _until(lambda: qos.stats.links == 2 and _settled(qos))
        meter.cancel()
    await asyncio.to_thread(server.account)
    account = await asyncio.to_thread(server.account)
    moments = [
        moment
        for kind, moment in zip(account.kinds, account.moments, strict=True)
        if kind in ("S", "T", "D", "K")
    ]
    return {
        "frames": len(moments),
        "took": moments[-1] - moments[0],
        "wall": metronome.wall,
        "cpu": metronome.cpu,
    }


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(0.001)


def _settled(qos: Any) -> bool:
    settled: bool = qos._stream._protocol.registry.settled  # noqa: SLF001 - not public
    return settled


# Memory.


def _buffered(report: Report, *, quick: bool) -> None:
    count = 5_000 if quick else 50_000
    ways: dict[str, Candidate] = {
        "alone": partial(_alone, count),
        "buffered": partial(_waiting, count),
    }
    rounds = Rounds(ways, quick=quick, warm_up=False, count=3)
    what = "a trade in a buffer, to the trade alone: memory"
    ratio = rounds.ratio("buffered", "bytes", "alone")
    report.reach("5", what, ratio, at_most=1.25)
    for name in rounds.values:
        report.figure("memory of a trade", name, "B", rounds.spread(name, "bytes"))


def _alone(count: int) -> Figures:
    """Return the bytes of a trade in a preallocated list: the Struct and its values."""
    decode = FrameDecoder(float).push
    data = [trade("US:TSLA", 24600 + index % 100) for index in range(count)]
    place: list[Any] = [None] * count
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for index, frame in enumerate(data):
        place[index] = decode(frame)
        force_setattr(place[index], "received_at", time.time_ns())
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return {"bytes": grown / count}


def _waiting(count: int) -> Figures:
    with Server(symbols=1) as server:
        return run_in(None, _collect(server.url, count))


async def _collect(url: str, count: int) -> Figures:
    async with client(url, float) as qos:
        trades = qos.watch_trades(*symbols(1), buffer=DropOldest(count))
        await _until(lambda: trades.stats.received > 0)
        tracemalloc.start()
        start = trades.stats.backlog
        before = tracemalloc.get_traced_memory()[0]
        await _until(lambda: trades.stats.backlog >= count)
        grown = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        return {"bytes": grown / (count - start)}


def _flat(report: Report, *, quick: bool) -> None:
    million = 20_000 if quick else 1_000_000
    with Server() as server:
        grown = asyncio.run(_long(server.url, million, 9))
    what = f"{10 * million / 1e6:g} million ticks: memory at the end, to after a tenth"
    report.reach("5", what, Spread.of([grown]), at_most=1.01)


async def _long(url: str, ticks: int, times: int) -> float:
    async with client(url, float) as qos:
        trades = aiter(qos.watch_trades(*symbols(100)))
        await _take(trades, ticks)
        gc.collect()
        first = _resident()
        for _ in range(times):
            await _take(trades, ticks)
        gc.collect()
        return _resident() / first


async def _take(trades: Any, count: int) -> None:
    async for _ in trades:
        count -= 1
        if not count:
            return


def _resident() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * 4096


if __name__ == "__main__":
    main(run, "Measure what grows.")
