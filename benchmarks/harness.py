"""Harness of all benchmarks: pinning, rounds, medians and spread, and reports.

The server is another process on another core. In each round every candidate has one
turn, every other round in reverse order, and ratios are taken within a round: other load
of the machine affects all candidates alike. The first round is a warm-up and does not
count. Spread is the middle half of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import multiprocessing
import os
import platform
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median, quantiles
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import msgspec

from benchmarks.server import Account, Plan
from qos_async import __version__

__all__ = [
    "CORES",
    "Candidate",
    "Figures",
    "Plan",
    "Report",
    "Round",
    "Rounds",
    "Server",
    "Spread",
    "in_child",
    "installed",
    "loops",
    "main",
    "other_process",
    "pin",
    "read_line",
    "run_in",
    "shown",
]

T = TypeVar("T")

RESULTS = Path(__file__).parent / "results"
ROUNDS = 7
QUICK_ROUNDS = 1

_affinity = getattr(os, "sched_getaffinity", None)
_cores = sorted(_affinity(0)) if _affinity else []
CORES: tuple[int, int] | None = (_cores[0], _cores[-1]) if len(_cores) > 1 else None
"""One for the client, one for the server; None if there are not two."""

_PACKAGES = ("aiohttp", "msgspec", "anyio", "uvloop", "picows")

Figures = dict[str, float]
Candidate = Callable[[], Figures]


def pin() -> None:
    """Pin this process to the client's core."""
    if CORES is not None:
        os.sched_setaffinity(0, {CORES[0]})


def installed(name: str) -> Any:
    """Return a module, or None if it is not installed."""
    try:
        return import_module(name)
    except ImportError:
        return None


def loops() -> dict[str, Callable[[], asyncio.AbstractEventLoop] | None]:
    """Return the event loops that are installed, by name."""
    uvloop = installed("uvloop")
    return {"asyncio": None, **({"uvloop": uvloop.new_event_loop} if uvloop else {})}


def run_in(
    loop: Callable[[], asyncio.AbstractEventLoop] | None, work: Awaitable[Figures]
) -> Figures:
    """Run ``work`` in a new event loop."""

    async def turn() -> Figures:
        return await work

    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(turn())


