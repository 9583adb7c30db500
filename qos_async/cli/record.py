"""``qos record``, ``qos replay`` and ``qos convert``: recordings."""

from __future__ import annotations

import math
from argparse import ArgumentParser
from collections.abc import Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import qos_async as qos
from qos_async.cli import exits
from qos_async.cli.options import (
    Command,
    CommandError,
    Options,
    UsageError,
    add_connection,
    add_seconds,
    add_topics,
    any_path,
    port,
    speed,
)
from qos_async.cli.sim import PortError, listening
from qos_async.cli.stream import (
    CLOSE_TIMEOUT,
    NOT_ACKNOWLEDGED,
    await_acks,
    connect_within,
    events,
    topics_of,
)
from qos_async.cli.streams import print_message

if TYPE_CHECKING:  # Slow to import.
    from qos_async.recordings import Converted, Recorder
    from qos_async.recordings.replay_server import ReplayServer

__all__ = ["CONVERT", "RECORD", "REPLAY"]

_MEGABYTE = 1e6


# Record


def _add_record_arguments(parser: ArgumentParser) -> None:
    parser.usage = "qos record [CHANNEL ...] SYMBOL [SYMBOL ...] -o DIR [options]"
    add = parser.add_argument
    add_topics(parser)
    add(
        *("-o", "--output"),
        type=any_path,
        required=True,
        metavar="DIR",
        help="where to",
    )
    add(
        "--to",
        choices=("jsonl", "parquet"),
        default="jsonl",
        help="parquet: also convert the recording at the end",
    )
    add_seconds(parser)
    parser.set_defaults(csv=False, json=False)
    add_connection(parser)


def _run_record(options: Options) -> int:
    """Record until Ctrl-C, which is the regular end without ``--seconds``."""
    from qos_async.cli.client import run_async

    started: list[Recorder] = []
    code = run_async(partial(_record, options, started))
    for recorder in started:
        _report_recorded(recorder)
    stopped = code in (exits.INTERRUPTED, exits.TERMINATED)
    if stopped and options.seconds is None:
        code = exits.OK
    if options.to == "parquet" and started:
        out = options.output / "parquet"
        converted = _convert_all(started[0].paths, out, float)
        code = code or converted
    return code


async def _record(options: Options, started: list[Recorder]) -> None:
    import asyncio

    from qos_async.cli.client import open_client
    from qos_async.recordings import Recorder

    topics, failed = topics_of(options), asyncio.Event()
    if options.to == "parquet":
        _check_parquet()
    recorder = Recorder(options.output, on_error=lambda _: failed.set())
    async with open_client(
        options, recorder=recorder, recover=False, numbers=str, timing=_timing()
    ) as client:
        started.append(recorder)
        ends_at = await connect_within(client, options.seconds)
        async with aclosing(client.watch(*topics)) as ticks:
            subscribed: set[str] = set()
            ticked: set[str] = set()
            reading = asyncio.create_task(_read(ticks, ticked))
            failing = asyncio.create_task(failed.wait())
            try:
                await _await_acks(ticks, ends_at)
                subscribed |= {topic.symbol for topic in ticks.topics}
                taken = _plural(len(ticks.topics), "topic")
                print_message(f"{taken} to {options.output}; Ctrl-C ends it")
                await asyncio.wait(
                    (reading, failing),
                    timeout=_time_left(ends_at),
                    return_when=asyncio.FIRST_COMPLETED,
                )
            finally:
                ended = reading.done()
                failing.cancel()
                reading.cancel()
                await asyncio.gather(reading, failing, return_exceptions=True)
                if silent := subscribed - ticked:
                    _print_timed(f"no ticks of {', '.join(sorted(silent))}")
            if recorder.error is not None:
                raise recorder.error
            if ended:
                reading.result()


