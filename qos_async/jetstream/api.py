"""Requests to JetStream, read by the leader, and their errors as exceptions."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from qos_async._printable import printable
from qos_async.jetstream.errors import (
    BrokerReplyError,
    BrokerUnavailableError,
    WrongRevisionError,
)
from qos_async.jetstream.messages import EXPECTED_SEQUENCE, Stamp, decode_stamp

__all__ = [
    "NO_STREAM",
    "Requester",
    "StoredMessage",
    "call",
    "check_reply",
    "find_message",
    "last_message",
    "last_sequences",
    "next_sequence",
    "store",
    "stored_headers",
    "stored_stamp",
]

NO_STREAM = 10059
_NO_MESSAGE = 10037
# The last sequence differs; a write to the same subject is under way in the cluster.
_WRONG_REVISION = frozenset({10071, 10164})
# 503 stands for "no leader now", but also for limits and for JetStream that is not
# enabled, which waiting does not change.
_UNAVAILABLE = 503
_NOT_LATER = frozenset({10023, 10039, 10076, 10077})
_REQUESTS = 200  # At one time.

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


class ApiReply(Protocol):
    """A reply of the broker."""

    @property
    def data(self) -> bytes:
        """The payload."""
        ...


class Requester(Protocol):
    """What the requests need of a connection: ``Wire``, or a test's."""

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        *,
        timeout: float = 2.0,  # noqa: ASYNC109 - the deadline is part of the error
        headers: dict[str, str] | None = None,
    ) -> ApiReply:
        """Return the reply to a message."""
        ...


class StoredMessage(NamedTuple):
    """The last message on a subject.

    Attributes:
        sequence: Its sequence in the stream: the revision of the subject.
        data: Its payload.
    """

    sequence: int
    data: bytes


async def call(
    wire: Requester,
    subject: str,
    body: Any = None,
    *,
    timeout: float = 5.0,  # noqa: ASYNC109 - the deadline is part of the error
) -> dict[str, Any]:
    """Return the reply of the JetStream API, of which the leader is the only one.

    Args:
        wire: The connection.
        subject: The operation, without ``$JS.API.``.
        body: What is encoded as JSON; None for an empty payload.
        timeout: Seconds until the reply.

    Raises:
        BrokerUnavailableError: If there is no reply, or no leader.
        BrokerReplyError: If the request is refused.
    """
    payload = b"" if body is None else _encode(body)
    reply = await wire.request(f"$JS.API.{subject}", payload, timeout=timeout)
    return check_reply(reply.data, subject)


def check_reply(data: bytes, about: str) -> dict[str, Any]:
    """Return a reply as an object.

    Raises:
        WrongRevisionError: If it says that a sequence was not the last.
        BrokerUnavailableError: If it says that this may work later.
        BrokerReplyError: For any other error.
    """
    try:
        reply = _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise BrokerReplyError(f"the broker replied to {about} with no JSON") from None
    error = reply.get("error")
    if not isinstance(error, dict):
        return reply
    found: dict[str, Any] = msgspec.convert(error, dict[str, Any])
    code = found.get("err_code", 0)
    code = code if isinstance(code, int) else 0
    description = printable(str(found.get("description", "no reason")))
    text = f"the broker refused {about}: {description} ({code})"
    if code in _WRONG_REVISION:
        raise WrongRevisionError(text, code=code, description=description)
    if found.get("code") == _UNAVAILABLE and code not in _NOT_LATER:
        raise BrokerUnavailableError(text)
    raise BrokerReplyError(text, code=code, description=description)


async def find_message(
    wire: Requester,
    stream: str,
    body: dict[str, Any],
    *,
    timeout: float = 5.0,  # noqa: ASYNC109 - the deadline is part of the error
) -> dict[str, Any] | None:
    """Return the reply with a message as the leader has it; None without a message.

    Args:
        wire: The connection.
        stream: The stream.
        body: Which message, as of ``STREAM.MSG.GET``.
        timeout: Seconds until the reply.

    Raises:
        BrokerUnavailableError: If the leader did not reply in time.
        BrokerReplyError: If the request is refused.
    """
    try:
        return await call(wire, f"STREAM.MSG.GET.{stream}", body, timeout=timeout)
    except BrokerReplyError as exc:
        if exc.code == _NO_MESSAGE:
            return None
        raise


