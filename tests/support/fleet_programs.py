"""Processes of a fleet under test: ``python -m tests.support.fleet_programs WHAT ...``.

``record`` is ``qos record`` with a wall clock that signals set, and a spool as small as
the environment has it. ``follow`` is a follower that writes each event as a line of JSON,
in one call to the system, so that a kill leaves whole lines.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from qos_async import Gap, Trade
from qos_async.cli import main as qos
from qos_async.errors import QosError
from qos_async.jetstream import spool, spool_writer
from qos_async.jetstream.errors import BrokerUnavailableError
from qos_async.jetstream.recorder import StreamRecorder
from qos_async.recordings import Follow, follow

__all__ = ["REFUSED", "rows_of"]

REFUSED = 3
"""Exit code of a follower that could not begin, or whose loop has ended."""

_FORWARD, _BACK = 40, -25
_DROPPED, _DOUBLED = 20, 30
_TINY_MEMORY, _TINY_DISK, _TINY_FILE = 4_000, 12_000, 2_000


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Return the lines that a follower has written, without an unfinished one."""
    if not path.exists():
        return []
    text = path.read_bytes()
    lines = text[: text.rfind(b"\n") + 1].splitlines()
    return [json.loads(line) for line in lines]


# The recorder


def _record(words: list[str]) -> int:
    _let_clock_be_set()
    if os.environ.get("FLEET_TINY_SPOOL"):
        defaults = spool.Spool.__init__.__kwdefaults__
        assert defaults is not None
        defaults.update(memory=_TINY_MEMORY, disk=_TINY_DISK)
        spool_writer._FILE_SIZE = _TINY_FILE
    if os.environ.get("FLEET_SABOTAGE"):
        _sabotage_recorder()
    return qos(["record", *words])


def _let_clock_be_set() -> None:
    """Have SIGUSR1 set the wall clock forward, and SIGUSR2 back."""
    ahead, real, real_ns = 0, time.time, time.time_ns

    def step(number: int, _: object) -> None:
        nonlocal ahead
        ahead += _FORWARD if number == signal.SIGUSR1 else _BACK

    signal.signal(signal.SIGUSR1, step)
    signal.signal(signal.SIGUSR2, step)
    time.time = lambda: real() + ahead
    time.time_ns = lambda: real_ns() + ahead * 1_000_000_000


def _sabotage_recorder() -> None:
    """Have the recorder drop frames once, and record others twice."""
    frames, count = StreamRecorder.frames, [0]

    def wrong(
        self: StreamRecorder, batch: Sequence[bytes], size: int, *, plain: bool
    ) -> None:
        count[0] += 1
        if count[0] == _DROPPED:
            return
        frames(self, batch, size, plain=plain)
        if count[0] == _DOUBLED:
            frames(self, batch, size, plain=plain)

    setattr(StreamRecorder, "frames", wrong)  # noqa: B010 - its type is the same


# The follower


async def _follow(place: str, path: Path, durable: str | None, *symbols: str) -> int:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(**row: Any) -> None:
        os.write(descriptor, json.dumps(row).encode() + b"\n")

    before = rows_of(path)
    write(kind="run", pid=os.getpid())
    start = "first" if durable else _last_place(before)
    client = follow(place, start, durable, numbers=str)
    try:
        async with client:
            await _until_signal(_read(client, symbols, write))
    except BrokerUnavailableError:
        return REFUSED  # It cannot begin or end without a broker, and is started again.
    except QosError as error:
        write(kind="error", text=str(error))
        return REFUSED
    return 0


def _last_place(rows: list[dict[str, Any]]) -> str:
    places: Iterator[str] = (row["place"] for row in reversed(rows) if row.get("place"))
    return next(places, "first")


async def _read(client: Follow[str], symbols: tuple[str, ...], write: Any) -> None:
    async for event in client.watch_trades(*symbols).events():
        match event:
            case Trade():
                write(
                    kind="trade",
                    symbol=event.symbol,
                    key=[event.timestamp, event.price, event.size],
                    place=event.place,
                    recovered=event.recovered,
                )
            case Gap():
                write(
                    kind="gap",
                    symbol=event.topic.symbol,
                    status=event.status,
                    since=event.since.timestamp(),
                    until=event.until.timestamp(),
                    reason=event.reason,
                )
            case _:
                write(kind=type(event).__name__.lower())


async def _until_signal(work: Any) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    reading, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait({reading, stopping}, return_when=asyncio.FIRST_COMPLETED)
    for task in (reading, stopping):
        if not task.done():
            task.cancel()
    await asyncio.gather(stopping, return_exceptions=True)
    with contextlib.suppress(asyncio.CancelledError):
        await reading


def _main(what: str, *words: str) -> int:
    if what == "record":
        return _record(list(words))
    place, path, durable, *symbols = words
    return asyncio.run(_follow(place, Path(path), durable or None, *symbols))


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