async def _await_acks(ticks: qos.Subscription[Any], ends_at: float | None) -> None:
    """Wait for acknowledgements, until ``ends_at`` by the clock of the loop."""
    import asyncio

    try:
        async with asyncio.timeout_at(ends_at):
            await await_acks(ticks, _print_timed)
    except TimeoutError:
        _print_timed(NOT_ACKNOWLEDGED)


def _time_left(ends_at: float | None) -> float | None:
    import asyncio

    now = asyncio.get_running_loop().time()
    return None if ends_at is None else max(ends_at - now, 0.0)


async def _read(ticks: qos.Subscription[Any], ticked: set[str]) -> None:
    """Report gaps and rejections; add symbols that tick to ``ticked``."""
    from qos_async.cli.formatting import gaps_line

    async for event in events(ticks, _print_timed):
        if isinstance(event, qos.Gap):
            _print_timed(f"gap: {gaps_line([event])}: {event.reason}")
        elif not isinstance(event, qos.Dropped):
            ticked.add(event.symbol)


def _timing() -> qos.Timing:
    return qos.Timing(close_timeout=CLOSE_TIMEOUT)


def _report_recorded(recorder: Recorder) -> None:
    stats = recorder.stats
    lost = f"; {stats.dropped} were not recorded" if stats.dropped else ""
    print_message(
        f"{stats.frames} frames in {stats.bytes_written / _MEGABYTE:.2f} MB, "
        f"{_plural(stats.files, 'file')}{lost}"
    )


def _check_parquet() -> None:
    from qos_async import frames

    try:
        frames.schema(qos.Trade)
    except ModuleNotFoundError as error:
        raise UsageError(f"--to parquet: {error}") from None


# Convert


def _add_convert_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("path", type=any_path, metavar="DIR", help="a recording, or one of its files")
    add(
        *("-o", "--output"),
        type=any_path,
        required=True,
        metavar="OUT",
        help="where to",
    )
    add(
        "--numbers",
        choices=("float", "decimal", "text"),
        default="float",
        help="decimal loses no digit (float)",
    )


def _run_convert(options: Options) -> int:
    """Convert, and print a summary."""
    from decimal import Decimal

    numbers = {"float": float, "decimal": Decimal, "text": str}[options.numbers]
    return _convert_all([options.path], options.output, numbers)


def _convert_all(paths: Sequence[Path], out: Path, numbers: Any) -> int:
    """Convert without an event loop, which would keep signals waiting."""
    from qos_async.cli.client import report_error
    from qos_async.recordings import convert

    for path in paths:
        try:
            _report_converted(convert(path, out, numbers=numbers), out)
        except qos.QosError as error:
            return report_error(error)
        except ModuleNotFoundError as error:
            raise UsageError(str(error)) from None
        except ValueError as error:
            raise CommandError(f"{error}: try --numbers text") from None
    return exits.OK


def _report_converted(converted: Converted, out: Path) -> None:
    for fault in converted.faults:
        print_message(f"damaged: {fault}")
    _report_unknown(converted.unknown)
    if converted.unreadable:
        print_message(f"skipped {_plural(converted.unreadable, 'unreadable frame')}")
    rows = ", ".join(f"{count} {channel}" for channel, count in converted.rows.items())
    print_message(
        f"{rows or 'no'} rows, {_plural(len(converted.files), 'file')}, in {out}"
    )


# Replay


def _add_replay_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("path", type=any_path, metavar="DIR", help="a recording, or one of its files")
    add(
        "--speed",
        type=partial(speed, maximum=math.inf),
        default=1.0,
        metavar="X",
        help="times real time (1)",
    )
    add("--port", type=port, default=0, help="0, the default, takes a free one")


def _run_replay(options: Options) -> int:
    """Serve until the recording ends."""
    from qos_async.cli.client import run_async

    code = run_async(partial(_replay, options))
    stopped = code in (exits.INTERRUPTED, exits.TERMINATED)
    return exits.OK if stopped else code


