"""Wire format: decodes inbound frames and encodes commands (chapter 5).

The names of a record's fields are in ``models``, those of a request in ``queries``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from functools import cache
from typing import Any, Generic, TypeAlias, cast

import msgspec
from msgspec import Raw, Struct

from qos_async._core.decoding import RecordDecoder, finite_type, quote_bare_words
from qos_async.enums import Channel, Interval
from qos_async.errors import DecodeError
from qos_async.models import CHANNELS, AnyTick, Depth, Kline, N, Snapshot, Trade
from qos_async.periods import FAR_FUTURE
from qos_async.symbols import canonical, pack_canonical, split
from qos_async.topics import Topic, WireTopic

__all__ = [
    "HEARTBEAT",
    "LETTERS",
    "OPERATIONS",
    "FrameDecoder",
    "Reply",
    "Unknown",
    "change_frame",
    "known_topic",
    "push_row",
    "request_frame",
    "symbols_in",
    "topics_possibly_in",
    "wire_topic",
]

HEARTBEAT = b'{"type":"H"}'

LETTERS = {
    channel: str(cast("type[Struct]", kind).__struct_config__.tag)
    for kind, channel in CHANNELS.items()
}
"""The letter of each channel, in pushes and in commands.

Klines have a K: section 5.5.1 says D, every example and every SDK of the vendor says K.
"""

# Every ``type`` that a reply may carry: heartbeat, subscribe and unsubscribe commands
# (sections 5.1 to 5.5), one-off requests (5.6 to 5.11).
OPERATIONS = frozenset(
    [
        "H",
        *(letter + end for letter in LETTERS.values() for end in ("", "C")),
        *("RS", "RT", "RD", "RK", "RH", "RI"),
    ]
)

_CHANNELS = {letter: channel for channel, letter in LETTERS.items()}
# Read from a ``reqid`` that is not a number. It is never sent, so a reply with it
# matches no command, whereas None would match any.
_NO_REQID = -1


class Reply(Struct, frozen=True):
    """The reply to a frame that this client sent.

    Attributes:
        type: The ``type`` of that frame; empty if the reply has none.
        msg: ``"OK"``, or the text of an error.
        reqid: The ``reqid`` of that frame; None if the reply has none.
        time: The server's clock, in whole epoch seconds, if it was sent.
        data: The rows of a one-off request, as raw JSON.
    """

    type: str = ""
    msg: str = ""
    reqid: int | None = None
    time: int | None = None
    data: Raw = Raw(b"null")

    @property
    def ok(self) -> bool:
        """Whether the command succeeded: ``msg`` is exactly ``"OK"`` (section 5.0)."""
        return self.msg == "OK"


class Unknown(Struct, frozen=True):
    """A push whose ``tp`` this version does not know."""

    tp: str


Message: TypeAlias = AnyTick[N] | Reply | Unknown


class FrameDecoder(Generic[N]):
    """Decodes inbound frames whose prices are of the type ``numbers``.

    Attributes:
        push: Decodes a well-formed push in one step. Raises msgspec's exceptions for
            any other frame, which is then to be passed to ``read``.
        push_all: Does the same with frames that arrived together, in less time.
    """

    def __init__(self, numbers: type[N]) -> None:
        self._pushes: RecordDecoder[AnyTick[N]] = _pushes(cast("Any", numbers))
        self.push = self._pushes.decode_strict
        self.push_all = self._pushes.decode_ticks

    def read(self, data: bytes) -> Message[N]:
        """Return the message that any frame holds.

        1. A frame with a ``tp`` is a push. If the ``tp`` is known, it is decoded; if it
           is empty, or known but in other letters (``"s"``), the frame is garbled; any
           other ``tp`` is ``Unknown``.
        2. A frame without a ``tp`` is a reply if it has a ``msg`` or a ``reqid``, or a
           ``type`` and no symbol. A push that lost its ``tp`` has none of these.

        Raises:
            DecodeError: If the frame is not JSON, garbled, or neither of the two.
        """
        try:
            # Pushes carry "tp", replies "type" (sections 5.2.3 and 5.2.6); both may be
            # "S", so "tp" decides.
            tp = _kind_decoder.decode(data).tp
            reply = _read_reply(data) if tp is None else None
        except (msgspec.MsgspecError, RecursionError, ValueError) as exc:
            reason, quoted = str(exc), quote_bare_words(data)
        else:
            if tp in _CHANNELS:
                return self._pushes.decode(data)
            if tp is not None and (kind := _kind(tp)) and kind not in _CHANNELS:
                return Unknown(tp)
            if reply is not None:
                return reply
            reason, quoted = "neither a push nor a reply", None
        if quoted is not None:
            return self.read(quoted)
        raise DecodeError(f"cannot decode a frame ({reason})")


def change_frame(
    channel: Channel,
    symbols: Iterable[str],
    *,
    add: bool,
    reqid: int,
    interval: Interval | None = None,
) -> bytes:
    """Return a subscribe or unsubscribe command (sections 5.2 to 5.5).

    The symbols are those of topics, and so canonical.
    """
    letter = LETTERS[channel]
    frame: dict[str, Any] = {
        "type": letter if add else f"{letter}C",
        "codes": pack_canonical(symbols),
        "reqid": reqid,
    }
    if interval is not None:
        frame["kt"] = int(interval)
    return _encoder.encode(frame)


def request_frame(operation: str, body: dict[str, Any], *, reqid: int) -> bytes:
    """Return the frame of a one-off request (sections 5.6 to 5.11)."""
    return _encoder.encode({"type": operation, **body, "reqid": reqid})


def topics_possibly_in(data: bytes) -> Callable[[Topic], bool]:
    """Return a predicate: may this undecodable frame be a push of a given topic?

    Only fields that can be read narrow it down: a frame that is not JSON may be a push
    of any topic, one without a ``tp`` of any channel.
    """
    try:
        label = _topic_decoder.decode(quote_bare_words(data) or data)
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
    """Return the canonical symbols that the body of a request names."""
    rows = [row["c"] for row in body.get("kline_reqs", ())]
    entries = [*body.get("codes", ()), *rows]
    return split(entries) if entries else ()


def push_row(tick: AnyTick[Any]) -> Raw:
    """Return a tick as the push that it might have been.

    It has the fields of the wire that are not None. Numbers have the digits that were
    received; a ``float`` has as many as distinguish it from all others.
    """
    fields = msgspec.to_builtins(tick, builtin_types=(Decimal,))
    for name in _OWN_FIELDS:
        del fields[name]
    return Raw(_encoder.encode(_plain(fields)))


def _plain(value: Any) -> Any:
    """Return a value without fields that are None, and with decimals in full.

    ``str`` of a small ``Decimal`` has an exponent (1.2E-7), which the wire has not.
    """
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    fields = cast("dict[str, Any]", value)
    return {n: _plain(item) for n, item in fields.items() if item is not None}


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


_encoder = msgspec.json.Encoder()
# Fields of a tick that the wire does not have.
_OWN_FIELDS = ("received_at", "recovered", "qos_async.place")
_kind_decoder = msgspec.json.Decoder(_EnvelopeKind)
_topic_decoder = msgspec.json.Decoder(_EnvelopeTopic)
_reply_decoder = msgspec.json.Decoder(_EnvelopeReply)


@cache  # The same for all clients; to build it delays the first tick.
def _pushes(numbers: type[Any]) -> RecordDecoder[Any]:
    number: Any = finite_type(numbers)
    kinds: Any = Snapshot[number] | Trade[number] | Depth[number] | Kline[number]
    return RecordDecoder(kinds, numbers)


def _kind(tp: Any) -> str:
    return tp.strip().upper() if isinstance(tp, str) else ""


def _read_reply(data: bytes) -> Reply | None:
    # Tolerant of each field: while a command is unanswered nothing else is sent, so a
    # reply that is thrown away for one bad field would cost ``request_timeout``.
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
        return None  # Left out; 0 is never sent, so it stands for "left out" too.
    if type(value) is int:
        return value
    try:
        return int(value) if isinstance(value, (str, float)) else _NO_REQID
    except (ValueError, OverflowError):
        return _NO_REQID


def known_topic(topic: WireTopic) -> Topic | None:
    """Return a topic of the protocol as a ``Topic``; None if it is not a known one."""
    channel = _CHANNELS.get(topic.letter)
    try:
        interval = None if topic.kt is None else Interval(topic.kt)
        return None if channel is None else Topic(channel, topic.symbol, interval)
    except ValueError:
        return None


def wire_topic(topic: Topic) -> WireTopic:
    """Return a topic in the terms of the protocol."""
    kt = None if topic.interval is None else int(topic.interval)
    return WireTopic(LETTERS[topic.channel], topic.symbol, kt)
