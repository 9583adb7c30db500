"""File format of recordings: encoding and decoding of lines, and zstandard.

A recording is JSON lines, compressed: whole zstandard frames, one after another. Each
line has the time ``at`` in nanoseconds since the epoch, and one of these:

- ``{"recording":1,"at":…,"run":"…","file":0,"link":false,"topics":[…]}`` begins each
  file: the run of the recorder, the number of the file, the state of the link and the
  topics that are subscribed;
- ``{"at":…,"frame":{…}}``: an inbound frame, exactly as received;
- ``{"at":…,"base64":"…"}``: a frame that is not JSON, or has a line feed;
- ``{"at":…,"event":"opened"}``, and ``lost`` with a ``reason``, ``subscribed`` and
  ``unsubscribed`` with ``topics``, ``dropped`` with a ``count`` of frames that were
  not written because the disk was too slow, ``closed`` at the end of the recording.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, TypeAlias, cast, get_args

import msgspec
from msgspec import Raw, Struct

from qos_async.enums import Channel
from qos_async.errors import QosError
from qos_async.symbols import canonical
from qos_async.topics import Topic

__all__ = [
    "FORMAT_WORDS",
    "MAGIC",
    "VERSION",
    "Entry",
    "Event",
    "Kind",
    "MissingZstdError",
    "Zstd",
    "decode_line",
    "encode_event",
    "encode_frames",
    "encode_header",
    "load_zstd",
]

VERSION = 1

Event: TypeAlias = Literal[
    "opened", "lost", "subscribed", "unsubscribed", "dropped", "closed"
]
Kind: TypeAlias = Literal["started", "frame", "damaged"] | Event

_FRAME = b',"frame":'
_AT = b'{"at":'

_encoder = msgspec.json.Encoder()


class Entry(Struct, frozen=True, kw_only=True):
    """An entry of a recording: a frame or an event.

    Attributes:
        at: The time, in nanoseconds since the epoch by the recorder's clock.
        kind: ``"frame"``, an event of the link (``"opened"``, ``"lost"``,
            ``"subscribed"``, ``"unsubscribed"``), ``"dropped"``, ``"closed"``, or
            of a file: ``"started"``, and ``"damaged"`` where it is unreadable from here.
        frame: The inbound frame, exactly as received; an API key in it is redacted.
        reason: Why the link was lost, or the file is unreadable.
        topics: The topics subscribed or unsubscribed; of ``"started"``, all that are.
        count: The number of dropped frames.
        link: Of ``"started"``: whether the link was open.
        run: Of ``"started"``: an id of the recorder.
        number: Of ``"started"``: the number of this file among the recorder's, from 0.
    """

    at: int
    kind: Kind
    frame: bytes = b""
    reason: str = ""
    topics: tuple[Topic, ...] = ()
    count: int = 0
    link: bool = False
    run: str = ""
    number: int = 0


class _Line(Struct):
    at: int
    event: Event | None = None
    base64: str | None = None
    reason: str = ""
    topics: tuple[str, ...] = ()
    count: int = 0
    recording: int | None = None
    run: str = ""
    file: int = 0
    link: bool = False


FORMAT_WORDS = " ".join(
    [
        '{"": [] },null true false http header url',
        *(name for kind in (_Line, Topic) for name in kind.__struct_fields__),
        *get_args(Event),
        *("started", "frame"),
        *Channel,
        *("type", "data", "codes", "reqid"),
        *(f"{number:03}" for number in range(1000)),
    ]
)
"""All words of the format: an API key that is part of it cannot be redacted."""

_line_decoder = msgspec.json.Decoder(_Line)
_any_json = msgspec.json.Decoder(Raw)


def encode_header(
    at: int, run: str, number: int, *, link: bool, topics: Sequence[str]
) -> bytes:
    """Return the first line of a file."""
    first = {"recording": VERSION, "at": at, "run": run, "file": number}
    return _encoder.encode({**first, "link": link, "topics": topics}) + b"\n"


def encode_event(at: int, kind: Event, **more: Any) -> bytes:
    """Return the line of an event."""
    return _encoder.encode({"at": at, "event": kind, **more}) + b"\n"


def encode_frames(
    at: int,
    frames: Sequence[bytes],
    redact: Callable[[bytes], bytes],
    *,
    plain: bool = False,
) -> bytes:
    """Return the lines of frames that were received together.

    JSON on one line is written as it is, everything else in base64 after ``redact``.
    With ``plain`` all frames are known to be JSON, and are not checked.
    """
    before = b'{"at":%d,"frame":' % at
    if b"\n" in b"".join(frames) or not (plain or _are_json(frames)):
        return b"".join([_encode_frame(at, frame, redact) for frame in frames])
    return before + (b"}\n" + before).join(frames) + b"}\n"


def _are_json(frames: Sequence[bytes]) -> bool:
    """Return whether each is JSON; all at once, since nearly all are."""
    together = b'[{"":' + b'},{"":'.join(frames) + b"}]"
    try:
        _any_json.decode(together)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _encode_frame(at: int, frame: bytes, redact: Callable[[bytes], bytes]) -> bytes:
    if b"\n" not in frame and _are_json((frame,)):
        return b'{"at":%d,"frame":%b}\n' % (at, frame)
    text = base64.b64encode(redact(frame)).decode()
    return _encoder.encode({"at": at, "base64": text}) + b"\n"


def decode_line(line: bytes) -> Entry:
    """Return the entry of a line, given without its line feed.

    Raises:
        ValueError: If it is not a line of a recording.
    """
    if line.startswith(_AT) and line.endswith(b"}"):
        moment, found, rest = line[len(_AT) :].partition(_FRAME)
        if found and moment.isdigit():
            return Entry(at=int(moment), kind="frame", frame=rest[:-1])
    try:
        return _entry(_line_decoder.decode(line))
    except (msgspec.MsgspecError, RecursionError) as exc:
        raise ValueError(f"not a line of a recording: {exc}") from None


def _entry(line: _Line) -> Entry:
    if line.base64 is not None:
        frame = base64.b64decode(line.base64, validate=True)
        return Entry(at=line.at, kind="frame", frame=frame)
    topics = tuple(topic for text in line.topics for topic in _topics(text))
    if line.recording is not None:
        if line.recording != VERSION:
            raise ValueError(
                f"the recording has format {line.recording}, written by a newer qos-async: "
                "pip install --upgrade qos-async"
            )
        return Entry(
            at=line.at,
            kind="started",
            topics=topics,
            link=line.link,
            run=line.run,
            number=line.file,
        )
    if line.event is None:
        raise ValueError("not a line of a recording: neither a frame nor an event")
    return Entry(
        at=line.at,
        kind=line.event,
        reason=line.reason,
        topics=topics,
        count=line.count,
    )


def _topics(text: str) -> tuple[Topic, ...]:
    channel, symbol, *interval = text.split(" ")
    try:
        canonical(symbol)
    except ValueError:
        return ()  # Earlier versions accepted symbols that no server pushes.
    return (Topic(channel, symbol, interval[0] if interval else None),)


MAGIC = b"\x28\xb5\x2f\xfd"
"""The first bytes of each compressed frame."""


class MissingZstdError(QosError, ModuleNotFoundError):
    """No zstandard library is installed, with which recordings are compressed."""


class Zstd(Protocol):
    """The part of a zstandard library that recordings use."""

    ZstdError: type[Exception]
    ZstdCompressor: Any
    ZstdDecompressor: Any


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
