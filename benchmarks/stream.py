"""Streams: ticks a second in and out, added latency, takeover, start and memory.

    python -m benchmarks.stream [--quick] [--json]

Brokers are real servers on loopback, one node or three, on the core of the benchmarks'
server. Messages have ten ticks.

- In: a recorder is given bursts, ten ticks of each of ten symbols, until all are
  acknowledged. Beside it nats-py alone publishes the same payloads with the same headers,
  all built beforehand, through a window of 2,000.
- Out: ``follow()`` from the beginning, 100 topics. Beside it nats-py alone pulls the same
  messages, splits them and decodes each tick; it checks nothing.
- One trade at a time, 1,000 a second, over the direct link, and through a recorder (another
  process on the client's core), broker and follower.
- Takeover: a recorder and its standby; the time from the signal to the standby's first tick
  at a follower. The market is a simulator of 50 trades a second for each symbol.
- A follower of 10 topics in a stream of 10,000: the time until it is ready, and until its
  first tick and all of the past from the beginning.
- Ten million ticks through recorder, broker and follower: the memory of the two processes
  of ours at the end, to that after a tenth.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any

from benchmarks.harness import (
    Candidate,
    Figures,
    Report,
    Round,
    Rounds,
    Server,
    Spread,
    in_child,
    installed,
    main,
    other_process,
    pin,
    read_line,
    run_in,
)
from benchmarks.latency import each_trade, wait_for_each
from benchmarks.wires import symbols
from qos_async.recordings import follow
from qos_async.sim import Simulator

__all__ = ["run"]

_IN, _OUT = "recorder", "follow()"
_BARE_IN, _BARE_OUT = "bare window", "bare pull loop"
_EACH, _BATCHES = "async for", "batches()"
_NODES = {1: "one node", 3: "three nodes"}
_RATE = 1_000
_DIRECT = "direct link"
_GOALS_IN = {1: 300, 3: 200}
_GOALS_LATE = {1: 1.0, 3: 2.0}
_TOPICS = 100
_FEW, _MANY = 10, 10_000
_ROUNDS = 3
_GLANCE = 0.01
_numbers = count(1)


def run(*, quick: bool) -> Report:
    """Measure streams."""
    report = Report(benchmark="stream")
    if installed("nats") is None:
        report.note("nats-py is not installed: nothing was measured")
        return report
    pin()
    _in(report, quick=quick)
    _out(report, quick=quick)
    _late(report, quick=quick)
    _takeover(report, quick=quick)
    _start(report, quick=quick)
    _flat(report, quick=quick)
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    report.note(f"load after the run, of 1, 5 and 15 minutes: {load}")
    return report


def _turn(work: Callable[..., Awaitable[Figures]], *words: Any) -> Figures:
    return run_in(None, work(*words))


def _name() -> str:
    """Return the name of a new stream, also in a fork of this process."""
    return f"B{os.getpid()}x{next(_numbers)}"


# Speed


def _in(report: Report, *, quick: bool) -> None:
    ticks = 20_000 if quick else 300_000
    for nodes, where in _NODES.items():
        bare, ours = f"{_BARE_IN}, {where}", f"{_IN}, {where}"
        with parts().brokers(nodes) as broker:
            ways: dict[str, Candidate] = {
                bare: partial(_in_bare, broker.url, nodes, ticks),
                ours: partial(_in_recorder, broker.url, ticks),
            }
            rounds = Rounds(ways, quick=quick, apart=True)
        _judge_speed(report, rounds, bare, ours, rate=_GOALS_IN[nodes], ratio=0.7)
        _list_speeds(report, rounds)


def _in_bare(url: str, nodes: int, ticks: int) -> Figures:
    return _turn(parts().bare_in, url, _name(), nodes, ticks)


def _in_recorder(url: str, ticks: int) -> Figures:
    return _turn(parts().recorder_in, url, _name(), ticks)


def _out(report: Report, *, quick: bool) -> None:
    warm, ticks = (2_000, 10_000) if quick else (50_000, 500_000)
    with parts().brokers(1) as broker:
        url, name = broker.url, parts().STREAM
        messages = (warm + ticks) // parts().TOGETHER + _TOPICS
        in_child(lambda: asyncio.run(parts().fill(url, name, _TOPICS, messages)))
        each, batches = f"{_OUT}, {_EACH}", f"{_OUT}, {_BATCHES}"
        ways: dict[str, Candidate] = {
            _BARE_OUT: lambda: _turn(parts().bare_out, url, name, Round(warm, ticks)),
            each: lambda: _turn(_followed, url, name, Round(warm, ticks)),
            batches: lambda: _turn(_in_batches, url, name, Round(warm, ticks)),
        }
        rounds = Rounds(ways, quick=quick, apart=True)
    for ours in (batches, each):
        _judge_speed(report, rounds, _BARE_OUT, ours, rate=400, ratio=0.6)
    _list_speeds(report, rounds)


def _judge_speed(
    report: Report, rounds: Rounds, bare: str, ours: str, *, rate: float, ratio: float
) -> None:
    report.rounds = rounds.count
    found = Spread.of(1e6 / ns for ns in rounds.each(ours, "wall"))
    what = f"{ours}: thousand ticks a second"
    report.reach("12", what, found, at_least=rate, unit="k/s")
    what = f"{ours}: speed, to that of a {bare}"
    report.reach("12", what, rounds.ratio(bare, "wall", ours), at_least=ratio)
    by_cpu = rounds.ratio(bare, "cpu", ours)
    report.figure("speed by CPU time, to the bare loop's", ours, "x", by_cpu)


def _list_speeds(report: Report, rounds: Rounds) -> None:
    for name in rounds.values:
        found = Spread.of(1e6 / ns for ns in rounds.each(name, "wall"))
        report.figure("thousand ticks a second", name, "k/s", found)
        report.figure("CPU a tick", name, "ns", rounds.spread(name, "cpu"))


async def _followed(url: str, name: str, round_: Round) -> Figures:
    async with follow(f"{url}/{name}", "first", numbers=float) as client:
        trades, goal, seen = client.watch_trades(*symbols(_TOPICS)), round_.goal, 0
        async for _ in trades:
            seen += 1
            if seen == goal:
                goal = round_.mark(seen)
                if not goal:
                    break
    return round_.figures


async def _in_batches(url: str, name: str, round_: Round) -> Figures:
    async with follow(f"{url}/{name}", "first", numbers=float) as client:
        trades, goal, seen = client.watch_trades(*symbols(_TOPICS)), round_.goal, 0
        async for batch in trades.batches():
            seen += len(batch)
            if seen >= goal:
                goal = round_.mark(seen)
                if not goal:
                    break
    return round_.figures


# Latency


def _late(report: Report, *, quick: bool) -> None:
    warm, ticks = (_RATE // 20, _RATE // 10) if quick else (_RATE // 2, 2 * _RATE)
    for nodes, where in _NODES.items():
        through = f"through {where}"
        with parts().brokers(nodes) as broker, Server(rate=_RATE) as server:
            ways: dict[str, Candidate] = {
                _DIRECT: partial(_turn, each_trade, server.url, warm, ticks),
                through: partial(_late_through, broker.url, server.url, warm, ticks),
            }
            rounds = Rounds(ways, quick=quick, apart=True)
        pairs = zip(
            rounds.each(through, "p50"), rounds.each(_DIRECT, "p50"), strict=True
        )
        added = Spread.of((one - direct) / 1e6 for one, direct in pairs)
        what = (
            f"{_RATE}/s: p50 that {where} add{'s' * (nodes == 1)} to the direct link's"
        )
        report.reach("12", what, added, at_most=_GOALS_LATE[nodes], unit="ms")
        for name in rounds.values:
            for figure in ("p50", "p99"):
                value = rounds.spread(name, figure, 1e-3)
                report.figure(f"{_RATE}/s beside {where}, {name}", figure, "us", value)


def _late_through(url: str, upstream: str, warm: int, ticks: int) -> Figures:
    return _turn(_through, url, _name(), upstream, warm, ticks)


async def _through(
    url: str, name: str, upstream: str, warm: int, ticks: int
) -> Figures:
    place = f"{url}/{name}"
    async with other_process(
        "benchmarks.stream_parts", "record", place, upstream
    ) as lines:
        await read_line(lines)
        async with follow(place, numbers=float) as client:
            figures = await wait_for_each(client, warm, ticks)
    await parts().remove(url, name)
    return figures


# Takeover


def _takeover(report: Report, *, quick: bool) -> None:
    lease = 1.0 if quick else 4.0
    found: dict[int, list[float]] = {signal.SIGKILL: [], signal.SIGTERM: []}
    for number, seconds in found.items():
        for _ in range(1 if quick else _ROUNDS):
            with parts().brokers(1) as broker:
                place = f"{broker.url}/{_name()}"
                seconds.append(asyncio.run(_take_over(place, lease, number)))
    killed = Spread.of(seconds - lease for seconds in found[signal.SIGKILL])
    what = f"standby's first tick after kill -9 of the holder, beyond the lease of {lease:g} s"
    report.reach("12", what, killed, at_most=3, unit="s")
    what = "standby's first tick after SIGTERM of the holder"
    report.reach("12", what, Spread.of(found[signal.SIGTERM]), at_most=2, unit="s")


async def _take_over(place: str, lease: float, number: int) -> float:
    async with Simulator(rate=50) as sim:
        first = await _begin(sim, place, lease, "1 topic")
        second = await _begin(sim, place, lease, "standby")
        try:
            async with follow(place, numbers=float) as client:
                trades, epoch, begun = client.watch_trades("CF:BTCUSDT"), "", 0.0
                async for trade in trades:
                    here = trade.place.split(".")[2]
                    if not epoch:
                        epoch, begun = here, time.monotonic()
                        first.send_signal(number)
                    elif here != epoch:
                        return time.monotonic() - begun
        finally:
            for process in (first, second):
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
    raise RuntimeError("there was no tick of the standby")


async def _begin(
    sim: Simulator, place: str, lease: float, words: str
) -> asyncio.subprocess.Process:
    """Start ``qos record``; return when its standard error has some words."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "qos_async", "record", "CF:BTCUSDT", "-o", place),
        *("--lease", f"{lease:g}"),
        stderr=subprocess.PIPE,
        env={
            **os.environ,
            "QOS_API_KEY": sim.key,
            "QOS_HTTP_URL": sim.http_url,
            "QOS_STREAM_URL": sim.stream_url,
        },
    )
    assert process.stderr is not None
    while words not in (await read_line(process.stderr)).decode():
        pass
    return process


