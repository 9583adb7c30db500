"""Consumers: what ways to read and to buffer cost beside the plain loop.

    python -m benchmarks.consumers [--quick] [--json]

The plain loop is ``async for trade in client.watch_trades(...)`` with the default buffer.
Beside it, by the CPU time of a tick: ``events()``, ``Strict`` and ``Latest``, and two and
ten subscriptions to the same topics, each read by a task of its own.

The garbage collector is watched during the plain loop: its collections a million ticks,
and their share of the CPU time. CPython has no counter of allocations.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterable, Callable
from functools import partial
from typing import Any

from benchmarks.baselines import client
from benchmarks.harness import (
    Candidate,
    Figures,
    Report,
    Round,
    Rounds,
    Server,
    main,
    pin,
    run_in,
)
from benchmarks.wires import symbols
from qos_async import Latest, Strict

__all__ = ["run"]

_SYMBOLS = 100
_PLAIN = "async for"
_SUBSCRIPTIONS = (2, 10)
_GLANCE = 500


def run(*, quick: bool) -> Report:
    """Measure consumers."""
    pin()
    report = Report(benchmark="consumers")
    warm, ticks = (2_000, 5_000) if quick else (30_000, 300_000)

    def way(read: Any, *words: Any) -> Candidate:
        return lambda: run_in(None, read(server.url, Round(warm, ticks), *words))

    with Server(symbols=_SYMBOLS) as server:
        ways = {_PLAIN: way(_each), "events()": way(_events)}
        ways |= {"Strict": way(_each, Strict(1_000_000)), "Latest": way(_latest)}
        ways |= {_of(count): way(_several, count) for count in _SUBSCRIPTIONS}
        rounds = Rounds(ways, quick=quick, apart=True)
        watched = Rounds(
            {_PLAIN: partial(_watched, way(_each), warm + ticks)},
            quick=quick,
            apart=True,
        )
    report.rounds = rounds.count
    for name in list(ways)[1:]:
        ratio = rounds.ratio(name, "cpu", _PLAIN)
        report.figure("CPU a tick, to the plain loop's", name, "x", ratio)
    for name in ways:
        report.figure("CPU a tick", name, "ns", rounds.spread(name, "cpu"))
    for figure, unit in _WATCHES.items():
        value = watched.spread(_PLAIN, figure)
        report.figure("garbage collector, plain loop", figure, unit, value)
    return report


def _of(count: int) -> str:
    return f"{count} subscriptions"


async def _each(url: str, round_: Round, buffer: Any = None) -> Figures:
    async with client(url, float) as qos:
        await _count(qos.watch_trades(*symbols(_SYMBOLS), buffer=buffer), round_)
    return round_.figures


async def _events(url: str, round_: Round) -> Figures:
    async with client(url, float) as qos:
        await _count(qos.watch_trades(*symbols(_SYMBOLS)).events(), round_)
    return round_.figures


async def _several(url: str, round_: Round, count: int) -> Figures:
    async with client(url, float) as qos:
        first, *others = [qos.watch_trades(*symbols(_SYMBOLS)) for _ in range(count)]
        tasks = [asyncio.create_task(_drain(other)) for other in others]
        await _count(first, round_)
        for task in tasks:
            task.cancel()
    return round_.figures


async def _latest(url: str, round_: Round) -> Figures:
    """Count what was received: this buffer replaces ticks that were not taken."""
    async with client(url, float) as qos:
        trades = qos.watch_trades(*symbols(_SYMBOLS), buffer=Latest())
        taken, goal = 0, round_.goal
        async for _ in trades:
            taken += 1
            if taken % _GLANCE == 0 and trades.stats.received >= goal:
                goal = round_.mark(trades.stats.received)
                if not goal:
                    break
    return round_.figures


async def _count(ticks: AsyncIterable[Any], round_: Round) -> None:
    seen, goal = 0, round_.goal
    async for _ in ticks:
        seen += 1
        if seen == goal:
            goal = round_.mark(seen)
            if not goal:
                return


async def _drain(subscription: Any) -> None:
    async for _ in subscription:
        pass


_WATCHES = {
    "collections of the youngest": "a million ticks",
    "of the middle": "a million ticks",
    "of the oldest": "a million ticks",
    "share of the CPU time": "x",
}


def _watched(turn: Callable[[], Figures], ticks: int) -> Figures:
    """Watch the collector during a turn."""
    counts, spent, began = [0, 0, 0], 0, 0

    def on_collection(phase: str, info: dict[str, int]) -> None:
        nonlocal spent, began
        if phase == "start":
            began = time.thread_time_ns()
        else:
            counts[info["generation"]] += 1
            spent += time.thread_time_ns() - began

    cpu = time.process_time_ns()
    gc.callbacks.append(on_collection)
    try:
        turn()
    finally:
        gc.callbacks.remove(on_collection)
    cpu = time.process_time_ns() - cpu
    values = [*(count * 1e6 / ticks for count in counts), spent / cpu]
    return dict(zip(_WATCHES, values, strict=True))


if __name__ == "__main__":
    main(run, "Measure ways to read and to buffer.")
