"""The lines of a recording: what each says, written and read.

A recording is JSON lines, compressed: whole zstandard frames, one after another. Each
line tells at which nanosecond since the epoch, and what happened then:

- ``{"recording":1,"at":…,"run":"…","file":0,"link":false,"topics":[…]}`` begins each
  file: which recorder wrote it, its number, and how things stood;
- ``{"at":…,"frame":{…}}``: an inbound frame, exactly as it came;
- ``{"at":…,"base64":"…"}``: one that is no JSON, or not on one line;
- ``{"at":…,"event":"opened"}``, and ``lost`` with a ``reason``, ``subscribed`` and
  ``unsubscribed`` with ``topics``, ``dropped`` with a ``count`` of frames that the disk
  was too slow for, ``closed`` at the end of it all.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Raw, Struct

from qos_async.topics import Topic

__all__ = ["VERSION", "Entry", "Event", "Kind", "event", "header", "parse", "write"]

VERSION = 1

Event: TypeAlias = Literal[
    "opened", "lost", "subscribed", "unsubscribed", "dropped", "closed"
]
Kind: TypeAlias = Literal["begun", "frame", "damaged"] | Event

_FRAME = b',"frame":'
_AT = b'{"at":'

_json = msgspec.json.Encoder()


class Entry(Struct, frozen=True, kw_only=True):
    """One thing that was recorded.

    Attributes:
        at: When, in nanoseconds since the epoch by the recorder's clock.
        kind: What: ``"frame"``, an event of the link (``"opened"``, ``"lost"``,
            ``"subscribed"``, ``"unsubscribed"``), ``"dropped"``, ``"closed"``, or
            of a file: ``"begun"``, and ``"damaged"`` where it cannot be read on.
        frame: The inbound frame, exactly as it came, but for a key in it.
        reason: Why the link was lost, or what is wrong with the file.
        topics: What was subscribed or unsubscribed; for ``"begun"``, all that is.
        count: How many frames were dropped.
        link: For ``"begun"``: whether the link was open.
        run: For ``"begun"``: which recorder wrote this.
        number: For ``"begun"``: which of its files this is, from 0.
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


WORDS = " ".join(
    [
        '{"": [] },null true false http header url',
        *(name for kind in (_Line, Topic) for name in kind.__struct_fields__),
        *(
            [
                "opened",
                "lost",
                "subscribed",
                "unsubscribed",
                "dropped",
                "closed",
                "begun",
                "frame",
            ]
        ),
        *(["snapshot", "trade", "depth", "kline", "type", "data", "codes", "reqid"]),
        *(f"{number:03}" for number in range(1000)),
    ]
)
"""What files are made of: a key that is part of it cannot be taken out again."""

_lines = msgspec.json.Decoder(_Line)
_any_json = msgspec.json.Decoder(Raw)


def header(
    at: int, run: str, number: int, *, link: bool, topics: Sequence[str]
) -> bytes:
    """Write the first line of a file."""
    first = {"recording": VERSION, "at": at, "run": run, "file": number}
    return _json.encode({**first, "link": link, "topics": topics}) + b"\n"


def event(at: int, kind: Event, **more: Any) -> bytes:
    """Write the line of an event."""
    return _json.encode({"at": at, "event": kind, **more}) + b"\n"


def write(
    at: int,
    frames: Sequence[bytes],
    hide: Callable[[bytes], bytes],
    *,
    plain: bool = False,
) -> bytes:
    """Write the lines of frames that came together.

    What is JSON on one line is written as it is; of everything else, what ``hide``
    leaves. With ``plain`` all is surely JSON.
    """
    before = b'{"at":%d,"frame":' % at
    if b"\n" in b"".join(frames) or not (plain or _are_json(frames)):
        return b"".join([_one(at, frame, hide) for frame in frames])
    return before + (b"}\n" + before).join(frames) + b"}\n"


def _are_json(frames: Sequence[bytes]) -> bool:
    """Say whether each is JSON: in one look, as nearly all are."""
    together = b'[{"":' + b'},{"":'.join(frames) + b"}]"
    try:
        _any_json.decode(together)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _one(at: int, frame: bytes, hide: Callable[[bytes], bytes]) -> bytes:
    if b"\n" not in frame and _are_json((frame,)):
        return b'{"at":%d,"frame":%b}\n' % (at, frame)
    text = base64.b64encode(hide(frame)).decode()
    return _json.encode({"at": at, "base64": text}) + b"\n"


def parse(line: bytes) -> Entry:
    """Read one line, without its end.

    Raises:
        ValueError: If it is none of a recording.
    """
    if line.startswith(_AT) and line.endswith(b"}"):
        moment, found, rest = line[len(_AT) :].partition(_FRAME)
        if found and moment.isdigit():
            return Entry(at=int(moment), kind="frame", frame=rest[:-1])
    try:
        return _read(_lines.decode(line))
    except (msgspec.MsgspecError, RecursionError) as exc:
        raise ValueError(f"not a line of a recording: {exc}") from None


def _read(line: _Line) -> Entry:
    if line.base64 is not None:
        frame = base64.b64decode(line.base64, validate=True)
        return Entry(at=line.at, kind="frame", frame=frame)
    topics = tuple(_topic(text) for text in line.topics)
    if line.recording is not None:
        if line.recording != VERSION:
            raise ValueError(
                f"the recording has the form {line.recording}, which a newer qos-async "
                "wrote: pip install --upgrade qos-async"
            )
        return Entry(
            at=line.at,
            kind="begun",
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


def _topic(text: str) -> Topic:
    channel, symbol, *interval = text.split(" ")
    return Topic(channel, symbol, interval[0] if interval else None)
