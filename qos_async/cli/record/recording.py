"""One run of ``qos record``: a client, its recorder, and what is reported of both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from msgspec.structs import replace

import qos_async as qos
from qos_async.cli.client import explaining, make_client, open_settings
from qos_async.cli.display import resolve_display
from qos_async.cli.formatting import gaps_line, plural, with_spellings
from qos_async.cli.options import Options, UsageError
from qos_async.cli.record.changes import Changes
from qos_async.cli.record.fleet import FleetFile, Holder
from qos_async.cli.record.report import RecordReport
from qos_async.cli.record.stream_report import StreamReport
from qos_async.cli.settings import Settings
from qos_async.cli.stream import (
    CLOSE_TIMEOUT,
    NOT_ACKNOWLEDGED,
    await_acks,
    connect_within,
    events,
)
from qos_async.cli.streams import print_message
from qos_async.recordings import Recorder, RecordingError

__all__ = ["Job", "Started", "record", "report_recorded", "timing"]

T = TypeVar("T")

_MEGABYTE = 1e6
_report: ContextVar[RecordReport] = ContextVar("report")


class Job(NamedTuple):
    """What a run records.

    Attributes:
        topics: What it subscribes.
        output: Where it records to.
        recorder: Options of the recorder.
        fleet: The file with all of that, if there is one.
        holder: What was read from it.
    """

    topics: tuple[qos.Topic, ...]
    output: Any
    recorder: dict[str, Any]
    fleet: FleetFile | None = None
    holder: Holder | None = None

    @property
    def spool(self) -> Path | str | None:
        """The directory of its spool, or None."""
        found: Path | str | None = self.recorder.get("spool")
        return found


class Started:
    """The recorder of a run, for the time after it."""

    def __init__(self) -> None:
        self.recorder: Recorder | None = None


async def record(job: Job, options: Options, started: Started) -> None:
    """Record until ``--seconds`` are over, or the run is cancelled.

    Raises:
        RecordingError: If the recording has stopped.
        QosError: If the client has.
    """
    display = resolve_display(options, on_stderr=True)
    of_stream = isinstance(job.output, str)
    report = RecordReport(display, of_stream=of_stream)
    _report.set(report)
    failed = asyncio.Event()
    stream = StreamReport(report.timed, str(job.spool or "memory"))
    recorder = _recorder(job, failed, stream)
    async with _open_client(job, options, recorder) as (client, changes):
        started.recorder = recorder
        tasks = [
            asyncio.create_task(report.run(recorder, lambda: client.state)),
        ]
        if of_stream:
            tasks.append(asyncio.create_task(stream.run(client, recorder)))
        if changes is not None:
            tasks.append(asyncio.create_task(changes.run()))
        # Subscribed before it connects, so that the first frame is a subscription. Never
        # closed: the end of the link unsubscribes, and a frame before it would delay
        # those of a standby.
        ticks = client.watch(
            *(job.topics if changes is None else changes.holder.topics)
        )
        if changes is not None:
            changes.apply_to(ticks)
        try:
            connecting = _connect(client, options, job)
            ends_at = await _unless(failed, recorder, connecting)
            if changes is None:
                reading = _read_once(ticks, recorder, ends_at)
            else:
                reading = _until(ends_at, _read_fleet(client, ticks, recorder, changes))
            await _unless(failed, recorder, reading)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def _open_client(
    job: Job, options: Options, recorder: Recorder
) -> AsyncGenerator[tuple[qos.Client[Any], Changes | None]]:
    """Open a client that records; with a fleet, that of a holder and its changes."""
    async with open_settings(options) as settings:
        for warning in settings.warnings:
            print_message(f"qos: warning: {warning}")
        more: dict[str, Any] = {}
        changes = None
        if job.fleet is not None and job.holder is not None:
            changes = Changes(job.fleet, job.holder, _print_timed)
            more["limits"] = job.holder.limits
            if not options.sim:
                more["key"] = changes.key
        used = _of_holder(settings, job, options)
        with explaining(used):
            # What was fetched after an outage is in a recording, too.
            async with make_client(
                used, recorder=recorder, numbers=str, timing=timing(), **more
            ) as client:
                yield client, changes


def _of_holder(settings: Settings, job: Job, options: Options) -> Settings:
    if job.holder is None or options.sim:
        return settings
    source = job.holder.key
    origins = {**settings.origins, "key": str(source)}
    return replace(settings, key=source.read(), origins=origins)


def _recorder(job: Job, failed: asyncio.Event, stream: StreamReport) -> Recorder:
    """Return a recorder; ``failed`` is set when its recording has stopped."""

    def on_error(error: RecordingError) -> None:
        if recorder.error is None:
            stream.on_error(error)
        else:
            failed.set()

    try:
        recorder = Recorder(job.output, on_error=on_error, **job.recorder)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return recorder


async def _unless(
    failed: asyncio.Event, recorder: Recorder, action: Coroutine[Any, Any, T]
) -> T:
    """Return what a coroutine returns, unless the recording stops before: then raise."""
    acting = asyncio.create_task(action)
    failing = asyncio.create_task(failed.wait())
    try:
        await asyncio.wait((acting, failing), return_when=asyncio.FIRST_COMPLETED)
        if recorder.error is not None:
            raise recorder.error
        return acting.result()
    finally:
        acting.cancel()
        failing.cancel()
        await asyncio.gather(acting, failing, return_exceptions=True)


async def _until(ends_at: float | None, action: Coroutine[Any, Any, None]) -> None:
    limit = asyncio.timeout_at(ends_at)
    try:
        async with limit:
            await action
    except TimeoutError:
        if not limit.expired():
            raise


async def _connect(client: qos.Client[Any], options: Options, job: Job) -> float | None:
    """Connect; return when ``--seconds`` are over. A standby waits for the lease."""
    # With a lease a failed attempt is no end: another recorder may hold the only link.
    with suppress(*(qos.ConnectError,) if "lease" in job.recorder else ()):
        return await connect_within(client, options.seconds)
    return None if options.seconds is None else _now() + options.seconds


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _read_once(
    ticks: qos.Subscription[Any], recorder: Recorder, ends_at: float | None
) -> None:
    """Read until the time is over, or the ticks have ended."""
    ticked: set[str] = set()
    subscribed: set[str] = set()
    reading = asyncio.create_task(_read(ticks, ticked))
    try:
        await _await_acks(ticks, ends_at)
        subscribed |= {topic.symbol for topic in ticks.topics}
        _report_begin(ticks, recorder)
        left = None if ends_at is None else max(ends_at - _now(), 0.0)
        await asyncio.wait((reading,), timeout=left)
    finally:
        ended = reading.done()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        if silent := subscribed - ticked:
            _print_timed(f"no ticks of {with_spellings(sorted(silent))}")
    if ended:
        reading.result()


async def _read_fleet(
    client: qos.Client[Any],
    ticks: qos.Subscription[Any],
    recorder: Recorder,
    changes: Changes,
) -> None:
    """Read, and apply the changes of the fleet file, for ever."""
    while True:
        reading = asyncio.create_task(_read(ticks, set()))
        try:
            with suppress(qos.RejectedError):
                await await_acks(ticks, _print_timed)
                _report_begin(ticks, recorder)
            await reading
        except qos.LimitError:
            raise
        except qos.RejectedError as error:
            _print_timed(f"{error}; nothing is left: waiting for {changes.path}")
        finally:
            changes.apply_to(None)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        await changes.wait()
        ticks = client.watch(*changes.holder.topics)
        changes.apply_to(ticks)


def _report_begin(ticks: qos.Subscription[Any], recorder: Recorder) -> None:
    taken = plural(len(ticks.topics), "topic")
    _report.get().plain(f"{taken} to {recorder.place}; Ctrl-C ends it")


async def _await_acks(ticks: qos.Subscription[Any], ends_at: float | None) -> None:
    """Wait for acknowledgements, until ``ends_at`` by the clock of the loop."""
    try:
        async with asyncio.timeout_at(ends_at):
            await await_acks(ticks, _print_timed)
    except TimeoutError:
        _print_timed(NOT_ACKNOWLEDGED)


async def _read(ticks: qos.Subscription[Any], ticked: set[str]) -> None:
    """RecordReport gaps and rejections; add symbols that tick to ``ticked``."""
    async for event in events(ticks, _print_timed):
        if isinstance(event, qos.Gap):
            _report.get().gaps += 1
            _print_timed(f"gap: {gaps_line([event])}: {event.reason}")
        elif not isinstance(event, qos.Dropped):
            ticked.add(event.symbol)


def timing() -> qos.Timing:
    """Return the timeouts of the client."""
    return qos.Timing(close_timeout=CLOSE_TIMEOUT)


def report_recorded(recorder: Recorder, job: Job) -> bool:
    """Print what was recorded; return whether a stream has all that it should have."""
    stats = recorder.stats
    dropped = f"; {stats.dropped} were not recorded" if stats.dropped else ""
    if not isinstance(job.output, str):
        print_message(
            f"{plural(stats.frames, 'frame')} in {stats.bytes_written / _MEGABYTE:.2f} MB, "
            f"{plural(stats.files, 'file')}{dropped}"
        )
        return True
    is_left = job.spool is not None and stats.pending
    left = f"; {stats.pending} are not stored yet" if is_left else ""
    print_message(
        f"{plural(stats.frames, 'frame')}, {plural(stats.stored, 'message')} stored"
        f"{left}{dropped}"
    )
    if is_left or not stats.pending:
        return True
    verb = "is" if stats.pending == 1 else "are"
    option = "--spool DIR" if job.fleet is None else "spool in the fleet file"
    print_message(
        "qos: the stream could not be written to at the end: "
        f"{plural(stats.pending, 'message')} {verb} lost. With {option} the next run "
        "sends such messages"
    )
    return False


def _print_timed(text: str) -> None:
    _report.get().timed(text)
