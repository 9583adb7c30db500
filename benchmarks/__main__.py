"""All benchmarks, one after another.

    python -m benchmarks [--quick] [--only NAME ...] [--into FOLDER]

Writes one JSON file each, then a table and a chart of all results, into
``benchmarks/results/``. It takes under ten minutes on an otherwise idle machine.
``--quick`` only checks that everything runs: a few seconds each, one round, and nothing
is written without ``--into``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import (
    chart,
    competitors,
    consumers,
    decode,
    harness,
    hub,
    latency,
    recording,
    scale,
    startup,
    stream,
    throughput,
)
from benchmarks.harness import Report

__all__ = ["main"]

_ALL: dict[str, Callable[..., Report]] = {
    "decode": decode.report,
    "throughput": throughput.run,
    "latency": latency.run,
    "scale": scale.run,
    "consumers": consumers.run,
    "competitors": competitors.run,
    "startup": startup.run,
    "recording": recording.run,
    "hub": hub.run,
    "stream": stream.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Run all benchmarks."
    )
    parser.add_argument("--quick", action="store_true", help="see only that all run")
    parser.add_argument(
        "--only", nargs="+", choices=_ALL, metavar="NAME", help=", ".join(_ALL)
    )
    parser.add_argument("--into", type=Path, metavar="FOLDER", help="where to write")
    options = parser.parse_args()
    folder: Path | None = options.into
    if folder is None and not options.quick:
        folder = harness.RESULTS
    began = time.perf_counter()
    for name in options.only or _ALL:
        report = harness.in_child(partial(_ALL[name], quick=options.quick))
        print(report.show(), flush=True)
        if folder is not None:
            harness.write(report, folder)
    if folder is not None:
        names = chart.write_all(harness.read(_ALL, folder), folder)
        print(f"\nwritten: {', '.join(names)}")
    print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
