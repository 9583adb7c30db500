"""``qos stream``: live ticks on stdout, everything else on stderr."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from decimal import Decimal
from functools import partial
from typing import Any, TypeAlias

from qos_async import (
    Channel,
    Depth,
    Dropped,
    Gap,
    Interval,
    Kline,
    Snapshot,
    StateChange,
    Timing,
    Topic,
    Trade,
)
from qos_async.cli import exits
from qos_async.cli.commands.stream import Arguments
from qos_async.cli.connecting import UsageError, connect, run_async
from qos_async.cli.jsonlines import JsonView
from qos_async.cli.notices import Notices
from qos_async.cli.outlet import Outlet
from qos_async.cli.refusals import Refusals
from qos_async.cli.rows import as_json, csv_lines, fields, header, table_rows
from qos_async.cli.run_stats import AnyTick, RunStats, channel_of
from qos_async.cli.wording import tick_line

__all__ = ["run_stream", "topics_of"]

_Told: TypeAlias = Notices | JsonView

_KINDS: dict[Channel, type[Any]] = {
    Channel.SNAPSHOT: Snapshot,
    Channel.TRADE: Trade,
    Channel.DEPTH: Depth,
    Channel.KLINE: Kline,
}
_TIMING = Timing(close_timeout=0.5)
"""Who presses Ctrl-C does not wait for a server that has gone."""


def run_stream(arguments: Arguments) -> int:
    """Write ticks until somebody has enough; without ``--seconds``, that is the end."""
    code = run_async(partial(_play, arguments))
    ended = code in (exits.INTERRUPTED, exits.TERMINATED)
    return exits.OK if ended and arguments.seconds is None else code


def topics_of(arguments: Arguments) -> tuple[Topic, ...]:
    """Say what is to be watched.

    Raises:
        UsageError: If that is nothing, or does not fit together.
    """
    symbols = [s for word in arguments.words if isinstance(word, tuple) for s in word]
    named = [word for word in arguments.words if isinstance(word, Channel)]
    channels = dict.fromkeys([*named, *arguments.channel] or [Channel.TRADE])
    if not symbols:
        raise UsageError("name at least one symbol, such as US:AAPL")
    if arguments.interval is not None and Channel.KLINE not in channels:
        raise UsageError("--interval is about klines: add --channel klines")
    if arguments.csv and len(channels) > 1:
        raise UsageError("--csv has one header, so it takes one channel: use --json")
    bar = arguments.interval or Interval.MIN_1
    return tuple(
        Topic(one, symbol, bar if one is Channel.KLINE else None)
        for one in channels
        for symbol in dict.fromkeys(symbols)
    )


async def _play(arguments: Arguments) -> None:
    topics = topics_of(arguments)
    exact = arguments.json or arguments.csv
    numbers: Any = str if exact else Decimal
    tally, outlet = RunStats(topics), Outlet()
    told: _Told = JsonView(tally) if arguments.json else Notices(tally)
    async with connect(arguments, numbers=numbers, timing=_TIMING) as client:
        await client.connect()  # Or there would be silence where there is no network.
        states, ticks = client.states(), client.watch(*topics)
        refusals = Refusals(client, topics, ticks, told.note)
        begun_at = time.monotonic()
        tally.move(StateChange(client.state), begun_at)
        try:
            async with asyncio.timeout(arguments.seconds), asyncio.TaskGroup() as tasks:
                tasks.create_task(outlet.write_out())
                tasks.create_task(_follow(states, tally, told))
                write = await _writer(arguments, topics, outlet)
                tasks.create_task(refusals.hear())
                tasks.create_task(_read(refusals, write, outlet, tally, told))
        except TimeoutError:
            pass
        finally:
            tally.frames_sent = client.stats.frames_sent
            if not outlet.failed:
                await outlet.finish()
                told.sum_up(time.monotonic() - begun_at)


async def _read(
    refusals: Refusals,
    write: Callable[[AnyTick], Awaitable[None]],
    outlet: Outlet,
    tally: RunStats,
    told: _Told,
) -> None:
    async for event in refusals.events():
        if isinstance(event, (Gap, Dropped)):
            await outlet.written()  # So that all is told in order.
            _tell(event, tally, told)
        else:
            tally.tick(event, time.monotonic())
            told.refresh()
            await write(event)


def _tell(event: Gap | Dropped, tally: RunStats, told: _Told) -> None:
    if isinstance(event, Gap):
        tally.gap(event, time.monotonic())
        told.gap(event)
    else:
        tally.drop(event.count)
        told.drop(event.count)


async def _follow(
    states: AsyncIterator[StateChange], tally: RunStats, told: _Told
) -> None:
    async for change in states:
        tally.move(change, time.monotonic())
        told.move(change)


async def _writer(
    arguments: Arguments, topics: Sequence[Topic], outlet: Outlet
) -> Callable[[AnyTick], Awaitable[None]]:
    """Choose how a tick is written, and write what comes before the first one."""

    async def write_line(tick: AnyTick) -> None:
        await outlet.put(f"{tick_line(tick)}\n")

    async def write_json(tick: AnyTick) -> None:
        row = {"channel": channel_of(tick).value, **fields(tick, live=True)}
        await outlet.put(f"{as_json(row)}\n")

    async def write_csv(tick: AnyTick) -> None:
        await outlet.put(csv_lines(names, table_rows(tick, live=True)))

    names = header(_KINDS[topics[0].channel], live=True)
    if not arguments.csv:
        return write_json if arguments.json else write_line
    await outlet.put(f"{','.join(names)}\n")
    return write_csv
