"""Throughput: trades a second on one core, of the client, a bare loop and the limit.

    python -m benchmarks.throughput [--quick] [--json]

The server writes prebuilt frames as fast as they are taken. ``bare aiohttp loop`` only
receives and decodes; ``limit`` is a raw asyncio protocol that splits frames by hand,
decodes them and calls a plain function. All decode with the client's own decoder.
A speed of 0.80 is 0.80 times as many ticks a second.
"""

from __future__ import annotations

from collections.abc import Awaitable
from decimal import Decimal
from functools import partial
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

__all__ = ["run"]

_NUMBERS: dict[str, Any] = {"float": float, "Decimal": Decimal}
# Of the limit's speed: ``async for`` and ``batches()``.
_BOUNDS = {"float": (0.62, 0.78), "Decimal": (0.75, 0.90)}
_BARE, _LIMIT = "bare aiohttp loop", "limit"


def run(*, quick: bool) -> Report:
    """Measure throughput."""
    pin()
    report = Report(benchmark="throughput")
    warm, ticks = (2_000, 5_000) if quick else (30_000, 300_000)

    def turn(work: Any, url: str, *words: Any) -> Figures:
        made: Awaitable[Figures] = work(url, Round(warm, ticks), *words)
        return run_in(None, made)

    with Server() as server:
        ways: dict[str, Any] = {}
        for name, numbers in _NUMBERS.items():
            start = partial(partial, turn)
            ways[f"{_BARE}, {name}"] = start(baselines.bare, server.url, numbers)
            ways[f"{_LIMIT}, {name}"] = start(baselines.limit, server.url, numbers)
            ways[f"async for, {name}"] = start(
                baselines.each_trade, server.url, numbers
            )
            ways[f"batches(), {name}"] = start(
                baselines.in_batches, server.url, numbers
            )
        rounds = Rounds(ways, quick=quick, apart=True)
    _judge(report, rounds)
    return report


def _judge(report: Report, rounds: Rounds) -> None:
    report.rounds = rounds.count

    def speed(name: str, by: str) -> Spread:
        group = "speed by CPU time, to the same"
        report.figure(group, name, "x", rounds.ratio(by, "cpu", name))
        return rounds.ratio(by, "wall", name)

    for name in _NUMBERS:
        bare = f"{_BARE}, {name}"
        for way, bound in (("async for", 0.80), ("batches()", 0.92)):
            what = f"{way}, {name}: speed, to a bare aiohttp loop's"
            reached = speed(f"{way}, {name}", bare)
            report.reach("1", what, reached, at_least=bound)
    for name in _NUMBERS:
        limit = f"{_LIMIT}, {name}"
        for way, bound in zip(("async for", "batches()"), _BOUNDS[name], strict=True):
            what = f"{way}, {name}: speed, to the limit's"
            reached = speed(f"{way}, {name}", limit)
            report.reach("2", what, reached, at_least=bound)
    for name in rounds.values:
        rate = Spread.of(1e3 / ns for ns in rounds.each(name, "wall"))
        report.figure("million ticks a second", name, "M/s", rate)
    for name in rounds.values:
        report.figure("CPU a tick", name, "ns", rounds.spread(name, "cpu"))
    lost = sum(sum(one.get("dropped", 0) for one in v) for v in rounds.values.values())
    report.note(f"ticks dropped by a client's buffer: {lost:.0f}")


if __name__ == "__main__":
    main(run, "Measure ticks a second.")
