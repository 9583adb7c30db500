"""Messages of a stream: form 1.

A message of a topic has one or more pushes as its payload, byte for byte as received and
separated by line feeds; one of a link has one line of the directory format
(``recordings.format``). Both have two headers::

    Qos-Entry: 1 <recorder> <epoch> <counter> <previous> <at> <up>
    Nats-Msg-Id: <recorder>.<epoch>.<counter>

``previous`` is ``<epoch>.<counter>`` of the message before it of this recorder on the same
subject, ``-`` if there was not one. ``at`` is the time of receipt, in nanoseconds since the
epoch by the recorder's wall clock, and ``up`` in nanoseconds by a clock that does not go
back within an epoch. ``counter`` counts all messages of an epoch, from 0.

A fence is JSON on ``STREAM.fence.<recorder>``, which names an epoch; recorders of earlier
versions named none: then it is the stream sequence of the fence. Epochs never decrease.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from qos_async.recordings.format import Entry, NewerFormatError, decode_line

__all__ = [
    "EXPECTED_SEQUENCE",
    "EXPECTED_SUBJECT",
    "FORM",
    "MAX_PAYLOAD",
    "MESSAGE_ID",
    "Fence",
    "Outgoing",
    "Position",
    "Stamp",
    "Stamper",
    "decode_fence",
    "decode_link",
    "decode_pushes",
    "decode_stamp",
    "encode_fence",
    "encode_headers",
    "encode_link",
    "encode_pushes",
    "fits_topic",
    "message_id",
    "parse_message_id",
    "place_of",
]

FORM = 1
MAX_PAYLOAD = 900_000
"""Bytes of a payload; a server takes 1 MiB with subject and headers, by default."""
ENTRY = "Qos-Entry"
MESSAGE_ID = "Nats-Msg-Id"
EXPECTED_SEQUENCE = "Nats-Expected-Last-Subject-Sequence"
EXPECTED_SUBJECT = "Nats-Expected-Last-Subject-Sequence-Subject"

_LONGEST = 20  # Digits of an unsigned number of 64 bits.
_is_stamp = re.compile(
    r"1 ([^ ]+) ([0-9]{1,20}) ([0-9]{1,20})"
    r" (?:-|([0-9]{1,20})\.([0-9]{1,20})) ([0-9]{1,20}) ([0-9]{1,20})"
).fullmatch


class Position(NamedTuple):
    """The order of the messages of a recorder."""

    epoch: int
    counter: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.counter}"


class Stamp(NamedTuple):
    """What the header of a message says.

    Attributes:
        recorder: The name of the recorder.
        position: Its epoch and the number in it.
        previous: The position of the one before it on the same subject; None if there
            was not one since the recorder's first epoch, or it is not known.
        at: Nanoseconds since the epoch, by the wall clock of the recorder.
        up: Nanoseconds by a clock that does not go back within an epoch.
    """

    recorder: str
    position: Position
    previous: Position | None
    at: int
    up: int


class Outgoing(NamedTuple):
    """A message to send.

    Attributes:
        counter: Its number in the epoch.
        subject: The subject.
        payload: The payload.
        headers: Its headers, without the fence.
    """

    counter: int
    subject: str
    payload: bytes
    headers: dict[str, str]


class Stamper:
    """Numbers the messages of one epoch, and chains those of each subject.

    Args:
        recorder: The name of the recorder.
        epoch: Its epoch.
        previous: The last position of each subject, in the epochs before.

    Attributes:
        previous: The last position of each subject: for the stamper of the next epoch.
    """

    def __init__(
        self,
        recorder: str,
        epoch: int,
        previous: Mapping[str, Position] | None = None,
    ) -> None:
        self.recorder, self.epoch = recorder, epoch
        self.previous = dict(previous or {})
        self._counter = 0

    def stamp(self, subject: str, payload: bytes, *, at: int, up: int) -> Outgoing:
        """Return the next message."""
        counter, previous = self._counter, self.previous
        self._counter += 1
        position = Position(self.epoch, counter)
        stamp = Stamp(self.recorder, position, previous.get(subject), at, up)
        previous[subject] = position
        return Outgoing(counter, subject, payload, encode_headers(stamp))


class Fence(msgspec.Struct, frozen=True, kw_only=True):
    """A takeover: the payload of ``STREAM.fence.<recorder>``.

    Attributes:
        recorder: The name of the recorder.
        token: A random text that is different for each process.
        host: The name of its machine.
        pid: The number of its process.
        at: Nanoseconds since the epoch, by its wall clock.
        epoch: The epoch. Recorders of earlier versions named none: then it is the
            sequence of the fence.
    """

    recorder: str
    token: str
    host: str
    pid: int
    at: int
    form: int = FORM
    epoch: int | msgspec.UnsetType = msgspec.UNSET

    def epoch_at(self, sequence: int) -> int:
        """Return the epoch that begins with this fence, stored with a sequence."""
        return sequence if self.epoch is msgspec.UNSET else self.epoch


_encode_json = msgspec.json.Encoder().encode
_decode_fence = msgspec.json.Decoder(Fence).decode


def encode_headers(stamp: Stamp) -> dict[str, str]:
    """Return the headers of a message."""
    recorder, (epoch, counter), previous, at, up = stamp
    before = f"{previous[0]}.{previous[1]}" if previous is not None else "-"
    return {
        ENTRY: f"{FORM} {recorder} {epoch} {counter} {before} {at} {up}",
        MESSAGE_ID: f"{recorder}.{epoch}.{counter}",
    }


def message_id(recorder: str, position: Position) -> str:
    """Return the id by which the server recognises a message that is sent again."""
    return f"{recorder}.{position[0]}.{position[1]}"


def parse_message_id(text: str) -> tuple[str, Position]:
    """Return the recorder and the position of an id.

    Raises:
        ValueError: If it is not an id of a recorder.
    """
    recorder, *numbers = text.split(".")
    if len(numbers) != len(Position._fields) or not recorder:
        raise ValueError(f"not an id of a message: {text[:80]!r}")
    return recorder, _position(".".join(numbers))


def decode_stamp(headers: Mapping[str, str] | None) -> Stamp | None:
    """Return the stamp of a message; None if no recorder wrote it.

    Raises:
        NewerFormatError: If its form is newer than those that are known.
        ValueError: If its header cannot be read.
    """
    text = headers.get(ENTRY) if headers else None
    if text is None:
        return None
    if (found := _is_stamp(text)) is not None:  # Nearly always.
        recorder, epoch, counter, before, number, at, up = found.groups()
        previous = None if number is None else Position(int(before), int(number))
        return Stamp(
            recorder, Position(int(epoch), int(counter)), previous, int(at), int(up)
        )
    form, _, rest = text.partition(" ")
    _check_form(_number(form))
    parts = rest.split(" ")
    if len(parts) != len(Stamp._fields) + 1:
        raise ValueError(f"not a header of an entry: {text[:80]!r}")
    recorder, epoch, counter, before, at, up = parts
    return Stamp(
        recorder,
        Position(_number(epoch), _number(counter)),
        None if before == "-" else _position(before),
        _number(at),
        _number(up),
    )


def _check_form(form: int) -> None:
    if form > FORM:
        raise NewerFormatError(
            f"the stream has messages of form {form}, written by a newer qos-async, and "
            f"this one reads forms up to {FORM}: pip install --upgrade qos-async"
        )


def _position(text: str) -> Position:
    epoch, _, counter = text.partition(".")
    return Position(_number(epoch), _number(counter))


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _LONGEST):
        raise ValueError(f"not a number in the header of an entry: {text[:80]!r}")
    return int(text)


def fits_topic(push: bytes) -> bool:
    """Return whether a push can stand in a message of a topic, as it has no line feed."""
    return bool(push) and b"\n" not in push


def encode_pushes(pushes: Sequence[bytes]) -> bytes:
    """Return the payload of pushes of one topic that were received together."""
    return b"\n".join(pushes)


def decode_pushes(payload: bytes) -> list[bytes]:
    """Return the pushes of a payload of a topic."""
    pushes = payload.split(b"\n")
    return pushes if all(pushes) else list(filter(None, pushes))


def encode_link(line: bytes) -> bytes:
    """Return the payload of a line of the directory format."""
    return line.removesuffix(b"\n")


def decode_link(payload: bytes) -> Entry:
    """Return the entry of a payload of a link.

    Raises:
        ValueError: If it is not a line of a recording.
        NewerFormatError: If it is of a newer format.
    """
    return decode_line(payload)


def encode_fence(fence: Fence) -> bytes:
    """Return the payload of a fence."""
    return _encode_json(fence)


def decode_fence(payload: bytes) -> Fence:
    """Return the fence of a payload.

    Raises:
        ValueError: If it is not a fence.
        NewerFormatError: If it is of a newer form.
    """
    try:
        fence = _decode_fence(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise ValueError(f"not a fence of a recorder: {exc}") from None
    _check_form(fence.form)
    return fence


def place_of(created_ms: int, stamp: Stamp, index: int) -> str:
    """Return the place of a tick in a stream.

    Args:
        created_ms: When the stream was created, in milliseconds since the epoch.
        stamp: The stamp of its message.
        index: The number of the tick in the message, from 0.
    """
    return f"{created_ms}.{stamp.recorder}.{stamp.position}.{index}"
