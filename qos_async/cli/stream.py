"""``qos stream``: live ticks on stdout, everything else on stderr."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Sequence,
)
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import qos_async as qos
from qos_async.cli import exits
from qos_async.cli.display import Display, add_red_up, add_tz, resolve_display
from qos_async.cli.options import (
    Command,
    CommandError,
    Options,
    UsageError,
    add_connection,
    add_format,
    add_seconds,
    add_topics,
    place,
)
from qos_async.cli.streams import end_line
from qos_async.enums import Channel, Interval

if TYPE_CHECKING:  # Slow to import.
    from qos_async.cli.async_stdout import AsyncStdout
    from qos_async.cli.run_stats import RunStats
    from qos_async.cli.stderr_report import JsonView, StderrReport
    from qos_async.models import AnyTick

__all__ = [
    "CLOSE_TIMEOUT",
    "COMMAND",
    "NOT_ACKNOWLEDGED",
    "await_acks",
    "connect_within",
    "events",
    "topics_of",
]

CLOSE_TIMEOUT = 0.5
"""Ctrl-C does not wait for a server that is gone."""
NOT_ACKNOWLEDGED = (
    "the time is over, and the server has not acknowledged all subscriptions"
)


def topics_of(options: Options) -> tuple[qos.Topic, ...]:
    """Return the topics that ``add_topics`` has parsed.

    Raises:
        UsageError: If no symbol is named, or other options do not fit the topics.
    """
    words: list[Channel | tuple[str, ...]] = options.words
    symbols = [s for word in words if isinstance(word, tuple) for s in word]
    named = [word for word in words if isinstance(word, Channel)]
    channels = dict.fromkeys([*named, *options.channel] or [Channel.TRADE])
    if not symbols:
        raise UsageError("name at least one symbol, such as US:AAPL")
    if options.interval is not None and Channel.KLINE not in channels:
        raise UsageError("--interval is about klines: add --channel klines")
    if options.csv and len(channels) > 1:
        raise UsageError("--csv has one header, so it takes one channel: use --json")
    interval = options.interval or Interval.MIN_1
    return tuple(
        qos.Topic(channel, symbol, interval if channel is Channel.KLINE else None)
        for channel in channels
        for symbol in dict.fromkeys(symbols)
    )


async def events(
    ticks: qos.Subscription[Any], report: Callable[[str], None]
) -> AsyncGenerator[AnyTick | qos.Gap | qos.Dropped]:
    """Iterate over ticks, gaps and drops; report each rejected symbol once.

    Raises:
        RejectedError: If all symbols are rejected.
        LimitError: If the plan does not allow this subscription.
    """
    reported: set[str] = set()
    while True:
        try:
            async for event in ticks.events():
                if isinstance(event, qos.Rejected):
                    # Without topics left, the error ends the run and is reported then.
                    if ticks.topics and event.topic.symbol not in reported:
                        reported.add(event.topic.symbol)
                        report(f"{event.topic.symbol} rejected: {event.message}")
                # The messages on the link report an outage at its start.
                elif not isinstance(event, qos.Interrupted):
                    yield event
        except qos.LimitError:
            raise
        except qos.RejectedError:
            if not ticks.topics:
                raise
        else:
            return


async def connect_within(
    client: qos.Client[Any], seconds: float | None
) -> float | None:
    """Connect, and return when ``seconds`` are over by the clock of the loop.

    Raises:
        ConnectError: At once where there is no network.
        CommandError: If the connection takes longer.
    """
    import asyncio

    begun_at = asyncio.get_running_loop().time()
    ends_at = None if seconds is None else begun_at + seconds
    limit = asyncio.timeout_at(ends_at)
    try:
        async with limit:
            await client.connect()
    except TimeoutError:
        if not limit.expired():
            raise
        raise CommandError(f"there was no connection within {seconds:g} s") from None
    return ends_at


async def await_acks(
    ticks: qos.Subscription[Any], report: Callable[[str], None]
) -> None:
    """Wait until each topic is acknowledged or rejected; report a missing reply.

    Rejections are reported by ``events``.
    """
    try:
        await ticks.ready()
    except qos.LimitError:
        raise
    except qos.RejectedError:
        if not ticks.topics:
            raise
    except qos.RequestTimeoutError as error:
        report(f"{error}; retrying")


def _add_arguments(parser: ArgumentParser) -> None:
    parser.usage = "qos stream [CHANNEL ...] SYMBOL [SYMBOL ...] [options]"
    add_topics(parser)
    parser.add_argument(
        "--from",
        dest="place",
        type=place,
        metavar="PLACE",
        help="follow a recording that qos record writes: needs no key",
    )
    add_seconds(parser)
    add_tz(parser)
    add_red_up(parser)
    add_format(parser)
    add_connection(parser)


def _run(options: Options) -> int:
    """Write ticks until Ctrl-C, which is the regular end without ``--seconds``."""
    from qos_async.cli.client import run_async

    code = run_async(partial(_stream, options))
    stopped = code in (exits.INTERRUPTED, exits.TERMINATED)
    return exits.OK if stopped and options.seconds is None else code


async def _stream(options: Options) -> None:
    import asyncio
    import time
    from decimal import Decimal

    from qos_async.cli.async_stdout import AsyncStdout
    from qos_async.cli.run_stats import RunStats
    from qos_async.cli.stderr_report import JsonView, StderrReport

    topics = topics_of(options)
    numbers = str if options.json or options.csv else Decimal
    stats, stdout = RunStats(topics), AsyncStdout()
    display = resolve_display(options)
    report = JsonView(stats) if options.json else StderrReport(stats, display)
    timing = qos.Timing(close_timeout=CLOSE_TIMEOUT)
    async with _opened(options, numbers, timing) as client:
        # Before it connects, so that the first frame is a subscription.
        ticks = client.watch(*topics)
        ends_at = await connect_within(client, options.seconds)
        states = client.states()
        started_at, acks = time.monotonic(), None
        stats.on_state(qos.StateChange(client.state), started_at)
        try:
            async with asyncio.timeout_at(ends_at), asyncio.TaskGroup() as tasks:
                writing = tasks.create_task(stdout.run())
                tasks.create_task(_follow(states, stats, report))
                write = await _writer(options, topics, stdout, display)
                acks = tasks.create_task(await_acks(ticks, report.on_message))
                await _read(ticks, write, stdout, stats, report)
                writing.cancel()  # A replay has ended.
        except TimeoutError:
            if acks is not None and acks.cancelled():
                report.on_message(NOT_ACKNOWLEDGED)
        except asyncio.CancelledError:
            end_line()
            raise
        finally:
            stats.frames_sent = client.stats.frames_sent
            if not stdout.failed:
                await stdout.finish()
                report.summarize(time.monotonic() - started_at)


@asynccontextmanager
async def _opened(
    options: Options, numbers: type[Any], timing: qos.Timing
) -> AsyncGenerator[qos.Client[Any]]:
    """Open a client of the service, or with ``--from`` of a recording."""
    from qos_async.cli.client import check_followed, open_client

    if options.place is None:
        async with open_client(options, numbers=numbers, timing=timing) as client:
            yield client
        return
    check_followed(options)
    async with qos.follow(options.place, numbers=numbers) as followed:
        yield followed


async def _read(
    ticks: qos.Subscription[Any],
    write: Callable[[AnyTick], Awaitable[None]],
    stdout: AsyncStdout,
    stats: RunStats,
    report: StderrReport | JsonView,
) -> None:
    from time import monotonic

    async with aclosing(events(ticks, report.on_message)) as found:
        async for event in found:
            match event:
                case qos.Gap():
                    await stdout.drain()  # stdout and stderr stay in order.
                    stats.on_gap(event, monotonic())
                    report.on_gap(event)
                case qos.Dropped():
                    await stdout.drain()
                    stats.on_dropped(event.count)
                    report.on_dropped(event.count)
                case _:
                    stats.on_tick(event, monotonic())
                    report.refresh()
                    await write(event)


async def _follow(
    states: AsyncIterator[qos.StateChange],
    stats: RunStats,
    report: StderrReport | JsonView,
) -> None:
    from time import monotonic

    async for change in states:
        stats.on_state(change, monotonic())
        report.on_state(change)


async def _writer(
    options: Options,
    topics: Sequence[qos.Topic],
    stdout: AsyncStdout,
    display: Display,
) -> Callable[[AnyTick], Awaitable[None]]:
    """Return what writes a tick in the chosen format; writes the header of CSV."""
    from qos_async.cli.serialize import csv_lines, fields, header, json_line, table_rows

    async def write_json(tick: AnyTick) -> None:
        row = {"channel": tick.channel.value, **fields(tick, live=True, display=exact)}
        await stdout.write(json_line(row))

    async def write_csv(tick: AnyTick) -> None:
        rows = table_rows(tick, live=True, display=exact)
        await stdout.write(csv_lines(names, rows))

    exact = display.for_programs
    if options.json:
        return write_json
    if not options.csv:
        return _text_writer(topics, stdout, display)
    records: dict[Channel, type[Any]] = {
        Channel.SNAPSHOT: qos.Snapshot,
        Channel.TRADE: qos.Trade,
        Channel.DEPTH: qos.Depth,
        Channel.KLINE: qos.Kline,
    }
    dates = (topics[0].interval or 0) >= Interval.DAY
    names = header(records[topics[0].channel], live=True, dates=dates)
    names += [] if options.place is None else ["place"]
    await stdout.write(f"{','.join(names)}\n")
    return write_csv


def _text_writer(
    topics: Sequence[qos.Topic], stdout: AsyncStdout, display: Display
) -> Callable[[AnyTick], Awaitable[None]]:
    """Return what writes a line for each tick, for a terminal, a pipe or a file."""
    from qos_async.cli.formatting import DecimalPlaces, tick_line
    from qos_async.cli.tables import is_terminal
    from qos_async.cli.tick_lines import TickLines, has_colours

    if is_terminal():
        channels = [topic.channel for topic in topics]
        line = TickLines(display, channels, colours=has_colours()).line
    else:
        line = partial(tick_line, display=display, places=DecimalPlaces())

    async def write(tick: AnyTick) -> None:
        await stdout.write(f"{line(tick)}\n")

    return write


COMMAND = Command(
    "live ticks, until Ctrl-C",
    """\
Writes live ticks until Ctrl-C or for --seconds: a line of text each, with
--json an object per line, with --csv a row. CHANNEL is snapshots, trades (the
default), depth or klines. A terminal has short lines with the time of the tick;
elsewhere a line has the time of receipt.

examples:
  qos stream trades US:AAPL,TSLA
  qos stream --sim trades CF:BTCUSDT --seconds 5
  qos stream --sim trades depth CF:BTCUSDT --json | head -3
  qos stream trades US:AAPL --from recordings --json
""",
    """\
What may be missing is reported on stderr, in order: lost links, gaps, and ticks
that were dropped because the reader of the output was too slow. A summary comes
at the end. A lost link is dialled again without limit; only the first one must
open at once. Ctrl-C (or SIGTERM, or SIGHUP) is the regular end, so the exit
code is 0; with --seconds it is 130 (143), because the time was not over.

With --from, ticks are those that another process records into a directory or a
stream (nats://host:4222/STREAM), from now on, also while that is stopped and
started again. Each has a place, which is the same whenever it is read. It waits
for a directory that does not exist yet.
""",
    _add_arguments,
    _run,
)
