"""Client of a recording instead of a server."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar, overload

from qos_async._core.buffers import DropOldest
from qos_async._core.queries import Query
from qos_async._io.retry import Patience
from qos_async._io.stream import Stream
from qos_async._validation import check_number
from qos_async.errors import RequestError
from qos_async.models import N
from qos_async.recordings.log_client import LogClient
from qos_async.recordings.replay_transport import ReplayTransport
from qos_async.recordings.slices import recorded_source
from qos_async.recordings.source import EntrySource, Start
from qos_async.topics import Topic

__all__ = ["Replay", "check_numbers", "replay"]

T = TypeVar("T")


class Replay(LogClient[N]):
    """A client whose server is a recording; created by ``replay``.

    It starts to play with the first subscription. ``watch_*`` yields the recorded ticks,
    of the same types, with the ``received_at`` of the recording and a ``place``.
    ``fetch_*`` returns the values pushed so far; symbols without any are missing. Where
    the recorded link was lost, ``events()`` yields a ``Gap`` with the recorded reason and
    times, followed by the ticks that were fetched for it then. Loops end with the
    recording.
    """

    def __init__(
        self, source: EntrySource, place: str, speed: float | None, numbers: type[N]
    ) -> None:
        self._place = place
        super().__init__(
            source,
            numbers,
            made_by="replay",
            fetcher=_ReplayFetcher,
            speed=speed,
            # Without a speed the replay waits for its consumers: nothing is dropped.
            policy=DropOldest() if speed is None else None,
        )

    def __repr__(self) -> str:
        return f"<Replay of {self._place!r}>"

    @property
    def topics(self) -> tuple[Topic, ...]:
        """All topics that were subscribed in the recording, sorted."""
        return tuple(sorted(self._opening.topics))

    @property
    def begins_at(self) -> datetime:
        """The start of the recording, in UTC."""
        return datetime.fromtimestamp(self._opening.begins_at / 1e9, UTC)

    @property
    def ends_at(self) -> datetime:
        """The end of the recording, in UTC."""
        return datetime.fromtimestamp((self._opening.ends_at or 0) / 1e9, UTC)


class _ReplayFetcher:
    """Sends queries to the replay, in place of HTTP."""

    clock_ahead: float | None = None

    def __init__(self, stream: Stream[Any], _: ReplayTransport) -> None:
        self._stream = stream

    async def fetch(self, query: Query[T], *, patience: Patience | None = None) -> T:
        if not query.operation:
            raise RequestError(f"{query.path} is not available in a recording")
        return await self._stream.fetch(query)

    def close(self) -> None:
        """Do nothing: the stream fails its requests itself."""


@overload
def replay(
    path: str | os.PathLike[str],
    speed: float | None = 1.0,
    start: Start = None,
    end: str | datetime | None = None,
) -> Replay[Decimal]: ...


@overload
def replay(
    path: str | os.PathLike[str],
    speed: float | None = 1.0,
    start: Start = None,
    end: str | datetime | None = None,
    *,
    numbers: type[N],
) -> Replay[N]: ...


def replay(
    path: str | os.PathLike[str],
    speed: float | None = 1.0,
    start: Start = None,
    end: str | datetime | None = None,
    *,
    numbers: type[Any] = Decimal,
) -> Replay[Any]:
    """Play a recording to a program that was written for the live market.

    Use it in place of the ``Client``: it has the same methods.

    Args:
        path: A recording's directory, or one of its files; ``~`` is the home directory.
            Or a stream, ``"nats://host:4222/STREAM"``, up to its present end.
        speed: Recorded seconds in a second: 10 is ten times as fast. None is as fast as
            the consumers read: the replay waits for the slowest, and no tick is dropped,
            whatever the buffer; so each subscription must be read, or closed.
        start: Where to begin: None or ``"first"`` with the oldest entry; an aware
            datetime with the first entry received then or later, of a stream with the
            first one stored then; a place, such as ``tick.place``, with what comes after
            it. What was known there is known:
            topics, last values, and outages that go on.
        end: Where to end: None with the last entry; an aware datetime before the first
            entry received then; a place with what is there. Ticks that were fetched
            after one outage are not parted.
        numbers: The type of every price, size and volume: ``Decimal``, ``float`` or
            ``str``.

    Raises:
        ValueError: For a speed that is not above 0, an unknown type of numbers, a start or
            an end that is neither a time nor a place, or a path that cannot be one.
        RecordingError: On entering, if there is no recording, it is empty, or its start
            is not kept. In loops, if it has no such end.
        MissingZstdError: On entering, if no zstandard library is installed.

    Example:
        >>> async with replay("recordings", speed=None) as client:
        ...     async for trade in client.watch_trades("CF:BTCUSDT"):
        ...         print(trade.received_at, trade.price)
    """
    speed = check_number("speed", speed, above_zero=True, optional=True)
    check_numbers(numbers)
    source, shown = recorded_source(path, start, end, packed=True)
    return Replay(source, shown, speed, numbers)


def check_numbers(numbers: type[Any]) -> None:
    """Check the type of prices and sizes.

    Raises:
        ValueError: If it is another one.
    """
    if numbers not in (Decimal, float, str):
        raise ValueError(f"numbers must be one of Decimal, float, str, not {numbers!r}")