class Server:
    """A server process; use it in ``with``."""

    def __init__(self, **plan: Any) -> None:
        self._plan = Plan(**plan, core=CORES[1] if CORES else None)

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(  # noqa: S603 - this Python, our module
            [
                *(sys.executable, "-m", "benchmarks.server"),
                msgspec.json.encode(self._plan).decode(),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.port = int(self._line())
        return self

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the server process died")
        return line

    @property
    def url(self) -> str:
        """The URL of the server."""
        scheme = "wss" if self._plan.cert else "ws"
        return f"{scheme}://127.0.0.1:{self.port}/ws"

    def account(self) -> Account:
        """Wait for the end of a connection and return its account.

        There is one for each connection, in the order of their ends.
        """
        return msgspec.json.decode(self._line(), type=Account)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()


class Round:
    """Times a candidate from the end of its warm-up to its last tick."""

    def __init__(self, warm: int, ticks: int) -> None:
        self.goal = warm
        self._ticks = ticks
        self._started = False
        self._count = 0
        self._wall = self._cpu = 0

    def mark(self, count: int) -> int:
        """Record that ``count`` ticks came; return the next count to call at, or 0."""
        wall, cpu = time.perf_counter_ns(), time.process_time_ns()
        if self._started:
            self._count = count - self._count
            self._wall, self._cpu = wall - self._wall, cpu - self._cpu
            return 0
        self._started = True
        self._count, self._wall, self._cpu = count, wall, cpu
        return count + self._ticks

    @property
    def figures(self) -> Figures:
        """Nanoseconds a tick, of the clock and of CPU time."""
        return {"wall": self._wall / self._count, "cpu": self._cpu / self._count}


def facts() -> dict[str, str]:
    """Return the date, versions and machine of a measurement."""
    found = {
        "date": datetime.now(UTC).date().isoformat(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "machine": f"{platform.system()} {platform.machine()}, "
        f"{os.cpu_count()} cores, {_processor()}",
        "pinned": "client and server on a core each" if CORES else "no",
        "load before": f"{os.getloadavg()[0]:.1f}",
        "qos_async": __version__,
    }
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = (line.partition(":")[2] for line in lines if line.startswith("model name"))
    return next(names, "unknown").strip()


class Spread(msgspec.Struct, frozen=True):
    """A median, and the middle half around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """Return the spread of one value per round."""
        found = sorted(values)
        if len(found) < 2:
            return cls(found[0], found[0], found[0])
        low, _, high = quantiles(found, n=4, method="inclusive")
        return cls(median(found), low, high)


def in_child(work: Callable[[], T]) -> T:
    """Call it in a fork of this process: its changes to the heap are not inherited."""
    if "fork" not in multiprocessing.get_all_start_methods():
        return work()
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=lambda: theirs.send(work()))
    child.start()
    theirs.close()
    try:
        result: T = ours.recv()
        return result
    finally:
        child.join()


@asynccontextmanager
async def other_process(
    module: str, *words: str
) -> AsyncGenerator[asyncio.StreamReader]:
    """Start a module in another process; yield its output."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *words), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def read_line(lines: asyncio.StreamReader) -> bytes:
    """Return the next line of another process.

    Raises:
        RuntimeError: If it has ended.
    """
    line = await lines.readline()
    if not line:
        raise RuntimeError("the other process died")
    return line


class Rounds:
    """Turns of several candidates, round by round; ``apart``, each in its own process."""

    def __init__(
        self,
        candidates: dict[str, Candidate],
        *,
        quick: bool,
        warm_up: bool = True,
        apart: bool = False,
        count: int = ROUNDS,
    ) -> None:
        names = list(candidates)
        self.values: dict[str, list[Figures]] = {name: [] for name in names}
        self.count = QUICK_ROUNDS if quick else count
        for number in range(0 if warm_up else 1, self.count + 1):
            for name in names if number % 2 else reversed(names):
                gc.collect()
                gc.freeze()  # The garbage collector need not search the benchmark's own objects.
                candidate = candidates[name]
                figures = in_child(candidate) if apart else candidate()
                if number:
                    self.values[name].append(figures)

    def each(self, name: str, figure: str) -> list[float]:
        """Return one figure of one candidate, round by round."""
        return [figures[figure] for figures in self.values[name]]

    def spread(self, name: str, figure: str, scale: float = 1.0) -> Spread:
        """Return the spread of one figure of one candidate."""
        return Spread.of(value * scale for value in self.each(name, figure))

    def ratio(self, name: str, figure: str, by: str) -> Spread:
        """Sum up a figure of ``name``, divided by that of ``by`` in the same round."""
        pairs = zip(self.each(name, figure), self.each(by, figure), strict=True)
        return Spread.of(value / base for value, base in pairs)


class Figure(msgspec.Struct, frozen=True):
    """A figure of one candidate."""

    group: str
    name: str
    unit: str
    value: Spread


class Goal(msgspec.Struct, frozen=True):
    """A target, and the measured result."""

    goal: str
    what: str
    unit: str
    sense: Literal["at least", "at most"]
    bound: float
    value: Spread

    @property
    def met(self) -> bool:
        """Whether the median reaches it."""
        if self.sense == "at least":
            return self.value.median >= self.bound
        return self.value.median <= self.bound


class Report(msgspec.Struct, kw_only=True):
    """One benchmark's outcome, as it is written."""

    benchmark: str
    about: dict[str, str] = msgspec.field(default_factory=facts)
    rounds: int = 0
    goals: list[Goal] = []
    figures: list[Figure] = []
    notes: list[str] = []

    def reach(
        self,
        goal: str,
        what: str,
        value: Spread,
        *,
        at_least: float | None = None,
        at_most: float | None = None,
        unit: str = "x",
    ) -> None:
        """Hold a value against its bound."""
        bound = at_least if at_least is not None else at_most
        assert bound is not None, "a goal has a bound"
        sense: Any = "at least" if at_least is not None else "at most"
        self.goals.append(Goal(goal, what, unit, sense, bound, value))

    def figure(self, group: str, name: str, unit: str, value: Spread) -> None:
        """Write the results."""
        self.figures.append(Figure(group, name, unit, value))

    def note(self, text: str) -> None:
        """Keep a remark for the reader."""
        self.notes.append(text)

    def show(self) -> str:
        """Write it for a terminal."""
        lines = [f"== {self.benchmark}, median of {self.rounds} rounds =="]
        for one in self.goals:
            word = "met" if one.met else "NOT MET"
            bound = f"{one.sense} {one.bound:g}"
            lines.append(
                f"  goal {one.goal}: {one.what:<58} {shown(one.value, one.unit):<28} "
                f"{bound:<14} {word}"
            )
        for found in self.figures:
            name = f"{found.group}: {found.name}"
            lines.append(f"  {name:<66} {shown(found.value, found.unit)}")
        return "\n".join([*lines, *(f"  note: {text}" for text in self.notes)])


def shown(value: Spread, unit: str) -> str:
    """Write a median and its spread."""
    return f"{value.median:.4g} ({value.low:.4g}-{value.high:.4g}) {unit}"


def main(run: Callable[..., Report], what: str) -> None:
    """Let one benchmark be run alone; it writes what it found, and prints it."""
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--quick", action="store_true", help="see only that it runs")
    parser.add_argument("--json", action="store_true", help="print JSON, write nothing")
    options = parser.parse_args()
    report = run(quick=options.quick)
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(report)).decode())
        return
    print(report.show())
    if not options.quick:
        write(report)


def write(report: Report, folder: Path = RESULTS) -> None:
    """Write one benchmark's outcome as JSON."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{report.benchmark}.json"
    text = msgspec.json.format(msgspec.json.encode(report), indent=1).decode()
    path.write_text(text + "\n", encoding="utf-8")


def read(names: Iterable[str], folder: Path = RESULTS) -> list[Report]:
    """Read those of the outcomes that were written; others have a form of their own."""
    paths = [folder / f"{name}.json" for name in names]
    return [
        msgspec.json.decode(path.read_bytes(), type=Report)
        for path in paths
        if path.exists()
    ]