async def last_message(
    wire: Requester,
    stream: str,
    subject: str,
    *,
    timeout: float = 2.0,  # noqa: ASYNC109 - the deadline is part of the error
) -> StoredMessage | None:
    """Return the last message on a subject as the stream's leader has it, or None.

    Raises:
        BrokerUnavailableError: If the leader did not reply in time.
        BrokerReplyError: If the request is refused.
    """
    body = {"last_by_subj": subject}
    reply = await find_message(wire, stream, body, timeout=timeout)
    if reply is None:
        return None
    try:
        found = reply["message"]
        data = base64.b64decode(found.get("data") or "")
        return StoredMessage(int(found["seq"]), data)
    except (KeyError, TypeError, ValueError):
        raise BrokerReplyError(
            f"the broker's reply about {subject} is malformed"
        ) from None


async def next_sequence(
    wire: Requester, stream: str, sequence: int, filters: Sequence[str]
) -> int:
    """Return the first message from a sequence on as the leader has it; 0 for none.

    Args:
        wire: The connection.
        stream: The stream.
        sequence: Where to begin.
        filters: Subjects, with wildcards; none for all.

    Raises:
        BrokerUnavailableError: If the leader did not reply in time.
        BrokerReplyError: If the request is refused.
    """
    bodies = [{"seq": sequence, "next_by_subj": one} for one in filters or [">"]]
    found = await asyncio.gather(*(_sequence(wire, stream, body) for body in bodies))
    return min(filter(None, found), default=0)


async def last_sequences(
    wire: Requester, stream: str, subjects: Iterable[str]
) -> dict[str, int]:
    """Return the last message of each subject as the leader has it; 0 for none.

    Raises:
        BrokerUnavailableError: If the leader did not reply in time.
        BrokerReplyError: If the request is refused.
    """
    found: dict[str, int] = {}
    names = list(subjects)
    for start in range(0, len(names), _REQUESTS):
        some = names[start : start + _REQUESTS]
        bodies = [{"last_by_subj": one} for one in some]
        numbers = await asyncio.gather(*(_sequence(wire, stream, b) for b in bodies))
        found.update(zip(some, numbers, strict=True))
    return found


async def _sequence(wire: Requester, stream: str, body: dict[str, Any]) -> int:
    reply = await find_message(wire, stream, body)
    try:
        return 0 if reply is None else int(reply["message"]["seq"])
    except (KeyError, TypeError, ValueError):
        raise BrokerReplyError(
            f"the broker's reply about {stream} is malformed"
        ) from None


async def stored_headers(wire: Requester, stream: str, sequence: int) -> dict[str, str]:
    """Return the headers of a message as the leader has it; empty without a message.

    Raises:
        BrokerUnavailableError: If the leader did not reply in time.
        BrokerReplyError: If the request is refused.
    """
    reply = await find_message(wire, stream, {"seq": sequence})
    return {} if reply is None else _headers(reply)


async def store(
    wire: Requester,
    subject: str,
    payload: bytes,
    *,
    revision: int,
    timeout: float = 2.0,  # noqa: ASYNC109 - the deadline is part of the error
) -> int:
    """Store a message if the last one on its subject has this sequence; return its own.

    Args:
        wire: The connection.
        subject: The subject.
        payload: The message.
        revision: The sequence of the last message on the subject; 0 for none.
        timeout: Seconds until the acknowledgement.

    Raises:
        WrongRevisionError: If another message is the last: nothing was stored.
        BrokerUnavailableError: If there is no acknowledgement: it may be stored, also
            later.
        BrokerReplyError: If it is refused.
    """
    headers = {EXPECTED_SEQUENCE: str(revision)}
    reply = await wire.request(subject, payload, timeout=timeout, headers=headers)
    found = check_reply(reply.data, subject)
    try:
        return int(found["seq"])
    except (KeyError, TypeError, ValueError):
        raise BrokerReplyError(
            f"the broker's reply about {subject} is malformed"
        ) from None


def stored_stamp(reply: dict[str, Any]) -> Stamp | None:
    """Return the stamp of a message that the server returned; None for no stamp."""
    try:
        return decode_stamp(_headers(reply))
    except ValueError:
        return None


def _headers(reply: dict[str, Any]) -> dict[str, str]:
    """Return the headers of a message that the server returned."""
    raw = base64.b64decode(reply.get("message", {}).get("hdrs") or "")
    lines = raw.decode(errors="replace").split("\r\n")
    pairs = (line.partition(": ") for line in lines if ": " in line)
    return {name: value for name, _, value in pairs}
