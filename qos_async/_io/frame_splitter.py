"""Plain frames, split off in front of aiohttp's own websocket reader.

aiohttp hands frames over one by one, each for a message and two coroutines. Ticks come
in bursts: here all that one read from the network brought becomes one message. From the
socket to the user's loop that takes less than half the time.

It stands on names that aiohttp does not promise, so it is put there only where they are
found, and it understands little: whole text frames, and where a ping, a pong or a close
ends. Those, and what is cut in two by the network, go on to aiohttp's reader as they
came. From the first frame of any other kind on (in parts, compressed, masked, binary),
that one has the link to itself. So errors, limits, back-pressure and the order of it
all are still aiohttp's.

A few frames that come while all is quiet may be taken at once, before the loop goes on:
to wake a task for them would cost more than all else that is done with them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from aiohttp import WSMsgType

__all__ = ["FastFrameParser", "FrameBatchMessage", "SyncHandoff", "install"]

_PLAIN = 0x81  # A whole text message, uncompressed.
_KNOWN = frozenset([_PLAIN, 0x88, 0x89, 0x8A])  # And a close, a ping, a pong.
_MASKED = 0x80
_SHORT, _MEDIUM = 125, 126
_LONGEST_HEADER = 4  # Of those that are split off.
_ALL = sys.maxsize
_FEW = 128  # Readers of ticks wait meanwhile.


class FrameBatchMessage(NamedTuple):
    """A message for aiohttp's queue, shaped like those in it, that holds many frames."""

    type: WSMsgType
    data: list[bytes]
    extra: None = None


class SyncHandoff:
    """Between a splitter and whoever reads its link.

    Attributes:
        handler: Takes frames at once, and tells whether it has; else they go the usual way.
        reader_idle: Whether somebody waits for the next message and is done with all
            that were taken from the queue.
    """

    __slots__ = ("handler", "reader_idle")

    def __init__(self) -> None:
        self.handler: Callable[[list[bytes]], bool] | None = None
        self.reader_idle = False


class FastFrameParser:
    """Stands where aiohttp has its reader, in front of that one.

    Args:
        reader: aiohttp's own.
        queue: Where both put messages; it stops the reading while it is full.
        offer: To whom a few frames are offered at once.
    """

    __slots__ = (
        "__weakref__",
        "_handoff",
        "_partial_header",
        "_passthrough_bytes",
        "_queue",
        "_queued",
        "_reader",
    )

    def __init__(self, reader: Any, queue: Any, offer: SyncHandoff) -> None:
        self._handoff = offer
        self._reader = reader
        self._queue = queue
        self._queued: Any = getattr(queue, "_buffer", None)
        self._partial_header = b""  # Of a frame whose end is not known yet.
        self._passthrough_bytes = (
            0  # Bytes to come of a frame that the reader has begun with.
        )

    def feed_eof(self) -> None:
        """Tell that nothing more will come."""
        self._reader.feed_eof()

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Take in what came from the network.

        Returns:
            As aiohttp's reader: whether the protocol was broken, and nothing.
        """
        data = self._partial_header + data if self._partial_header else bytes(data)
        self._partial_header = b""
        at, size = 0, len(data)
        while at < size:
            # A reader that found the queue full keeps what it was fed until there is
            # room; what came later must not overtake that.
            stalled = getattr(self._queue, "_stalled_reader", None) is not None
            if not self._passthrough_bytes and not stalled:
                at = self._split(data, at)
                if at == size:
                    break
            end = (
                at + self._passthrough_bytes
                if self._passthrough_bytes
                else self._end_of_frame(data, at)
            )
            if end == at:
                self._partial_header = data[at:]
                break
            self._passthrough_bytes = max(end - size, 0)
            if self._reader.feed_data(data[at:end])[0]:
                return True, b""
            at = end
        return False, b""

    def _split(self, data: bytes, at: int) -> int:
        frames, end = _plain_frames(data, at)
        offer = self._handoff
        taken = (
            offer.handler is not None
            and offer.reader_idle
            # And nothing came before that nobody has seen yet.
            and self._queued is not None
            and not self._queued
            and 0 < len(frames) <= _FEW
            and offer.handler(frames)
        )
        if frames and not taken:
            self._queue.feed_data(FrameBatchMessage(WSMsgType.TEXT, frames), end - at)
        return end

    def _end_of_frame(self, data: bytes, at: int) -> int:
        """Tell where the frame at ``at`` ends: there, if too little of it has come.

        What is not understood never ends.
        """
        if len(data) - at < 2:  # noqa: PLR2004 - its kind and its length
            return at
        start, length = at + 2, data[at + 1]
        if data[at] not in _KNOWN or length & _MASKED:
            return _ALL
        if length > _SHORT and data[at] == _PLAIN:
            more = 2 if length == _MEDIUM else 8
            if len(data) - start < more:
                return at
            length = int.from_bytes(data[start : start + more])
            start += more
        return start + length


def install(protocol: Any, offer: SyncHandoff) -> None:
    """Let a ``Splitter`` read what comes over a connection that becomes a websocket.

    To be called before aiohttp puts its reader there, so that not a byte has passed.
    Where aiohttp is not as expected, all stays as it is.

    Args:
        protocol: aiohttp's, of the connection.
        offer: To whom a few frames are offered at once.
    """
    try:
        own: dict[str, Any] = protocol.__dict__
        set_parser: Any = protocol.set_parser
    except AttributeError:
        return

    def replacement(reader: Any, queue: Any, *args: Any, **options: Any) -> None:
        own.pop("set_parser")
        if _is_compatible(reader, queue, protocol):
            reader = FastFrameParser(reader, queue, offer)
        set_parser(reader, queue, *args, **options)

    if "set_parser" not in own:  # Clients may share a session.
        own["set_parser"] = replacement


def _is_compatible(reader: Any, queue: Any, protocol: Any) -> bool:
    """Try on another queue whether it takes a batch as it takes a message."""
    try:
        trial = type(queue)(protocol, 1 << 16, loop=None)
        trial.feed_data(FrameBatchMessage(WSMsgType.TEXT, []), 0)
        return callable(reader.feed_data) and callable(reader.feed_eof)
    except Exception:  # noqa: BLE001 - whatever it is that has changed
        return False


def _plain_frames(data: bytes, at: int) -> tuple[list[bytes], int]:
    """Take the whole plain frames from ``at`` on, and tell where they end."""
    frames: list[bytes] = []
    add, size, last = frames.append, len(data), len(data) - _LONGEST_HEADER
    while at <= last and data[at] == _PLAIN:
        start, length = at + 2, data[at + 1]
        if length > _SHORT:
            if length != _MEDIUM:
                break
            start, length = at + 4, data[at + 2] << 8 | data[at + 3]
        end = start + length
        if end > size:
            break
        add(data[start:end])
        at = end
    return frames, at
