"""Start-up: the imports, and a client's first tick.

    python -m benchmarks.startup [--quick] [--json]

Imports are timed in fresh processes, bytecode compiled. ``import qos_async`` is lazy:
the first access to ``Client`` imports the rest. The result is the time beyond that of the
packages that it needs, which are imported before.

The first tick: from creating a ``Client`` to the first trade in user code, compared with
bare aiohttp that creates a session, connects, subscribes and receives one. Once with the
benchmarks' server, once with the simulator, which here pushes a snapshot (not a trade)
right after its acknowledgement, so that no time is spent waiting for the market.
"""

from __future__ import annotations

import asyncio
import compileall
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.baselines import client, link
from benchmarks.harness import (
    CORES,
    Candidate,
    Figures,
    Report,
    Rounds,
    Server,
    main,
    pin,
    run_in,
)
from qos_async._core.wire import FrameDecoder

__all__ = ["run"]

_ROOT = Path(__file__).parents[1]
_SYMBOL = ["US:TSLA"]
_NEEDS = "aiohttp, anyio, msgspec, tenacity"
_IMPORTS = {
    "import qos_async": ("", "import qos_async"),
    "from qos_async import Client, beyond what it needs": (
        f"import ssl, {_NEEDS}, tenacity.asyncio",
        "from qos_async import Client",
    ),
    "from qos_async import Client, all of it": ("", "from qos_async import Client"),
    f"import {_NEEDS}": ("", f"import {_NEEDS}"),
}
_TIMED = "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"

_SIMULATOR = """\
import asyncio, os, sys
from qos_async import Limits
from qos_async.sim import Simulator, Variants

async def serve(core):
    if core is not None:
        os.sched_setaffinity(0, {core})
    plan = Limits(symbols=100, connections=100, command_interval=0.0)
    variants = Variants(push_on_subscribe=True, second_connection="accept")
    async with Simulator(key="key", plan=plan, variants=variants) as sim:
        print(sim.stream_url, flush=True)
        await asyncio.to_thread(sys.stdin.buffer.read)

asyncio.run(serve(*map(int, sys.argv[1:]) or [None]))
"""


def run(*, quick: bool) -> Report:
    """Measure start-up."""
    pin()
    compileall.compile_dir(_ROOT / "qos_async", quiet=1)
    report = Report(benchmark="startup")
    times = 1 if quick else 3
    imports: dict[str, Candidate] = {
        name: partial(_imported, *code, times=times) for name, code in _IMPORTS.items()
    }
    rounds = Rounds(imports, quick=quick)
    report.rounds = rounds.count
    bounds = list(_IMPORTS)[:2]
    for name in rounds.values:
        value = rounds.spread(name, "ms")
        if name in bounds:
            report.reach("6", name, value, at_most=15, unit="ms")
        else:
            report.figure("imports", name, "ms", value)
    times = 3 if quick else 30
    with Server(rate=1_000) as server:
        where = "the benchmarks' server"
        _first_tick(report, where, server.url, "T", times, bound=1.15, quick=quick)
    with _simulator() as url:
        _first_tick(report, "the simulator", url, "S", times, bound=1.5, quick=quick)
    return report


def _imported(before: str, line: str, times: int) -> Figures:
    code = f"{before}\n{_TIMED.format(line)}"
    taken: list[float] = []
    for _ in range(times):
        done = subprocess.run(  # noqa: S603 - this Python, our code
            [sys.executable, "-c", code], capture_output=True, check=True, cwd=_ROOT
        )
        taken.append(float(done.stdout) * 1e3)
    return {"ms": median(taken)}


@contextmanager
def _simulator() -> Iterator[str]:
    core = [str(CORES[1])] if CORES else []
    process = subprocess.Popen(  # noqa: S603 - this Python, our code
        [sys.executable, "-c", _SIMULATOR, *core],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=_ROOT,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().decode().strip()
    finally:
        process.kill()
        process.communicate()


def _first_tick(
    report: Report,
    where: str,
    url: str,
    kind: str,
    times: int,
    *,
    bound: float,
    quick: bool,
) -> None:
    ways: dict[str, Candidate] = {
        "bare": lambda: run_in(None, _repeated(partial(_bare, url, kind), times)),
        "client": lambda: run_in(None, _repeated(partial(_client, url, kind), times)),
    }
    rounds = Rounds(ways, quick=quick)
    what = f"first tick from {where}: time, to that of bare aiohttp"
    report.reach("6", what, rounds.ratio("client", "ms", "bare"), at_most=bound)
    for name in rounds.values:
        report.figure(f"first tick from {where}", name, "ms", rounds.spread(name, "ms"))


async def _repeated(work: Callable[[], Awaitable[float]], times: int) -> Figures:
    """Return the median, without the first, which is slower in a new event loop."""
    return {"ms": median([await work() for _ in range(times + 1)][1:])}


async def _bare(url: str, kind: str) -> float:
    start = time.perf_counter()
    decode = FrameDecoder(float).push
    async with link(url, _SYMBOL, kind) as ws:
        decode((await ws.receive()).data)
        return (time.perf_counter() - start) * 1e3


async def _client(url: str, kind: str) -> float:
    start = time.perf_counter()
    async with client(url, float) as qos:
        watch: Any = qos.watch_trades if kind == "T" else qos.watch_snapshots
        await anext(aiter(watch(*_SYMBOL)))
        taken = (time.perf_counter() - start) * 1e3
    await asyncio.sleep(0)
    return taken


if __name__ == "__main__":
    main(run, "Measure how long a start takes.")
