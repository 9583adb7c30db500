"""Messages that any server with a copy of a stream returns, several for one request."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from qos_async.jetstream.errors import BrokerReplyError, BrokerUnavailableError
from qos_async.jetstream.wire import Message, Wire

__all__ = ["StoredPush", "last_of_subjects", "newest_of_subject"]

_TIMEOUT = 5.0
_MOST_SUBJECTS = 1000  # The server refuses more than 1024.
_MOST_MESSAGES = 1000
_NOTHING, _END = "404", "204"


class StoredPush(NamedTuple):
    """A message.

    Attributes:
        subject: Its subject.
        sequence: Its sequence.
        headers: Its headers and those of the server.
        data: Its payload.
        pending: How many of the same subject follow it.
    """

    subject: str
    sequence: int
    headers: dict[str, str]
    data: bytes
    pending: int


async def last_of_subjects(
    wire: Wire, stream: str, subjects: Iterable[str]
) -> list[StoredPush]:
    """Return the last message of each subject that has one.

    Raises:
        BrokerError: If the server cannot be asked, or refuses.
    """
    names, found = sorted(subjects), list[StoredPush]()
    for start in range(0, len(names), _MOST_SUBJECTS):
        body = {"multi_last": names[start : start + _MOST_SUBJECTS]}
        found += await _get(wire, stream, body)
    return found


async def newest_of_subject(
    wire: Wire, stream: str, subject: str, count: int
) -> list[StoredPush]:
    """Return the last messages of a subject, oldest first, at least ``count`` if there are.

    Raises:
        BrokerError: If the server cannot be asked, or refuses.
    """
    last = await _get(wire, stream, {"last_by_subj": subject})
    if not last:
        return []
    # The server counts those that follow: so the first of them is found by halves.
    low, high = 1, last[0].sequence
    while low < high:
        middle = (low + high + 1) // 2
        one = await _get(wire, stream, _from(subject, middle, 1))
        if one and one[0].pending + 1 >= count:
            low = max(middle, one[0].sequence)
        else:
            high = middle - 1
    found: list[StoredPush] = []
    while not found or found[-1].pending:
        batch = await _get(wire, stream, _from(subject, low, _MOST_MESSAGES))
        if not batch:
            break
        found += batch
        low = batch[-1].sequence + 1
    return found


def _from(subject: str, sequence: int, batch: int) -> dict[str, Any]:
    return {"seq": sequence, "next_by_subj": subject, "batch": batch}


async def _get(wire: Wire, stream: str, body: dict[str, Any]) -> list[StoredPush]:
    inbox = f"_INBOX.{secrets.token_hex(11)}"
    is_one = "last_by_subj" in body
    found: list[StoredPush] = []
    end: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def finish(status: str) -> None:
        if not end.done():
            end.set_result(status)

    def on_message(message: Message) -> None:
        headers = dict(message.headers or {})
        if "Status" in headers:
            finish(f"{headers['Status']} {headers.get('Description', '')}")
            return
        found.append(_push(message, headers))
        if is_one:
            finish(_END)

    subject = f"$JS.API.DIRECT.GET.{stream}"
    subscription = await wire.subscribe(inbox, on_message, lambda: finish("lost"))
    try:
        async with asyncio.timeout(_TIMEOUT):
            await wire.publish(subject, msgspec.json.encode(body), reply=inbox)
            status = await end
    except TimeoutError:
        status = f"no reply within {_TIMEOUT:g} s"
    finally:
        await wire.unsubscribe(subscription)
    _check(status, stream)
    return found


def _push(message: Message, headers: dict[str, str]) -> StoredPush:
    return StoredPush(
        headers.get("Nats-Subject", ""),
        int(headers.get("Nats-Sequence", "0")),
        headers,
        message.data,
        int(headers.get("Nats-Num-Pending", "0")),
    )


def _check(status: str, stream: str) -> None:
    if status.startswith((_NOTHING, _END)):
        return
    text = f"the values of the stream {stream} cannot be read: {status.strip()}"
    if status.startswith(("5", "no reply", "lost")):
        raise BrokerUnavailableError(
            f"{text}; it needs a leader, and allow_direct to be on"
        )
    raise BrokerReplyError(text)
