"""Measurement of growth under a long load: samples of memory, objects and tasks."""

from __future__ import annotations

import asyncio
import gc
import os
import time
import types
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from statistics import linear_regression, median
from typing import Any
from weakref import WeakSet

import msgspec

__all__ = ["Meter", "Report", "Sample", "sizes"]

_SAMPLES = 20
_MIB = 1 << 20
_CONTAINERS = (dict, list, set, deque, WeakSet)
_SEALED = (
    asyncio.AbstractEventLoop,
    type,
    types.ModuleType,
    types.FunctionType,
    types.MethodType,
)
# Counters with a fixed list of keys, and the tasks that wait to send.
_BOUNDED = (".stats.", "send_ready._waiting")


class Sample(msgspec.Struct, frozen=True):
    """Memory, objects and tasks after ``count`` units of the load."""

    count: int
    seconds: float
    rss_mib: float
    objects: int
    tasks: int
    timers: int
    files: int
    entries: int


class Report(msgspec.Struct):
    """Result of a load.

    Attributes:
        what: The unit that was counted.
        target: The requested number of units.
        count: The number of units that were run.
        seconds: The duration.
        cpu_seconds: Of this process, which may include the server.
        rss_growth_mib: Along the regression line of the samples after the first
            quarter.
        object_growth: Likewise, of objects that the garbage collector tracks.
        most: The maximum of each measure in those samples.
        more: Further results of the load.
        left: Containers of the client that are larger than at the start, with sizes.
    """

    what: str
    target: int
    count: int
    seconds: float
    cpu_seconds: float
    rss_growth_mib: float
    object_growth: float
    first: Sample
    most: Sample
    more: dict[str, Any] = {}
    left: dict[str, int] = {}

    @property
    def is_complete(self) -> bool:
        """Whether the load reached its target."""
        return self.count >= self.target


class Meter:
    """Counts units of a load, takes samples, and ends the load.

    Args:
        what: The unit that is counted.
        target: The number of units after which the load ends.
        seconds: The time after which the load ends in any case.
        client: The client whose containers are measured.
        only: Count objects of types from these packages only; else all.
    """

    def __init__(
        self,
        what: str,
        target: int,
        seconds: float,
        client: object,
        *,
        only: tuple[str, ...] = (),
    ) -> None:
        self.samples: list[Sample] = []
        self.count = 0
        self._what, self._target, self._seconds = what, target, seconds
        self._client, self._only = client, only
        self._began, self._cpu = time.perf_counter(), time.process_time()
        self._initial_sizes = sizes(client)

    def add(self, count: int = 1) -> bool:
        """Count units; return whether to continue."""
        self.count += count
        if self._progress >= len(self.samples) / _SAMPLES:
            self.samples.append(self._sample())
        return self._progress < 1

    @property
    def _elapsed(self) -> float:
        return time.perf_counter() - self._began

    @property
    def _progress(self) -> float:
        return max(self.count / self._target, self._elapsed / self._seconds)

    def report(self, **more: Any) -> Report:
        """Return the result so far."""
        warm = self._warm
        counts = [sample.count for sample in warm]

        def growth(values: list[float]) -> float:
            slope = linear_regression(counts, values).slope
            return round(slope * (counts[-1] - counts[0]), 2)

        now = sizes(self._client)
        return Report(
            what=self._what,
            target=self._target,
            count=self.count,
            seconds=round(self._elapsed, 1),
            cpu_seconds=round(time.process_time() - self._cpu, 1),
            rss_growth_mib=growth([sample.rss_mib for sample in warm]),
            object_growth=growth([float(sample.objects) for sample in warm]),
            first=warm[0],
            most=Sample(
                **{
                    name: max(getattr(sample, name) for sample in warm)
                    for name in Sample.__struct_fields__
                }
            ),
            more=more,
            left={
                path: size
                for path, size in now.items()
                if size > self._initial_sizes.get(path, 0)
            },
        )

    def check(self, report: Report) -> None:
        """Raise ``AssertionError`` if a measure grew."""
        warm = self._warm
        early, late = warm[: len(warm) // 2], warm[len(warm) // 2 :]
        for name, slack in {
            "tasks": 2,
            "files": 2,
            "timers": 120,
            "entries": 60,
        }.items():
            before = max(getattr(sample, name) for sample in early)
            after = median(getattr(sample, name) for sample in late)
            assert after <= before + slack, (name, before, after)
        assert report.object_growth <= 0.02 * warm[0].objects + 300, report
        assert report.rss_growth_mib <= 0.05 * warm[0].rss_mib + 1, report

    @property
    def _warm(self) -> list[Sample]:
        return self.samples[len(self.samples) // 4 :]

    def _sample(self) -> Sample:
        gc.collect()
        loop: Any = asyncio.get_running_loop()
        return Sample(
            count=self.count,
            seconds=round(self._elapsed, 1),
            rss_mib=round(_rss() / _MIB, 2),
            objects=sum(1 for _ in self._objects()),
            tasks=len(asyncio.all_tasks()),
            timers=len(getattr(loop, "_scheduled", ())),  # uvloop does not list them.
            files=sum(1 for _ in Path("/proc/self/fd").iterdir()),
            entries=sum(sizes(self._client).values()),
        )

    def _objects(self) -> Iterator[object]:
        for thing in gc.get_objects():
            module = str(type(thing).__module__)
            if not self._only or module.startswith(self._only):
                yield thing


def sizes(client: object) -> dict[str, int]:
    """Return the size of every container that is reachable from a client, by path.

    Containers that are bounded by construction are left out.
    """
    found: dict[str, int] = {}
    seen: set[int] = set()
    pending: list[tuple[str, object]] = [("client", client)]
    while pending:
        path, thing = pending.pop()
        if id(thing) in seen or isinstance(thing, _SEALED):
            continue
        seen.add(id(thing))
        if getattr(thing, "maxlen", None) is not None or _is_bounded(path):
            continue
        if isinstance(thing, _CONTAINERS):
            found[path] = found.get(path, 0) + len(thing)
            inside = [*thing, *thing.values()] if isinstance(thing, dict) else [*thing]
            pending += [(f"{path}[]", part) for part in inside]
        elif type(thing).__module__.startswith("qos_async"):
            pending += [(f"{path}.{name}", part) for name, part in _attributes(thing)]
    return found


def _is_bounded(path: str) -> bool:
    return any(part in path for part in _BOUNDED)


def _attributes(thing: object) -> Iterator[tuple[str, Any]]:
    yield from getattr(thing, "__dict__", {}).items()
    for kind in type(thing).__mro__:
        names = kind.__dict__.get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            if name != "__weakref__" and hasattr(thing, name):
                yield name, getattr(thing, name)


def _rss() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
