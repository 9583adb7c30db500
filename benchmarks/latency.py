"""Latency from the server's write to user code, its CPU time, and holds of the loop.

    python -m benchmarks.latency [--quick] [--json]

The server writes one trade at a time, evenly, each with the moment of its write in it:
1,000 and 20,000 a second. User code reads the clock, which all processes of a machine
share. The client is compared with a bare aiohttp loop that receives and decodes, on both
event loops if uvloop is installed, and with a C program that blocks in ``recv``, if there
is a C compiler, as the lower limit.

Then a blast, with a second task that runs in each iteration of the event loop: the longest
time between two of its steps is the longest hold of the loop. It is measured by the clock,
and in CPU time of this process, which other processes do not affect.
"""

from __future__ import annotations

import asyncio
import json
import math
import shutil
import subprocess
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.baselines import TIMING, client, link
from benchmarks.harness import (
    Candidate,
    Figures,
    Report,
    Round,
    Rounds,
    Server,
    loops,
    main,
    pin,
    run_in,
)
from benchmarks.wires import symbols
from qos_async import Client, Timing
from qos_async._core.wire import FrameDecoder

__all__ = ["Metronome", "each_trade", "run", "sum_up"]

RATES = (1_000, 20_000)
_SOURCE = Path(__file__).with_name("blocking.c")
_BEAT = 0.7  # Longer than a reply waits behind the data in the kernel's buffers.
_BARE, _BLOCKING = "bare aiohttp loop", "blocking C client"


def run(*, quick: bool) -> Report:
    """Measure latency."""
    pin()
    report = Report(benchmark="latency")
    with ExitStack() as stack:
        blocking = stack.enter_context(_compiled(report))
        servers = {rate: stack.enter_context(Server(rate=rate)) for rate in RATES}
        ways: dict[str, Candidate] = {}
        for rate, server in servers.items():
            ways |= _at_rate(rate, server.url, blocking, quick=quick)
        rounds = Rounds(ways, quick=quick, apart=True)
    report.rounds = rounds.count
    for rate in RATES:
        _judge(report, rounds, rate)
    for name in rounds.values:
        for figure in ("p50", "p99", "cpu"):
            value = rounds.spread(name, figure, 1e-3)
            report.figure(f"{name}", figure, "us", value)
    _blast(report, quick=quick)
    return report


def _at_rate(
    rate: int, url: str, blocking: Path | None, *, quick: bool
) -> dict[str, Candidate]:
    warm = rate // 20
    ticks = rate // 10 if quick else max(rate // 2, 1_000)
    ways: dict[str, Candidate] = {}
    for name, loop in loops().items():

        def turn(
            work: Callable[[str, int, int], Awaitable[Figures]], loop: Any = loop
        ) -> Figures:
            return run_in(loop, work(url, warm, ticks))

        here = f"{name}, {rate}/s"
        ways[f"{_BARE}, {here}"] = partial(turn, _bare)
        ways[f"async for, {here}"] = partial(turn, each_trade)
    if blocking is not None:
        ways[f"{_BLOCKING}, {rate}/s"] = partial(_block, blocking, url, warm, ticks)
    return ways


