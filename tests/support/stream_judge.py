"""Judge of a stream: each trade of the simulator's tape in it once, or inside a gap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import nats
from nats.js.api import AckPolicy, ConsumerConfig

from qos_async.jetstream.messages import (
    Position,
    Stamp,
    decode_fence,
    decode_link,
    decode_stamp,
)
from qos_async.recordings.format import Entry
from tests.support.observations import trade_key

__all__ = ["Found", "check_tape", "live_entries", "read_stream", "trades_of"]


class Found(msgspec.Struct):
    """A message of a stream.

    Attributes:
        sequence: Its sequence.
        subject: Its subject.
        stamp: Its stamp; None for a fence.
        payload: Its payload.
        epoch: That which a fence begins; else that of its stamp.
    """

    sequence: int
    subject: str
    stamp: Stamp | None
    payload: bytes
    epoch: int

    @property
    def entry(self) -> Entry | None:
        """The entry of a link's message; None for others."""
        is_link = ".link." in self.subject
        return decode_link(self.payload) if is_link else None


async def read_stream(url: str, stream: str) -> list[Found]:
    """Return all messages of a stream, in its order."""
    client = await nats.connect(url)
    try:
        context = client.jetstream()
        count = (await context.stream_info(stream)).state.messages
        subscription = await context.pull_subscribe(
            f"{stream}.>",
            stream=stream,
            config=ConsumerConfig(ack_policy=AckPolicy.NONE, max_ack_pending=-1),
        )
        found: list[Found] = []
        while len(found) < count:
            for message in await subscription.fetch(500, timeout=5):
                sequence = message.metadata.sequence.stream
                stamp = decode_stamp(message.headers)
                epoch = (
                    decode_fence(message.data).epoch_at(sequence)
                    if stamp is None
                    else stamp.position.epoch
                )
                found.append(
                    Found(
                        sequence,
                        message.subject,
                        stamp,
                        message.data,
                        epoch,
                    )
                )
    finally:
        await client.close()
    return found


def live_entries(messages: Sequence[Found], recorder: str = "default") -> list[Found]:
    """Return what a reader delivers of one recorder, by the rule of epochs.

    Raises:
        AssertionError: If a message is missing within an epoch, or names another one
            before it on its subject.
    """
    epoch, seen, kept = 0, set[Position](), list[Found]()
    for message in messages:
        if message.stamp is None:
            if message.subject.endswith(f".fence.{recorder}"):
                epoch = max(epoch, message.epoch)
        elif message.stamp.recorder == recorder:
            epoch = max(epoch, message.epoch)
            if message.epoch == epoch and message.stamp.position not in seen:
                seen.add(message.stamp.position)
                kept.append(message)
    last: dict[str, Position] = {}
    counter, current = 0, 0
    for message in kept:
        assert message.stamp is not None
        if message.epoch != current:
            current, counter, last = message.epoch, 0, {}
        assert message.stamp.position == Position(current, counter), message
        assert message.stamp.previous == last.get(message.subject), message
        last[message.subject] = message.stamp.position
        counter += 1
    return kept


def trades_of(messages: Sequence[Found], symbol: str) -> list[tuple[Any, ...] | str]:
    """Return the trades of a symbol in order, and words for what announces a gap."""
    market, code = symbol.split(":")
    found: list[tuple[Any, ...] | str] = []
    for message in messages:
        entry = message.entry
        if entry is not None and entry.kind in ("started", "lost", "dropped"):
            found.append(entry.kind)
        elif message.subject.endswith(f".T.{market}.{code}"):
            rows = map(msgspec.json.decode, message.payload.split(b"\n"))
            found += [trade_key(row) for row in rows]
    return found


def check_tape(
    messages: Sequence[Found], symbol: str, tape: Sequence[dict[str, Any]]
) -> int:
    """Check that trades are those of the tape, without a hole but at a gap.

    Returns:
        How many trades there are.
    """
    keys = [trade_key(row) for row in tape]
    place, count, may_skip = 0, 0, True
    items = trades_of(messages, symbol)
    for number, item in enumerate(items):
        if isinstance(item, str):
            may_skip = True
            continue
        if may_skip:
            place = _place(keys, place, items[number : number + 5])
            may_skip = False
        assert item == keys[place], f"{symbol}: {item}, not {keys[place]}"
        place, count = place + 1, count + 1
    return count


def _place(keys: list[Any], place: int, items: list[Any]) -> int:
    """Return the place, from one on, at which trades stand on the tape."""
    end = next((n for n, item in enumerate(items) if isinstance(item, str)), len(items))
    wanted = items[:end]
    for start in range(place, len(keys)):
        if keys[start : start + end] == wanted:
            return start
    raise AssertionError(f"{wanted} are no trades to come")
