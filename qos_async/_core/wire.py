"""Frames to messages and back; the only place that knows their shape."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, Generic, TypeAlias, cast

import msgspec
from msgspec import Raw, Struct

from qos_async._core.decoding import RecordDecoder, finite_type
from qos_async.enums import Channel, Interval
from qos_async.errors import DecodeError
from qos_async.models import CHANNELS, AnyTick, Depth, Kline, N, Snapshot, Trade
from qos_async.periods import FAR_FUTURE
from qos_async.symbols import canonical, pack, split
from qos_async.topics import Topic

__all__ = [
    "HEARTBEAT",
    "LETTERS",
    "OPERATIONS",
    "FrameDecoder",
    "Reply",
    "Unknown",
    "change_frame",
    "request_frame",
    "symbols_in",
    "topics_possibly_in",
]

HEARTBEAT = b'{"type":"H"}'

LETTERS = {
    channel: str(cast("type[Struct]", kind).__struct_config__.tag)
    for kind, channel in CHANNELS.items()
}
"""The letter of each channel, in pushes and in commands.

Klines have a K: section 5.5.1 says D, every example and every SDK of the vendor says K.
"""

_CHANNELS = {letter: channel for channel, letter in LETTERS.items()}

OPERATIONS = frozenset(
    [
        "H",
        *(letter + end for letter in LETTERS.values() for end in ("", "C")),
        *("RS", "RT", "RD", "RK", "RH", "RI"),
    ]
)


class Reply(Struct, frozen=True):
    """An answer to something we sent: ``type``, ``msg``, and perhaps ``reqid``."""

    type: str = ""
    msg: str = ""
    reqid: int | None = None
    time: int | None = None
    data: Raw = Raw(b"null")

    @property
    def ok(self) -> bool:
        """Whether the server agreed; nothing but ``"OK"`` is a yes (section 5.0)."""
        return self.msg == "OK"


class Unknown(Struct, frozen=True):
    """A push of a kind that this version does not know."""

    tp: str


class _EnvelopeKind(Struct):
    tp: str | None = None


class _EnvelopeTopic(Struct):
    tp: Any = None
    c: Any = None
    kt: Any = None


class _EnvelopeReply(Struct):
    type: Any = None
    msg: Any = None
    reqid: Any = None
    time: Any = None
    data: Raw = Raw(b"null")
    c: Any = None


Message: TypeAlias = AnyTick[N] | Reply | Unknown

_encoder = msgspec.json.Encoder()
_kind_decoder = msgspec.json.Decoder(_EnvelopeKind)
_topic_decoder = msgspec.json.Decoder(_EnvelopeTopic)
_reply_decoder = msgspec.json.Decoder(_EnvelopeReply)
_NO_REQID = -1  # One that we never send: what carries junk answers nothing.


class FrameDecoder(Generic[N]):
    """Reads inbound frames whose prices are of the type ``numbers``.

    Attributes:
        push: Reads a push in the fast way, or raises whatever msgspec raises; then
            ``read`` finds out what the frame is.
    """

    def __init__(self, numbers: type[N]) -> None:
        self._pushes: RecordDecoder[AnyTick[N]] = _pushes(cast("Any", numbers))
        self.push = self._pushes.decode_strict

    def read(self, data: bytes) -> Message[N]:
        """Read any frame.

        What has a ``tp`` is a push: of a kind of ours, garbled if the ``tp`` is empty
        or that of such a kind in other letters, and ``Unknown`` if it is anything else.
        Without one it is a reply if it has a ``msg`` or a ``reqid``, or a ``type`` and
        no symbol; a push that lost its ``tp`` has none of these.

        Raises:
            DecodeError: If it is not JSON, or not shaped like anything we know.
        """
        try:
            # Pushes carry "tp", replies "type"; both may be "S", so "tp" decides.
            tp = _kind_decoder.decode(data).tp
            reply = _read_reply(data) if tp is None else None
        except (msgspec.MsgspecError, RecursionError, ValueError) as exc:
            reason = str(exc)
        else:
            if tp in _CHANNELS:
                return self._pushes.decode(data)
            if tp is not None and (kind := _kind(tp)) and kind not in _CHANNELS:
                return Unknown(tp)
            if reply is not None:
                return reply
            reason = "neither a push nor an answer"
        raise DecodeError(f"cannot read a frame ({reason})")


@cache  # Alike for every client, and a first tick waits for it.
def _pushes(numbers: type[Any]) -> RecordDecoder[Any]:
    number: Any = finite_type(numbers)
    kinds: Any = Snapshot[number] | Trade[number] | Depth[number] | Kline[number]
    return RecordDecoder(kinds, numbers)


def topics_possibly_in(data: bytes) -> Callable[[Topic], bool]:
    """Tell which topics a frame that cannot be read may be a push of.

    As exactly as it can be made out: what is no JSON may be of any, what has lost its
    ``tp`` of any channel.
    """
    try:
        label = _topic_decoder.decode(data)
        channel = _CHANNELS.get(_kind(label.tp))
        symbol = canonical(label.c) if isinstance(label.c, str) else None
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return lambda _: True
    interval = label.kt if type(label.kt) is int and label.kt in set(Interval) else None
    return lambda topic: (
        channel in (None, topic.channel)
        and symbol in (None, topic.symbol)
        and (topic.interval is None or interval in (None, topic.interval))
    )


def symbols_in(body: dict[str, Any]) -> tuple[str, ...]:
    """Tell which symbols a request is about."""
    rows = [row["c"] for row in body.get("kline_reqs", ())]
    entries = [*body.get("codes", ()), *rows]
    return split(entries) if entries else ()


def _kind(tp: Any) -> str:
    return tp.strip().upper() if isinstance(tp, str) else ""


def _read_reply(data: bytes) -> Reply | None:
    # Judged with care: a reply that is lost holds up all that waits for its turn.
    raw = _reply_decoder.decode(data)
    is_command = isinstance(raw.type, str) and raw.c is None
    if raw.msg is None and raw.reqid is None and not is_command:
        return None
    return Reply(
        type=raw.type if isinstance(raw.type, str) else "",
        msg=raw.msg if isinstance(raw.msg, str) else "",
        reqid=_reqid(raw.reqid),
        time=_second(raw.time),
        data=raw.data,
    )


def _second(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < FAR_FUTURE else None


def _reqid(value: Any) -> int | None:
    if value is None or value == 0:
        return None  # Nothing, or the zero of a server that fills in what it lacks.
    if type(value) is int:
        return value
    try:
        return int(value) if isinstance(value, (str, float)) else _NO_REQID
    except (ValueError, OverflowError):
        return _NO_REQID


def change_frame(
    channel: Channel,
    symbols: Iterable[str],
    *,
    add: bool,
    reqid: int,
    interval: Interval | None = None,
) -> bytes:
    """Write a subscribe or unsubscribe command (sections 5.2 to 5.5)."""
    letter = LETTERS[channel]
    frame: dict[str, Any] = {
        "type": letter if add else f"{letter}C",
        "codes": pack(symbols),
        "reqid": reqid,
    }
    if interval is not None:
        frame["kt"] = int(interval)
    return _encoder.encode(frame)


def request_frame(operation: str, body: dict[str, Any], *, reqid: int) -> bytes:
    """Write a one-off request (sections 5.6 to 5.11)."""
    return _encoder.encode({"type": operation, **body, "reqid": reqid})
