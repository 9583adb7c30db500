"""Lines of recordings: encoding and decoding, and the zstandard library.

A recording is JSON lines in files with checksums: see ``blocks``. Each line has the time
``at`` in nanoseconds since the epoch, by the wall clock, which may be set back; the time
``up`` in nanoseconds since the recorder was made, by a clock that never goes back; and
one of these:

- ``{"recording":2,"at":…,"up":…,"run":"…","file":0,"link":false,"topics":[…]}`` begins
  each file: the run of the recorder, the number of the file, the state of the link and
  the topics that are subscribed; ``locked`` if no other recorder had the directory;
  ``gaps`` if each gap has an entry ``fetched``; ``awaited``, the topics whose entry is
  still to come; ``begins``, in nanoseconds, where the file does not begin at ``at`` but
  at a later time, as the wall clock was set back since the file before; ``previous``, in
  archives, the time of the last entry of the file that this one follows without a gap;
- ``{"at":…,"up":…,"frame":{…}}``: an inbound frame, exactly as received;
- ``{"at":…,"up":…,"base64":"…"}``: a frame that is not JSON, or has a line feed;
- ``{"at":…,"up":…,"event":"opened"}``, and ``lost`` with a ``reason``, ``subscribed``
  and ``unsubscribed`` with ``topics``, ``rejected`` with ``topics`` and the server's text
  as ``reason``, ``dropped`` with a ``count`` of frames that were not written because the
  disk was too slow, ``closed`` at the end of the recording;
- ``suspect``: topics that may have missed data though the link is open, with a
  ``reason`` and ``since``; the ticks that follow are held back until ``fetched``;
- ``fetched``: the end of an outage of the one topic in ``topics``: the ``status``,
  ``reason``, ``since`` and ``until`` of its gap; in ``rows`` the ticks that were delivered
  behind it as recovered, in order: those that were fetched as pushes, those that had been
  pushed as a number, from 0, among the pushes of the topic since the outage began; in
  ``omitted`` the numbers of those that were not delivered, as later ones have replaced
  them. All others were delivered behind ``rows``, in order of receipt.

``suspect`` and ``fetched`` have ``left`` if they happened between frames that were
received together: how many of the frames before them came later. In streams, and in
archives of them, they have ``topic_left``: how many of the pushes of their topic.

- ``placed``, in archives: the entry in the next line has the place that ``origin``,
  ``position`` and ``index`` make up, and those behind it have the positions that follow.

A set clock is no entry: ``at`` moves another way than ``up``. A new kind of entry is an ``event`` of another name, with other fields: readers skip and
count the events that they do not know. Format 1 had no ``up`` and no checksums: its files
are zstandard frames of such lines, one after another, and are still read.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, Protocol, TypeAlias, cast, get_args

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import force_setattr

from qos_async._core.notices import GapStatus
from qos_async.enums import Channel
from qos_async.errors import QosError
from qos_async.recordings.files import RecordingError
from qos_async.symbols import canonical
from qos_async.topics import Topic, WireTopic

__all__ = [
    "FORMAT_WORDS",
    "MAGIC",
    "NO_UP",
    "VERSION",
    "Entry",
    "Event",
    "Kind",
    "MissingZstdError",
    "NewerFormatError",
    "Zstd",
    "check_version",
    "decode_line",
    "encode_event",
    "encode_frames",
    "encode_header",
    "is_frame_line",
    "load_zstd",
    "place_of",
]

VERSION = 2

Event: TypeAlias = Literal[
    "opened",
    "lost",
    "subscribed",
    "unsubscribed",
    "rejected",
    "suspect",
    "fetched",
    "dropped",
    "closed",
    "placed",
]
Kind: TypeAlias = Literal["started", "frame", "damaged", "missing", "unknown"] | Event

_EVENTS: dict[str, Event] = {name: name for name in get_args(Event)}

_FRAME = b',"frame":'
_AT = b'{"at":'
_UP = b',"up":'
NO_UP = -1
"""The time ``up`` of a line of format 1, which has none."""

_encoder = msgspec.json.Encoder()
_INDEXES = [f"{index:05d}" for index in range(100)]


class Entry(Struct, frozen=True, kw_only=True):
    """An entry of a recording: a frame or an event.

    Attributes:
        at: The time, in nanoseconds since the epoch by the recorder's wall clock: it goes
            back where that clock was set back.
        elapsed: Nanoseconds since the first entry; never less than of the entry before.
        kind: ``"frame"``, an event of the link (``"opened"``, ``"lost"``,
            ``"subscribed"``, ``"unsubscribed"``, ``"rejected"``), of an outage
            (``"suspect"``, ``"fetched"``), ``"dropped"``, ``"closed"``, or of a file:
            ``"started"``, ``"damaged"`` where a part of it is unreadable, and
            ``"missing"`` where whole files are.
        origin: The first part of ``place``: it identifies the file.
        position: The number of the entry in its file.
        index: The number of a push within its entry, where a log has several in one.
        sequence: In a stream: the first message to read for a consumer that has handled
            this entry; 0 elsewhere.
        frame: The inbound frame, exactly as received; an API key in it is redacted.
        pushes: Where a log has several in one: the frames, in place of ``frame``, all of
            them pushes of ``topic``, of the indexes from 0.
        topic: The topic of ``pushes``.
        reason: Why the link was lost, or a topic is suspect; the reason of a gap; the text
            of a rejection; the place that is unreadable, and what is lost.
        topics: The topics subscribed, unsubscribed, rejected, suspect, or fetched; of
            ``"started"``, all that are subscribed.
        awaited: Of ``"started"``: the topics whose ``"fetched"`` is still to come.
        gaps: Of ``"started"``: whether each gap has an entry ``"fetched"``.
        status: Of ``"fetched"``: the status of the gap.
        since: The beginning of an outage, in nanoseconds since the epoch.
        until: Of ``"fetched"``: the end of the gap, in the same unit.
        rows: Of ``"fetched"``: the recovered ticks, as pushes, and the numbers of those
            that had been pushed; see ``format``.
        omitted: Of ``"fetched"``: the numbers of pushes that were not delivered.
        left: How many of the frames before this came after it.
        topic_left: How many of the frames of its topic before this came after it.
        count: The number of dropped frames.
        link: Of ``"started"``: whether the link was open.
        run: Of ``"started"``: an id of the recorder.
        number: Of ``"started"``: the number of this file among the recorder's, from 0.
        locked: Of ``"started"``: whether no other recorder could write there.
        previous: Of ``"started"``: the time of the entry that it follows without a gap, in
            nanoseconds since the epoch; 0 if the run and the number say what it follows.
        begins: Of ``"started"``: a time that is later than that of the file before, also
            if the wall clock was set back, in nanoseconds since the epoch.
    """

    at: int
    kind: Kind
    elapsed: int = NO_UP
    origin: str = ""
    position: int = 0
    index: int = 0
    sequence: int = 0
    frame: bytes = b""
    pushes: Sequence[bytes] = ()
    topic: WireTopic | None = None
    reason: str = ""
    topics: tuple[Topic, ...] = ()
    awaited: tuple[Topic, ...] = ()
    gaps: bool = False
    status: str = ""
    since: int = 0
    until: int = 0
    rows: tuple[bytes | int, ...] = ()
    omitted: tuple[int, ...] = ()
    left: int = 0
    topic_left: int = 0
    count: int = 0
    link: bool = False
    run: str = ""
    number: int = 0
    locked: bool = False
    previous: int = 0
    begins: int = 0

    @property
    def place(self) -> str:
        """The place of the entry in its recording, as of a tick: see ``Tick.place``."""
        if self.index:
            return place_of(self.origin, self.position, self.index)
        return f"{self.origin}.{self.position:010d}.00000"  # In half the time.

    def places(self) -> list[str]:
        """Return the places of ``pushes``."""
        before, count = f"{self.origin}.{self.position:010d}.", len(self.pushes)
        if count <= len(_INDEXES):
            return [before + index for index in _INDEXES[:count]]
        return [f"{before}{index:05d}" for index in range(count)]

    def single(self) -> list[Entry]:
        """Return an entry for each of ``pushes``; without them, this one."""
        if not self.pushes:
            return [self]
        last = len(self.pushes) - 1
        return [
            Entry(
                at=self.at,
                elapsed=self.elapsed,
                kind="frame",
                origin=self.origin,
                position=self.position,
                index=index,
                frame=push,
                sequence=self.sequence if index == last else 0,
            )
            for index, push in enumerate(self.pushes)
        ]


def place_of(origin: str, position: int, index: int) -> str:
    """Return a place: text that sorts in the order of the recording."""
    return f"{origin}.{position:010d}.{index:05d}"


class _Line(Struct):
    at: int
    up: int = NO_UP
    event: str | None = None
    base64: str | None = None
    reason: str = ""
    topics: tuple[str, ...] = ()
    count: int = 0
    recording: int | None = None
    run: str = ""
    file: int = 0
    link: bool = False
    locked: bool = False
    gaps: bool = False
    awaited: tuple[str, ...] = ()
    begins: int = 0
    previous: int = 0
    status: str = ""
    since: int = 0
    until: int = 0
    rows: tuple[Raw, ...] = ()
    omitted: tuple[int, ...] = ()
    left: int = 0
    topic_left: int = 0
    origin: str = ""
    position: int = 0
    index: int = 0


FORMAT_WORDS = " ".join(
    [
        '{"": [] },null true false http header url',
        *(name for kind in (_Line, Topic) for name in kind.__struct_fields__),
        *get_args(Event),
        *get_args(GapStatus),
        *("started", "frame"),
        *Channel,
        *("type", "data", "codes", "reqid"),
        *(f"{number:03}" for number in range(1000)),
    ]
)
"""All words of the format: an API key that is part of it cannot be redacted."""

# The bytes within which ``"frame"`` stands: the times before it have at most 20 digits.
_LONGEST = len(_AT) + 20 + len(_UP) + 20 + len(_FRAME)

_line_decoder = msgspec.json.Decoder(_Line)
_any_json = msgspec.json.Decoder(Raw)


def encode_header(
    at: int,
    run: str,
    number: int,
    *,
    link: bool,
    topics: Sequence[str],
    up: int = 0,
    locked: bool = False,
    **more: Any,
) -> bytes:
    """Return the first line of a file."""
    first = {"recording": VERSION, "at": at, "up": up, "run": run, "file": number}
    state = {"link": link, "topics": topics, "locked": locked, **more}
    return _encoder.encode({**first, **state}) + b"\n"


def encode_event(at: int, kind: Event, *, up: int = 0, **more: Any) -> bytes:
    """Return the line of an event."""
    return _encoder.encode({"at": at, "up": up, "event": kind, **more}) + b"\n"


def encode_frames(
    at: int,
    frames: Sequence[bytes],
    redact: Callable[[bytes], bytes],
    *,
    up: int = 0,
    plain: bool = False,
) -> bytes:
    """Return the lines of frames that were received together.

    JSON on one line is written as it is, everything else in base64 after ``redact``.
    With ``plain`` all frames are known to be JSON, and are not checked.
    """
    before = b'{"at":%d,"up":%d,"frame":' % (at, up)
    if b"\n" in b"".join(frames) or not (plain or _are_json(frames)):
        return b"".join([_encode_frame(before, at, up, one, redact) for one in frames])
    return before + (b"}\n" + before).join(frames) + b"}\n"


def _are_json(frames: Sequence[bytes]) -> bool:
    """Return whether each is JSON; all at once, since nearly all are."""
    together = b'[{"":' + b'},{"":'.join(frames) + b"}]"
    try:
        _any_json.decode(together)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _encode_frame(
    before: bytes, at: int, up: int, frame: bytes, redact: Callable[[bytes], bytes]
) -> bytes:
    if b"\n" not in frame and _are_json((frame,)):
        return before + frame + b"}\n"
    text = base64.b64encode(redact(frame)).decode()
    return _encoder.encode({"at": at, "up": up, "base64": text}) + b"\n"


def is_frame_line(line: bytes) -> bool:
    """Return whether a line has a frame, as JSON; faster than decoding it."""
    return line.startswith(_AT) and _FRAME in line[:_LONGEST]


def decode_line(line: bytes, origin: str = "", position: int = 0) -> Entry:
    """Return the entry of a line, given without its line feed.

    Args:
        line: The line.
        origin: Its file; see ``Entry``.
        position: Its number in the file.

    Raises:
        ValueError: If it is not a line of a recording.
        NewerFormatError: If it is the first line of a newer format.
    """
    if line.startswith(_AT) and line.endswith(b"}"):
        times, found, rest = line[len(_AT) :].partition(_FRAME)
        at, has_up, up = times.partition(_UP)
        if found and at.isdigit() and (up.isdigit() or not has_up):
            elapsed = int(up) if up else NO_UP
            return Entry(
                at=int(at),
                elapsed=elapsed,
                kind="frame",
                frame=rest[:-1],
                origin=origin,
                position=position,
            )
    try:
        entry = _entry(_line_decoder.decode(line))
    except (msgspec.MsgspecError, RecursionError) as exc:
        raise ValueError(f"not a line of a recording: {exc}") from None
    if entry.kind != "placed":
        force_setattr(entry, "origin", origin)
        force_setattr(entry, "position", position)
    return entry


def _entry(line: _Line) -> Entry:
    if line.recording is not None:
        check_version(line.recording)
        return Entry(
            at=line.at,
            elapsed=line.up,
            kind="started",
            topics=_topics(line.topics),
            link=line.link,
            run=line.run,
            number=line.file,
            locked=line.locked,
            gaps=line.gaps,
            awaited=_topics(line.awaited),
            begins=line.begins or line.at,
            previous=line.previous,
        )
    if line.base64 is not None:
        frame = base64.b64decode(line.base64, validate=True)
        return Entry(at=line.at, elapsed=line.up, kind="frame", frame=frame)
    if line.event is None:
        raise ValueError("not a line of a recording: neither a frame nor an event")
    return _event(line, line.event)


def _event(line: _Line, name: str) -> Entry:
    if name not in _EVENTS:
        return Entry(at=line.at, elapsed=line.up, kind="unknown")
    return Entry(
        at=line.at,
        elapsed=line.up,
        kind=_EVENTS[name],
        reason=line.reason,
        topics=_topics(line.topics),
        count=line.count,
        status=line.status,
        since=line.since,
        until=line.until,
        rows=tuple(map(_row, line.rows)),
        omitted=line.omitted,
        left=line.left,
        topic_left=line.topic_left,
        origin=line.origin,
        position=line.position,
        index=line.index,
    )


def _row(raw: Raw) -> bytes | int:
    text = bytes(raw)
    return text if text.startswith(b"{") else msgspec.json.decode(text, type=int)


def check_version(version: int) -> None:
    """Check that a format can be read.

    Raises:
        NewerFormatError: If it is newer.
    """
    if version > VERSION:
        raise NewerFormatError(
            f"the recording has format {version}, written by a newer qos-async, and this "
            f"one reads formats up to {VERSION}: pip install --upgrade qos-async"
        )


def _topics(texts: Iterable[str]) -> tuple[Topic, ...]:
    """Return topics; without symbols that earlier versions took, and no server pushes."""
    return tuple(topic for text in texts if (topic := _topic(text)) is not None)


def _topic(text: str) -> Topic | None:
    channel, symbol, *interval = text.split(" ")
    try:
        canonical(symbol)
    except ValueError:
        return None
    return Topic(channel, symbol, interval[0] if interval else None)


MAGIC = b"\x28\xb5\x2f\xfd"
"""The first bytes of each compressed frame."""


class NewerFormatError(RecordingError):
    """A recording is of a newer format."""


class MissingZstdError(QosError, ModuleNotFoundError):
    """No zstandard library is installed, with which recordings are compressed."""


class Zstd(Protocol):
    """The part of a zstandard library that recordings use."""

    ZstdError: type[Exception]
    ZstdCompressor: Any
    ZstdDecompressor: Any
    CompressionParameter: Any


def load_zstd() -> Zstd:
    """Import the standard library's module, or the package for Python before 3.14.

    Raises:
        MissingZstdError: If neither is there; the message has the command to install it.
    """
    try:
        if sys.version_info >= (3, 14):
            import compression.zstd as zstd  # noqa: PLC0415, PLR0402 - it may be missing
        else:
            import backports.zstd as zstd  # noqa: PLC0415, PLR0402 - an extra
    except ModuleNotFoundError as exc:
        raise MissingZstdError(
            "recordings are compressed with zstandard, which comes with Python 3.14 and "
            "is a package before that: pip install 'qos-async[record]'"
        ) from exc
    return cast("Zstd", zstd)