async def _replay(options: Options) -> None:
    from qos_async.recordings.replay_server import ReplayServer

    server = ReplayServer(options.path, speed=options.speed, port=options.port)
    try:
        async with listening(server, options.port):
            await _serve(server)
    except PortError as error:
        raise UsageError(str(error)) from None


async def _serve(server: ReplayServer) -> None:
    found = server.contents
    for fault in found.faults:
        print_message(f"damaged: {fault}")
    _report_unknown(found.unknown)
    seconds = (found.ends_at - found.begins_at) / 1e9
    names = ", ".join(sorted(map(str, found.topics)))
    print_message(f"{seconds:.0f} s of {names}; starts at the first subscription")
    await server.ended.wait()
    await server.close_ended()
    print_message(
        f"the recording has ended; {sum(server.pushed.values())} pushes were sent"
    )


def _report_unknown(count: int) -> None:
    if count:
        entries = "entry" if count == 1 else "entries"
        print_message(
            f"skipped {count} {entries} that a newer qos-async wrote: to have them, pip "
            "install --upgrade qos-async"
        )


def _plural(count: int, noun: str) -> str:
    from qos_async.cli.formatting import plural

    return plural(count, noun)


def _print_timed(text: str) -> None:
    from qos_async.cli.formatting import iso_time

    print_message(f"{iso_time()} {text}")


RECORD = Command(
    "write received frames to files, until Ctrl-C",
    """\
Writes everything that is received over the stream into files of a directory,
with the time of receipt, until Ctrl-C or for --seconds. Outages are recorded,
the key is not. CHANNEL is snapshots, trades (the default), depth or klines.

examples:
  qos record trades depth US:AAPL,TSLA -o recordings
  qos record --sim CF:BTCUSDT --seconds 5 -o recordings
  qos record --sim CF:BTCUSDT --seconds 5 -o recordings --to parquet
""",
    """\
Files are JSON lines, compressed with zstandard; a new one is started each hour.
They are flushed every second, so Ctrl-C, or even a crash, loses next to
nothing. Existing files are left alone; one recorder writes to a directory, and
a second one is refused. With --to parquet there is also a
directory parquet in DIR at the end. Play them with qos replay; see also qos
convert. A full disk ends the recording with exit code 1. Ctrl-C (or SIGTERM, or
SIGHUP) is the regular end, so the exit code is 0; with --seconds it is 130
(143), because the time was not over.
""",
    _add_record_arguments,
    _run_record,
)
REPLAY = Command(
    "serve a recording, as if it were live",
    """\
Runs a QOS server on this machine that plays a recording to clients in any
language. It starts at the first subscription, and stops at the end of the
recording, or with Ctrl-C. The lines on stdout set the environment of a client;
a shell can evaluate them.

examples:
  qos record --sim CF:BTCUSDT --seconds 5 -o recordings
  qos replay recordings --port 8765
  qos replay recordings --speed 10
""",
    """\
Pushes are sent as they were received, byte for byte. Requests for snapshots,
depth, trades and klines are answered from what was pushed until then. Where the
link was lost or the file is damaged, the server cuts its links, and waits up to
ten seconds for a client to reconnect. At the end it closes them with code 4390,
at which clients of this package end, too. In Python, without a server:
qos_async.replay.
""",
    _add_replay_arguments,
    _run_replay,
)
CONVERT = Command(
    "convert a recording to Parquet",
    """\
Writes a recording as Parquet, a row per tick, in a directory for each channel
and each day (UTC) on which ticks were received:
OUT/channel=trade/date=2025-01-02/.

examples:
  qos record --sim CF:BTCUSDT --seconds 5 -o recordings
  qos convert recordings -o parquet
  python -c "import polars; print(polars.read_parquet('parquet/channel=trade/**/*.parquet'))"
""",
    """\
Running it again replaces its output. Files are moved into place when they are
complete, so nothing half written is ever in OUT: until then they are beside it,
in .OUT.unfinished. Damaged parts of a recording are reported and skipped.
""",
    _add_convert_arguments,
    _run_convert,
)
