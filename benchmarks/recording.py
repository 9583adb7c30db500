"""Recording: its cost for a stream, and the speed of a recorder alone.

    python -m benchmarks.recording [--quick] [--json]

The server writes prebuilt trades as fast as they are taken; the client reads them with
``async for``, without and with a recorder, whose thread shares the core of the client.
A recorder alone is given frames by the hundred, as fast as it can write without dropping
any, until all are in the file. Last, a recording of books is converted to Parquet by a
process of its own, whose peak of memory counts.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import baselines
from benchmarks.harness import (
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
from benchmarks.wires import symbols
from qos_async import Recorder
from qos_async.recordings import read

__all__ = ["run"]

_PLAIN, _RECORDED, _ALONE = "async for", "async for, recorded", "recorder alone"
_TOGETHER = 100
_ROOM = 32 * 1024 * 1024
_GLANCE = 0.001
_CONVERT = """\
import sys
from qos_async.recordings.conversion import convert
convert(sys.argv[1], sys.argv[2])
lines = open("/proc/self/status", encoding="ascii").read().splitlines()
print(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
"""


def run(*, quick: bool) -> Report:
    """Measure recording."""
    pin()
    report = Report(benchmark="recording")
    warm, ticks = (2_000, 5_000) if quick else (30_000, 300_000)

    def turn(work: Any, *words: Any) -> Figures:
        made: Awaitable[Figures] = work(*words)
        return run_in(None, made)

    with Server() as server, tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        rounds = Rounds(
            {
                _PLAIN: lambda: turn(_stream, server.url, Round(warm, ticks), None),
                _RECORDED: lambda: turn(_stream, server.url, Round(warm, ticks), place),
                _ALONE: partial(turn, _record, place, ticks),
            },
            quick=quick,
            apart=True,
        )
        _judge(report, rounds)
        files = sorted(place.iterdir())
        size = files[-1].stat().st_size
        frames = sum(entry.kind == "frame" for entry in read(files[-1]))
    if sys.platform == "linux":
        _convert(report, 600 if quick else 60_000)
    report.note(f"bytes a frame in a file: {size / frames:.1f}")
    return report


async def _stream(url: str, round_: Round, place: Path | None) -> Figures:
    recorder = None if place is None else Recorder(place)
    async with baselines.client(url, float, recorder=recorder) as qos:
        trades, goal, seen = qos.watch_trades(*symbols(100)), round_.goal, 0
        async for _ in trades:
            seen += 1
            if seen == goal:
                goal = round_.mark(seen)
                if not goal:
                    break
        lost = 0 if recorder is None else recorder.stats.dropped
        return {**round_.figures, "dropped": trades.stats.dropped + lost}


async def _record(
    place: Path, count: int, frames: Callable[[int], list[bytes]] | None = None
) -> Figures:
    recorder = Recorder(place)
    recorder.opened()
    groups = [(frames or _frames)(number) for number in range(count // _TOGETHER)]
    wall, cpu = time.perf_counter_ns(), time.process_time_ns()
    for group in groups:
        recorder.frames(group, sum(map(len, group)), plain=True)
        while recorder.stats.waiting > _ROOM:  # noqa: ASYNC110 - a counter of another thread
            await asyncio.sleep(_GLANCE)
    await recorder.aclose()
    wall, cpu = time.perf_counter_ns() - wall, time.process_time_ns() - cpu
    stats = recorder.stats
    return {
        "wall": wall / stats.frames,
        "cpu": cpu / stats.frames,
        "dropped": stats.dropped,
    }


def _frames(number: int) -> list[bytes]:
    return [
        b'{"tp":"T","c":"%b","p":"%d.%02d","v":"%d","ts":%d,"d":%d}'
        % (symbol.encode(), 200 + number % 20, place, number % 1000, 1741960243, 1)
        for place, symbol in enumerate(symbols(_TOGETHER))
    ]


def _convert(report: Report, count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "in"
        place.mkdir()
        run_in(None, _record(place, count, _book))
        done = subprocess.run(  # noqa: S603 - this Python, our code
            [sys.executable, "-c", _CONVERT, place, Path(folder) / "out"],
            capture_output=True,
            check=True,
        )
    peak = Spread.of([int(done.stdout) / 1024])
    what = f"convert of {count:,} books of 20 levels a side: peak of memory"
    report.reach("8", what, peak, at_most=150, unit="MiB")


def _book(number: int) -> list[bytes]:
    """Return books, each with numbers of its own."""
    levels = [b'{"p":"%d.%02d","v":"%d"}' % (200, n, number + n) for n in range(20)]
    side = b",".join(levels)
    book = b'{"tp":"D","c":"%b","b":[%b],"a":[%b],"ts":1741960243}'
    return [book % (name.encode(), side, side) for name in symbols(_TOGETHER)]


def _judge(report: Report, rounds: Rounds) -> None:
    report.rounds = rounds.count
    kept = rounds.ratio(_PLAIN, "wall", _RECORDED)
    report.reach("7", "recorded: speed, to the same without", kept, at_least=0.85)
    rate = Spread.of(1e6 / ns for ns in rounds.each(_ALONE, "wall"))
    what = "a recorder alone: thousand frames a second"
    report.reach("7", what, rate, at_least=200, unit="k/s")
    for name in rounds.values:
        found = Spread.of(1e3 / ns for ns in rounds.each(name, "wall"))
        report.figure("million frames a second", name, "M/s", found)
    for name in rounds.values:
        report.figure("CPU a frame", name, "ns", rounds.spread(name, "cpu"))
    lost = sum(sum(one["dropped"] for one in v) for v in rounds.values.values())
    report.note(f"frames dropped, by the client's buffer or the recorder: {lost:.0f}")


if __name__ == "__main__":
    main(run, "Measure recording.")