def sum_up(waits: list[int], round_: Round) -> Figures:
    """Return the figures of a round."""
    waits.sort()
    return {
        "p50": waits[len(waits) // 2],
        "p99": waits[math.ceil(len(waits) * 0.99) - 1],
        "cpu": round_.figures["cpu"],
    }


async def _bare(url: str, warm: int, ticks: int) -> Figures:
    decode: Callable[[bytes], Any] = FrameDecoder(float).push
    clock = time.monotonic_ns
    waits: list[int] = []
    async with link(url, symbols(1)) as ws:
        receive = ws.receive
        for _ in range(warm):
            decode((await receive()).data)
        round_ = Round(0, ticks)
        round_.mark(0)
        for _ in range(ticks):
            trade = decode((await receive()).data)
            waits.append(clock() - int(trade.size or 0))
        round_.mark(ticks)
    return sum_up(waits, round_)


async def each_trade(url: str, warm: int, ticks: int) -> Figures:
    """Return how late the client's ``async for`` gets trades, in nanoseconds."""
    async with client(url, float) as qos:
        return await wait_for_each(qos, warm, ticks)


async def wait_for_each(qos: Client[float], warm: int, ticks: int) -> Figures:
    """Return how late ``async for`` of a client or a follower gets trades."""
    clock = time.monotonic_ns
    waits: list[int] = []
    trades = qos.watch_trades(*symbols(1))
    async for _ in trades:
        warm -= 1
        if not warm:
            break
    round_ = Round(0, ticks)
    round_.mark(0)
    left = ticks
    async for trade in trades:
        waits.append(clock() - int(trade.size or 0))
        left -= 1
        if not left:
            break
    round_.mark(ticks)
    return sum_up(waits, round_)


# The blocking C client.


class _compiled:  # noqa: N801 - used like a function
    """The C client, built in a temporary directory; None without a compiler."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._folder = TemporaryDirectory()

    def __enter__(self) -> Path | None:
        compiler = shutil.which("cc")
        if compiler is None:
            self._report.note(f"{_BLOCKING} is left out: there is no C compiler")
            return None
        program = Path(self._folder.name) / "blocking"
        subprocess.run(  # noqa: S603 - the compiler, our source
            [compiler, "-O2", "-o", program, _SOURCE], check=True
        )
        return program

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()


def _block(program: Path, url: str, warm: int, ticks: int) -> Figures:
    port = url.rpartition(":")[2].partition("/")[0]
    done = subprocess.run(  # noqa: S603 - our own program
        [program, port, str(warm), str(ticks)], check=True, capture_output=True
    )
    figures: Figures = json.loads(done.stdout)
    return figures


def _judge(report: Report, rounds: Rounds, rate: int) -> None:
    bare, ours = f"{_BARE}, asyncio, {rate}/s", f"async for, asyncio, {rate}/s"
    goals = {"p50": ("p50", 1.10), "p99": ("p99", 1.10), "cpu": ("CPU a tick", 1.15)}
    for figure, (word, bound) in goals.items():
        what = f"{rate}/s, default: {word}, to a bare aiohttp loop's"
        report.reach("4", what, rounds.ratio(ours, figure, bare), at_most=bound)
    on_uvloop = f"async for, uvloop, {rate}/s"
    if on_uvloop not in rounds.values:
        report.note("uvloop is not installed: the client was not judged on it")
        return
    blocking = f"{_BLOCKING}, {rate}/s"
    if blocking in rounds.values:
        what = f"{rate}/s, default on uvloop: p50, to a blocking C client's"
        report.reach("4", what, rounds.ratio(on_uvloop, "p50", blocking), at_most=1.25)
    what = f"{rate}/s, default on uvloop: CPU a tick, to that on asyncio"
    report.reach("4", what, rounds.ratio(on_uvloop, "cpu", ours), at_most=0.5)


# Holds of the loop under a blast.


class Metronome:
    """Runs in each iteration of the loop, and keeps the longest time between two."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0

    async def run(self) -> None:
        """Tick until cancelled."""
        wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
        while True:
            await asyncio.sleep(0)
            now, spent = time.perf_counter_ns(), time.thread_time_ns()
            self.wall = max(self.wall, now - wall)
            self.cpu = max(self.cpu, spent - cpu)
            wall, cpu = now, spent


def _blast(report: Report, *, quick: bool) -> None:
    seconds = 1.0 if quick else 2.5
    with Server() as server:
        ways: dict[str, Candidate] = {
            _BARE: lambda: run_in(None, _bare_hold(server, seconds)),
            "default": lambda: run_in(None, _hold(server, seconds)),
        }
        rounds = Rounds(ways, quick=quick, warm_up=False)
    for name in rounds.values:
        wall = rounds.spread(name, "wall", 1e-6)
        cpu = rounds.spread(name, "cpu", 1e-6)
        report.figure("longest hold of the loop, by the clock", name, "ms", wall)
        report.figure("longest hold of the loop, CPU time", name, "ms", cpu)
        if name != _BARE:
            what = f"{name}, under a blast: longest hold of the loop, CPU time"
            report.reach("4", what, cpu, at_most=5, unit="ms")
            late = rounds.spread(name, "late", 1e3)
            report.reach(
                "4",
                f"{name}, under a blast: a heartbeat is late by at most",
                late,
                at_most=50,
                unit="ms",
            )


async def _bare_hold(server: Server, seconds: float) -> Figures:
    decode, metronome = FrameDecoder(float).push, Metronome()
    async with link(server.url, symbols(100)) as ws:
        try:
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as tasks:
                tasks.create_task(metronome.run())
                while True:
                    for _ in range(64):
                        decode((await ws.receive()).data)
                    await asyncio.sleep(0)
        except TimeoutError:
            pass
    await asyncio.to_thread(server.account)
    return {"wall": metronome.wall, "cpu": metronome.cpu}


async def _hold(server: Server, seconds: float) -> Figures:
    metronome = Metronome()
    timing = Timing(heartbeat=_BEAT, close_timeout=TIMING.close_timeout)
    async with client(server.url, float, timing=timing) as qos:
        trades = qos.watch_trades(*symbols(100))
        await anext(aiter(trades))
        try:
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as tasks:
                tasks.create_task(metronome.run())
                async for _ in trades:
                    pass
        except TimeoutError:
            pass
    account = await asyncio.to_thread(server.account)
    received = zip(account.kinds, account.moments, strict=True)
    beats = [moment for kind, moment in received if kind in ("H", "T")]
    gaps = [later - earlier for earlier, later in pairwise(beats)]
    late = max(gaps, default=_BEAT) - _BEAT
    return {"wall": metronome.wall, "cpu": metronome.cpu, "late": max(late, 0.0)}


if __name__ == "__main__":
    main(run, "Measure latency.")
