"""``qos info``: what a recording or a stream has, and what it lacks."""

from __future__ import annotations

from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from qos_async._wording import plural
from qos_async.cli import exits
from qos_async.cli.display import IN_UTC, Display, add_tz, resolve_display
from qos_async.cli.options import Command, Options, add_place

if TYPE_CHECKING:  # Slow to import.
    from qos_async.jetstream.summary import (
        DurableSummary,
        RecorderSummary,
        StreamSummary,
    )
    from qos_async.recordings.summary import DirectorySummary, RecordedGap

__all__ = ["COMMAND", "size_text", "span_text"]

_SHOWN = 8
_NANO = 1e9
_UNITS = ("bytes", "kB", "MB", "GB", "TB")
_THOUSAND = 1000


def _add_arguments(parser: ArgumentParser) -> None:
    add_place(parser)
    add_tz(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object")


def _run(options: Options) -> int:
    from qos_async.cli.client import report_error, run_async

    if isinstance(options.place, str):
        return run_async(partial(_stream, options))
    import qos_async as qos
    from qos_async.recordings.summary import directory_summary

    try:  # Without an event loop, which would keep signals waiting.
        found = directory_summary(options.place)
    except qos.QosError as error:
        return report_error(error)
    _print("directory", str(options.place), found, _of_directory, options)
    return exits.OK


async def _stream(options: Options) -> None:
    from qos_async.jetstream.places import parse_place
    from qos_async.jetstream.summary import stream_summary

    parsed = parse_place(options.place)
    found = await stream_summary(parsed)
    _print("stream", str(parsed), found, _of_stream, options)


def _print(kind: str, shown: str, found: Any, lines: Any, options: Options) -> None:
    if options.json:
        import msgspec

        from qos_async.cli.serialize import json_line

        whole = {"place": shown, "kind": kind, **msgspec.to_builtins(found)}
        print(json_line(whole), end="")
        return
    from qos_async._printable import printable

    print(printable(shown))
    last = ""
    for name, text in lines(found, resolve_display(options)):
        print(printable(f"  {name if name != last else '':<11} {text}"))
        last = name


def _of_directory(
    found: DirectorySummary, display: Display
) -> Iterator[tuple[str, str]]:
    ended = "" if found.is_closed else "; its recorder is running, or was killed"
    span = span_text(found.begins_at, found.ends_at, display)
    yield "recorded", f"{span}{ended}"
    files = plural(found.files, "file")
    yield "size", f"{plural(found.frames, 'frame')}, {size_text(found.bytes)}, {files}"
    if found.dropped:
        yield "size", f"{plural(found.dropped, 'frame')} dropped: the disk was too slow"
    yield from _topics(found.topics)
    yield from _gaps(found.gaps, display)
    for fault in found.faults or ("none",):
        yield "damage", fault
    if found.unknown:
        yield "damage", f"{found.unknown} entries are of a newer qos-async"


def _of_stream(found: StreamSummary, display: Display) -> Iterator[tuple[str, str]]:
    if found.messages:
        yield "stored", span_text(found.begins_at, found.ends_at, display)
    limit = "no limit" if found.max_bytes < 0 else f"of {size_text(found.max_bytes)}"
    share = ""
    if found.max_bytes > 0:
        share = f", {found.bytes / found.max_bytes:.0%}"
    age = f"; {found.max_age / 86_400:g} days" if found.max_age else "; of any age"
    yield (
        "size",
        f"{plural(found.messages, 'message')}, {size_text(found.bytes)} {limit}{share}{age}",
    )
    nodes = "".join(f", {name} {state}" for name, state in sorted(found.nodes.items()))
    leader = f": {found.leader} leads{nodes}" if found.leader else ""
    yield "replicas", f"{found.replicas}{leader}"
    for recorder in found.recorders:
        yield from _recorder(recorder, display)
    yield from _topics(found.topics)
    yield from _gaps(found.gaps, display)
    for durable in found.durables:
        yield "durable", _durable(durable, display)
    if lags := found.consumers.values():
        most = plural(max(lags), "message")
        yield "followers", f"{plural(len(lags), 'consumer')} now, at most {most} behind"


def _recorder(one: RecorderSummary, display: Display) -> Iterator[tuple[str, str]]:
    since = _time(one.since, display)
    where = f"{one.host} pid {one.pid} since {since}" if one.since else "?"
    epochs = f"epoch {one.epoch} ({plural(one.epochs, 'epoch')} kept)"
    topics = plural(len(one.topics), "topic")
    yield "recorder", f"{one.name}: {epochs}, {where}, {topics}"
    if one.awaited:
        yield "recorder", f"{one.name}: interrupted now: {_some(one.awaited)}"
    renewed = _time(one.lease_renewed_at, display)
    if one.lease == "released":
        yield "lease", f"{one.name}: released: the next recorder of it has it at once"
    elif one.lease is not None:
        holder = f"{one.lease_host} pid {one.lease_pid}, {one.lease_seconds:g} s"
        yield "lease", f"{one.name}: {holder}, renewed at {renewed}"


def _durable(one: DurableSummary, display: Display) -> str:
    written = _time(one.written_at, display)
    holder = f"{one.host} pid {one.pid}" if one.host else "no process has it"
    place = (
        "its place is of an earlier stream of this name"
        if one.behind is None
        else f"{plural(one.behind, 'message')} behind"
    )
    return f"{one.name}: {holder}, written at {written}, {place}"


def _topics(topics: Sequence[str] | Mapping[str, int]) -> Iterator[tuple[str, str]]:
    channels: dict[str, list[str]] = {}
    for topic in topics:
        channel, _, rest = topic.partition(" ")
        count = f" ({topics[topic]})" if isinstance(topics, Mapping) else ""
        channels.setdefault(channel, []).append(f"{rest}{count}")
    for channel, names in channels.items():
        yield "topics", f"{len(names)} {channel}: {_some(names)}"
    if not channels:
        yield "topics", "none"


def _gaps(gaps: Sequence[RecordedGap], display: Display) -> Iterator[tuple[str, str]]:
    if not gaps:
        yield "gaps", "none"
        return
    counts = Counter(gap.status for gap in gaps)
    statuses = ", ".join(f"{count} {status}" for status, count in counts.most_common())
    topics = plural(len({gap.topic for gap in gaps}), "topic")
    yield "gaps", f"{len(gaps)} of {topics}: {statuses}"
    for gap in gaps[-_SHOWN:]:
        if gap.until:
            seconds = max(gap.until - gap.since, 0) / _NANO
            lasted = f"{seconds:.1f} s, {gap.status}, {gap.recovered} recovered"
        else:
            lasted = "not ended"
        since = _time(gap.since, display)
        yield "gaps", f"{since} {gap.topic}: {lasted}: {gap.reason}"
    if len(gaps) > _SHOWN:
        yield "gaps", f"... and {len(gaps) - _SHOWN} before these; --json has all"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"


def span_text(begins_at: int, ends_at: int, display: Display = IN_UTC) -> str:
    """Format two times in nanoseconds since the epoch, and the time between them."""
    minutes, seconds = divmod(round(max(ends_at - begins_at, 0) / _NANO), 60)
    hours, minutes = divmod(minutes, 60)
    length = f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
    first, last = _time(begins_at, display), _time(ends_at, display)
    return f"{first} to {last} {_zone_name(ends_at, display)} ({length})"


def size_text(count: float) -> str:
    """Format a number of bytes."""
    for unit in _UNITS:
        if count < _THOUSAND or unit == _UNITS[-1]:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= _THOUSAND
    raise AssertionError


def _time(at: int, display: Display) -> str:
    return f"{display.time(at / _NANO):%Y-%m-%d %H:%M:%S}"


def _zone_name(at: int, display: Display) -> str:
    from qos_async.charts.zones import zone_name

    return zone_name(display.time(at / _NANO))


COMMAND = Command(
    "show what a recording or a stream has, and its gaps",
    """\
Shows what a recording has: the time, topics, size, gaps and damage. For a
stream also its recorders with their epochs and leases, the nodes that store it,
its limits, the durable names of its followers, and how many consumers read it
now. Nothing is changed.

examples:
  qos info recordings
  qos info recordings --json
  qos info nats://host:4222/QOS
""",
    """\
Times are in the zone of --tz, UTC for market, as places have several markets;
in JSON they are nanoseconds since the epoch. The numbers behind the topics of a
stream are messages, of one push or several. Gaps are those that
recorders have stored; that a stream has lost messages of a topic, its followers
and qos convert find out.
""",
    _add_arguments,
    _run,
)