# Start


def _start(report: Report, *, quick: bool) -> None:
    many, each = (500, 4) if quick else (_MANY, 20)
    found: dict[str, list[float]] = {}
    with parts().brokers(1) as broker:
        url, name = broker.url, parts().STREAM
        in_child(lambda: asyncio.run(parts().fill(url, name, many, many * each, 1)))
        for _ in range(1 if quick else _ROUNDS):
            for figure, value in _turn(_starts, f"{url}/{name}", many).items():
                found.setdefault(figure, []).append(value)
    of = f"a follower of {_FEW} topics of {many:,}"
    ends, begins = Spread.of(found["end"]), Spread.of(found["first"])
    report.reach("12", f"{of}: ready at the end", ends, at_most=1, unit="s")
    what = f"{of}: first tick from the beginning"
    report.reach("12", what, begins, at_most=5, unit="s")
    past = Spread.of(found["live"])
    what = f"{of}: all {many * each:,} messages passed"
    report.reach("12", what, past, at_most=5, unit="s")


async def _starts(place: str, many: int) -> Figures:
    names, clock = symbols(many)[:: many // _FEW][:_FEW], time.perf_counter
    begun = clock()
    async with follow(place, numbers=float) as client, client.watch_trades(*names):
        end = clock() - begun
    begun = clock()
    async with (
        follow(place, "first", numbers=float) as client,
        client.watch_trades(*names) as trades,
    ):
        await anext(aiter(trades))
        first = clock() - begun
        reading = asyncio.create_task(_read_on(trades))
        while not client.live:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(_GLANCE)
        live = clock() - begun
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    return {"end": end, "first": first, "live": live}


async def _read_on(trades: Any) -> None:
    async for _ in trades:
        pass


# Memory


def _flat(report: Report, *, quick: bool) -> None:
    ticks = 100_000 if quick else 10_000_000
    with parts().brokers(1) as broker:
        begun = time.perf_counter()
        found = _turn(_long, f"{broker.url}/{parts().STREAM}", ticks)
        seconds = time.perf_counter() - begun
    for name in ("recorder", "follower"):
        grown = Spread.of(
            [found[f"{name} at the end"] / found[f"{name} after a tenth"]]
        )
        what = f"{ticks:,} ticks: memory of the {name} at the end, to after a tenth"
        report.reach("12", what, grown, at_most=1.05)
    for name, value in found.items():
        report.figure("memory", name, "MiB", Spread.of([value / 2**20]))
    report.note(
        f"{ticks:,} ticks through recorder, broker and follower: {seconds:.0f} s"
    )


async def _long(place: str, ticks: int) -> Figures:
    found: Figures = {}
    async with other_process(
        "benchmarks.stream_parts", "feed", place, str(ticks)
    ) as feeding:
        after = {"recorder after a tenth": float(await read_line(feeding))}
        async with other_process(
            "benchmarks.stream_parts", "drain", place, str(ticks)
        ) as draining:
            found["follower after a tenth"] = float(await read_line(draining))
            found["follower at the end"] = float(await read_line(draining))
        found |= after | {"recorder at the end": float(await read_line(feeding))}
    return found


def parts() -> Any:
    """Import the module that needs nats-py."""
    from benchmarks import stream_parts  # noqa: PLC0415 - an extra

    return stream_parts


if __name__ == "__main__":
    main(run, "Measure streams.")
