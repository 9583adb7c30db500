"""``qos record``, ``qos replay`` and ``qos convert``."""

from __future__ import annotations

import asyncio
import errno
import sys
from contextlib import aclosing
from decimal import Decimal
from functools import partial
from pathlib import Path

from qos_async import Dropped, Gap, Timing, Trade, frames
from qos_async.cli import exits
from qos_async.cli.commands import convert as converting
from qos_async.cli.commands import record as recording
from qos_async.cli.commands import replay as replaying
from qos_async.cli.connecting import UsageError, connect, run_async
from qos_async.cli.refusals import Refusals
from qos_async.cli.stream import topics_of
from qos_async.cli.wording import gaps_line, stamp
from qos_async.recordings import Converted, Recorder, RecordingError, convert
from qos_async.recordings.replay_server import ReplayServer

__all__ = ["run_convert", "run_record", "run_replay"]

_NUMBERS: dict[str, type[float | Decimal | str]] = {
    "float": float,
    "decimal": Decimal,
    "text": str,
}
_TIMING = Timing(close_timeout=0.5)
_MEGA = 1e6


# Record


def run_record(arguments: recording.Arguments) -> int:
    """Record until somebody has enough; without ``--seconds``, that is the end."""
    made: list[Recorder] = []
    code = run_async(partial(_record, arguments, made))
    for recorder in made:
        _tell_recorded(recorder)
    ended = code in (exits.INTERRUPTED, exits.TERMINATED)
    if ended and arguments.seconds is None:
        code = exits.OK
    if arguments.to == "parquet" and made:
        out = Path(arguments.output, "parquet")
        told = run_async(partial(_convert_all, made[0].paths, out))
        code = code or told
    return code


async def _record(arguments: recording.Arguments, made: list[Recorder]) -> None:
    topics, stopped = topics_of(arguments), asyncio.Event()
    if arguments.to == "parquet":
        _check_parquet()
    recorder = Recorder(arguments.output, on_error=lambda _: stopped.set())
    async with connect(
        arguments, recorder=recorder, recover=False, numbers=str, timing=_TIMING
    ) as client:
        made.append(recorder)
        await client.connect()
        async with aclosing(client.watch(*topics)) as ticks:
            refusals = Refusals(client, topics, ticks, _note)
            await refusals.hear()
            if taken := len(ticks.topics):
                _tell(f"{_count(taken, 'topic')} to {arguments.output}; Ctrl-C ends it")
            silent = {topic.symbol for topic in ticks.topics}
            reading = asyncio.create_task(_read(refusals, silent))
            stopping = asyncio.create_task(stopped.wait())
            try:
                await asyncio.wait(
                    (reading, stopping),
                    timeout=arguments.seconds,
                    return_when=asyncio.FIRST_COMPLETED,
                )
            finally:
                stopping.cancel()
                reading.cancel()
                if silent:
                    _note(f"nothing came of {', '.join(sorted(silent))}")
            if recorder.error is not None:
                raise recorder.error
            if reading.done():
                reading.result()


def _count(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


async def _read(refusals: Refusals, silent: set[str]) -> None:
    async for event in refusals.events():
        if isinstance(event, Gap):
            _note(f"gap: {gaps_line([event])}: {event.reason}")
        elif not isinstance(event, Dropped):
            silent.discard(event.symbol)


def _tell_recorded(recorder: Recorder) -> None:
    stats = recorder.stats
    lost = f"; {stats.dropped} were not recorded" if stats.dropped else ""
    _tell(
        f"{stats.frames} frames in {stats.bytes_written / _MEGA:.2f} MB, "
        f"{_count(stats.files, 'file')}{lost}"
    )


def _check_parquet() -> None:
    try:
        frames.schema(Trade)
    except ModuleNotFoundError as error:
        raise UsageError(f"--to parquet: {error}") from None


# Convert


def run_convert(arguments: converting.Arguments) -> int:
    """Convert, and sum up."""
    numbers = _NUMBERS[arguments.numbers]
    paths = (Path(arguments.path),)
    return run_async(partial(_convert_all, paths, Path(arguments.output), numbers))


async def _convert_all(
    paths: tuple[Path, ...], out: Path, numbers: type[float | Decimal | str] = float
) -> None:
    for path in paths:
        try:
            _tell_converted(convert(path, out, numbers=numbers), out)
        except ModuleNotFoundError as error:
            raise UsageError(str(error)) from None
        except ValueError as error:
            raise RecordingError(f"{error}: try --numbers str") from None


def _tell_converted(made: Converted, out: Path) -> None:
    for fault in made.faults:
        _tell(f"damaged, and read up to there: {fault}")
    if made.unreadable:
        _tell(f"{made.unreadable} frames are nothing that anybody can read")
    rows = ", ".join(f"{count} {channel}" for channel, count in made.rows.items())
    _tell(f"{rows or 'no'} rows, {_count(len(made.files), 'file')}, in {out}")


# Replay


def run_replay(arguments: replaying.Arguments) -> int:
    """Serve until the recording ends."""
    code = run_async(partial(_replay, arguments))
    ended = code in (exits.INTERRUPTED, exits.TERMINATED)
    return exits.OK if ended else code


async def _replay(arguments: replaying.Arguments) -> None:
    server = ReplayServer(arguments.path, speed=arguments.speed, port=arguments.port)
    try:
        await _serve(server)
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        raise UsageError(
            f"port {arguments.port} cannot be had ({error.strerror}): choose another "
            "with --port, or let --port 0 find a free one"
        ) from None


async def _serve(server: ReplayServer) -> None:
    async with server:
        found = server.contents
        for fault in found.faults:
            _tell(f"damaged, and played up to there: {fault}")
        seconds = (found.ends_at - found.begins_at) / 1e9
        names = ", ".join(sorted(map(str, found.topics)))
        _tell(f"{seconds:.0f} s of {names}; it begins when somebody subscribes")
        print(f"export QOS_HTTP_URL={server.http_url}")
        print(f"export QOS_STREAM_URL={server.stream_url}")
        print(f"export QOS_API_KEY={server.key}", flush=True)
        await server.ended.wait()
        await server.close(reason="the recording has ended")
        pushed = sum(server.pushed.values())
    _tell(f"the recording has ended; {pushed} pushes went out")


def _note(text: str) -> None:
    _tell(f"{stamp()} {text}")


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
