"""Decoding: nanoseconds per frame, of qos_async, json, orjson and pydantic.

    python -m benchmarks.decode [--quick] [--json]

Each candidate reads the same bytes. qos_async and pydantic give typed records whose
prices are of the wanted type; json and orjson give dicts in which they are still text.
qos_async has to find out which record it is; pydantic is given the model.

Rounds are interleaved: in each, every candidate gets one turn on every row. The result
is the median of the rounds, and for ratios the median of those within one round, so that
other load of the machine affects all alike. Only ratios are comparable across machines.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from statistics import median
from typing import Any

import msgspec

from benchmarks import frames, parsers
from benchmarks.harness import Report, Spread
from benchmarks.wires import symbols, trade
from qos_async import Depth, Kline, Snapshot, Trade, __version__
from qos_async._core.wire import FrameDecoder

TYPES = frames.TYPES


class Row(msgspec.Struct):
    """One line of the table: a frame, read with one type of numbers."""

    record: str
    numbers: str
    size: int
    readers: dict[str, Callable[[], Any]]
    times: dict[str, list[float]] = {}

    def turn(self, seconds: float) -> None:
        """Time every candidate once."""
        for name, read in self.readers.items():
            self.times.setdefault(name, []).append(measure(read, seconds))

    def result(self) -> dict[str, Any]:
        """Return medians, in nanoseconds and as ratios to qos_async."""
        ours = self.times["qos_async"]
        return {
            "record": self.record,
            "numbers": self.numbers,
            "bytes": self.size,
            "ns": {name: round(median(them)) for name, them in self.times.items()},
            "ratio": {
                name: round(median(b / a for a, b in zip(ours, them, strict=True)), 2)
                for name, them in self.times.items()
            },
        }


def measure(read: Callable[[], Any], seconds: float) -> float:
    """Return the nanoseconds of one call, over as many as take about ``seconds``."""
    clock, calls, spent = time.perf_counter_ns, 1, 0
    while True:
        turns, start = range(calls), clock()
        for _ in turns:
            read()
        spent = clock() - start
        if spent >= seconds * 5e8:
            return spent / calls
        calls = max(calls * 2, int(calls * seconds * 1e9 / max(spent, 1)))


def rows() -> Iterator[Row]:
    """Return the rows of the table; every reader was run once."""
    for record, data in frames.FRAMES.items():
        for name, numbers in TYPES.items():
            readers = {
                "qos_async": frames.reader(record, data, numbers),
                **parsers.readers(record, data, numbers),
            }
            for read in readers.values():
                read()
            yield Row(record, name, len(data), readers)


def report(*, quick: bool) -> Report:
    """Measure decoding; returns the report that all benchmarks have."""
    rounds, table = _measured(quick=quick)
    made = Report(benchmark="decode", rounds=rounds)
    made.about |= about()
    for row in table:
        group = f"{row.record}, {row.numbers}"
        for name, times in row.times.items():
            made.figure(group, name, "ns", Spread.of(times))
    ratio = burst(quick=quick)
    what = "a trade among 128, Decimal: time, to msgspec's own decoder"
    made.reach("1", what, ratio, at_most=1.10)
    for name in parsers.MISSING:
        made.note(f"{name} is left out: it is not installed")
    return made


def burst(*, quick: bool) -> Spread:
    """Return the time of 128 trades that arrived together, to that of msgspec alone."""
    kinds: Any = Snapshot[Decimal] | Trade[Decimal] | Depth[Decimal] | Kline[Decimal]
    bare = msgspec.json.Decoder(kinds, strict=False).decode
    trades = [trade(name, 24600) for name in symbols(128)]
    ours = FrameDecoder(Decimal).push_all
    rounds, seconds = (2, 0.0005) if quick else (15, 0.02)
    return Spread.of(
        measure(lambda: ours(trades), seconds)
        / measure(lambda: list(map(bare, trades)), seconds)
        for _ in range(rounds)
    )


def run(*, quick: bool) -> list[dict[str, Any]]:
    """Measure everything."""
    return [row.result() for row in _measured(quick=quick)[1]]


def _measured(*, quick: bool) -> tuple[int, list[Row]]:
    rounds, seconds = (2, 0.0005) if quick else (15, 0.02)
    table = list(rows())
    for _ in range(rounds):
        for row in table:
            row.turn(seconds)
    return rounds, table


def about() -> dict[str, str]:
    """Return versions and machine."""
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "qos_async": __version__,
        "msgspec": msgspec.__version__,
        **parsers.VERSIONS,
    }


def show(results: list[dict[str, Any]]) -> None:
    """Write the table."""
    print(", ".join(f"{name} {version}" for name, version in about().items()))
    for name in parsers.MISSING:
        print(f"{name} is not installed: no column for it (pip install -e '.[dev]')")
    names = list(results[0]["ns"])
    print(f"\n{'':29}{'ns':>9}" + "".join(f"{name:>18}" for name in names[1:]))
    for one in results:
        ns, ratio = one["ns"], one["ratio"]
        competitor = "".join(f"{ns[n]:>10} ({ratio[n]:>4.1f}x)" for n in names[1:])
        head = f"{one['record']:<12}{one['numbers']:<8}{one['bytes']:>6} B"
        print(f"{head:<29}{ns['qos_async']:>9}{competitor}")
    print("\n(2.0x): takes twice as long as qos_async, in the same round.")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how fast frames are read.")
    parser.add_argument("--quick", action="store_true", help="see only that it runs")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    results = run(quick=options.quick)
    if options.json:
        json.dump({"about": about(), "results": results}, sys.stdout, indent=2)
        print()
    else:
        show(results)


if __name__ == "__main__":
    main()
