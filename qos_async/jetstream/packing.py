"""Packing of frames into messages: those of one topic that came together share one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec

from qos_async._core.wire import wire_topic
from qos_async.jetstream.messages import encode_pushes, fits_topic
from qos_async.jetstream.subjects import LETTERS, topic_subject
from qos_async.recordings.last_values import PushHeader
from qos_async.topics import Topic

__all__ = ["Packer"]

_MOST_SUBJECTS = 20_000
_MOST_BYTES = 256 * 1024
"""Payload of one message: a server takes 1 MB."""

_header = msgspec.json.Decoder(PushHeader, strict=False).decode
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Packer:
    """Sorts frames by subject.

    Args:
        stream: The name of the stream.
    """

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._subjects: dict[tuple[str | None, str, int | None], str] = {}

    def pack(
        self, frames: Sequence[bytes]
    ) -> tuple[dict[str, list[bytes]], list[bytes]]:
        """Return the pushes by subject, and the frames that belong to none.

        Replies of the service are in neither.
        """
        by_subject: dict[str, list[bytes]] = {}
        others: list[bytes] = []
        subjects = self._subjects
        for frame in frames:
            try:
                header = _header(frame)
            except _UNREADABLE:
                others.append(frame)
                continue
            key = (header.tp, header.c, header.kt)
            subject = subjects.get(key) or self._find(key, header)
            if subject and fits_topic(frame):
                found = by_subject.get(subject)
                if found is None:
                    by_subject[subject] = [frame]
                else:
                    found.append(frame)
            elif header.tp is not None:
                others.append(frame)
        return by_subject, others

    def subject(self, topic: Topic) -> str:
        """Return the subject of a topic."""
        return topic_subject(self._stream, wire_topic(topic))

    def _find(self, key: tuple[str | None, str, int | None], header: PushHeader) -> str:
        """Return the subject of a push; empty if it has none."""
        topic = header.topic
        if topic.letter not in LETTERS or not topic.letter:
            return ""
        if (topic.letter == "K") != (topic.kt is not None) or ":" not in topic.symbol:
            return ""
        try:
            subject = topic_subject(self._stream, topic)
        except ValueError:
            return ""
        if len(self._subjects) >= _MOST_SUBJECTS:
            self._subjects.clear()
        self._subjects[key] = subject
        return subject


def payloads(
    pushes: Sequence[bytes], redact: Callable[[str], str]
) -> Iterator[tuple[bytes, int]]:
    """Yield payloads with all pushes, in order, and how many are in each."""
    together = encode_pushes(pushes)
    if len(together) > _MOST_BYTES and len(pushes) > 1:
        half = len(pushes) // 2
        yield from payloads(pushes[:half], redact)
        yield from payloads(pushes[half:], redact)
        return
    text = together.decode("utf-8", "surrogateescape")
    shown = redact(text)
    if shown is not text:
        together = shown.encode("utf-8", "surrogateescape")
    yield together, len(pushes)
