"""Client of a recording instead of a server."""

from __future__ import annotations

import asyncio
import logging
import os
from datetime import UTC, datetime
from decimal import Decimal
from secrets import token_hex
from typing import Any, Self, TypeVar, overload

from qos_async._core.buffers import DropOldest
from qos_async._core.queries import Queries, Query
from qos_async._core.stats import Counters
from qos_async._event_loop import running_loop
from qos_async._io.aiohttp_session import AiohttpSession
from qos_async._io.loop_binding import LoopBinding
from qos_async._io.retry import Patience
from qos_async._io.secret import Secret
from qos_async._io.stream import Stream
from qos_async._paths import user_path
from qos_async._validation import check_number
from qos_async.client import Client
from qos_async.config import Limits, Timing
from qos_async.enums import LinkState
from qos_async.errors import RequestError
from qos_async.models import N
from qos_async.recordings.reading import Contents, contents, read
from qos_async.recordings.replay_clock import ReplayClock
from qos_async.recordings.replay_timeline import timeline
from qos_async.recordings.replay_transport import ReplayTransport
from qos_async.stats import Stats
from qos_async.topics import Topic

__all__ = ["Replay", "replay"]

T = TypeVar("T")

_log = logging.getLogger("qos_async.replay")

_NOT_ENTERED = "enter it first: async with replay(...) as client"

# A recording has no limits and no latency; and a bot under test may block the loop for
# as long as it takes, which must not count as silence.
_LIMITS = Limits(symbols=1_000_000, connections=1_000, command_interval=0.0)
_TIMING = Timing(silence=1e9, backoff_initial=1e-6, backoff_max=0.0, close_timeout=0.1)


class Replay(Client[N]):
    """A client whose server is a recording; created by ``replay``.

    It starts to play with the first subscription. ``watch_*`` yields the recorded ticks,
    of the same types, with the ``received_at`` of the recording. ``fetch_*`` returns the
    values pushed so far; symbols without any are missing. Where the recorded link was
    lost, ``events()`` yields a ``Gap`` with the recorded reason and times. Loops end
    with the recording.
    """

    def __init__(
        self, path: str | os.PathLike[str], speed: float | None, numbers: type[N]
    ) -> None:
        self._path = user_path("path", path)
        self._loaded: Contents | None = None
        session = AiohttpSession(Secret(token_hex()))
        session.binding = self._binding = _ReplayBinding()
        self._clock = ReplayClock(speed)
        self._transport = ReplayTransport(speed=speed, clock=self._clock)
        stream = Stream(
            self._transport,
            numbers,
            limits=_LIMITS,
            timing=_TIMING,
            stats=Counters(),
            binding=session.binding,
            clock=self._clock,
            # Without a speed the replay waits for its consumers: nothing is dropped.
            policy=DropOldest() if speed is None else None,
        )
        self._transport.stream = stream
        queries = Queries(numbers, chunk=_LIMITS.symbols)
        self._build(session, _ReplayFetcher(stream), stream, queries)

    async def __aenter__(self) -> Self:
        running_loop()
        if self._loaded is None:
            self._loaded = await asyncio.to_thread(contents, self._path)
            for fault in self._loaded.faults:
                _log.warning("the recording is damaged: %s", fault)
            if self._loaded.unknown:
                _log.warning(
                    "skipped %d entries of the recording that a newer qos-async wrote",
                    self._loaded.unknown,
                )
            self._clock.start(self._loaded.begins_at)
            self._transport.load(timeline(read(self._path)), self._loaded.topics)
            self._binding.is_entered = True
        return await super().__aenter__()

    def __repr__(self) -> str:
        return f"<Replay of {str(self._path)!r}>"

    @property
    def topics(self) -> tuple[Topic, ...]:
        """All topics that were subscribed in the recording, sorted."""
        return tuple(sorted(self._contents.topics))

    @property
    def begins_at(self) -> datetime:
        """The start of the recording, in UTC."""
        return datetime.fromtimestamp(self._contents.begins_at / 1e9, UTC)

    @property
    def ends_at(self) -> datetime:
        """The end of the recording, in UTC."""
        return datetime.fromtimestamp(self._contents.ends_at / 1e9, UTC)

    @property
    def _contents(self) -> Contents:
        if self._loaded is None:
            raise RuntimeError(_NOT_ENTERED)
        return self._loaded

    # A client that was not entered has no stream yet.

    @property
    def state(self) -> LinkState:
        """The state of the replayed link."""
        return self._entered(super().state)

    @property
    def stats(self) -> Stats:
        """A snapshot of all counters; cheap to read."""
        return self._entered(super().stats)

    def report(self) -> str:
        """Return the counters and the state of the link as a page of plain text."""
        return self._entered(super().report())

    def _entered(self, value: T) -> T:
        _ = self._contents
        return value


class _ReplayBinding(LoopBinding):
    """A binding that cannot be used before the replay is entered."""

    __slots__ = ("is_entered",)

    def __init__(self) -> None:
        super().__init__()
        self.is_entered = False

    def bind(self) -> None:
        if not self.is_entered:
            raise RuntimeError(_NOT_ENTERED)
        super().bind()


class _ReplayFetcher:
    """Sends queries to the replay, in place of HTTP."""

    clock_ahead = 0.0

    def __init__(self, stream: Stream[Any]) -> None:
        self._stream = stream

    async def fetch(self, query: Query[T], *, patience: Patience | None = None) -> T:
        if not query.operation:
            raise RequestError(f"{query.path} is not available in a recording")
        return await self._stream.fetch(query)

    def close(self) -> None:
        """Do nothing: the stream fails its requests itself."""


@overload
def replay(
    path: str | os.PathLike[str], speed: float | None = 1.0
) -> Replay[Decimal]: ...


@overload
def replay(
    path: str | os.PathLike[str], speed: float | None = 1.0, *, numbers: type[N]
) -> Replay[N]: ...


def replay(
    path: str | os.PathLike[str],
    speed: float | None = 1.0,
    *,
    numbers: type[Any] = Decimal,
) -> Replay[Any]:
    """Play a recording to a program that was written for the live market.

    Use it in place of the ``Client``: it has the same methods.

    Args:
        path: A recording's directory, or one of its files; ``~`` is the home directory.
        speed: Recorded seconds in a second: 10 is ten times as fast. None is as fast as
            the consumers read: the replay waits for the slowest, and no tick is dropped,
            whatever the buffer; so each subscription must be read, or closed.
        numbers: The type of every price, size and volume: ``Decimal``, ``float`` or
            ``str``.

    Raises:
        ValueError: For a speed that is not above 0, an unknown type of numbers, or a path
            that cannot be one.
        RecordingError: On entering, if there is no recording, or it is empty.
        MissingZstdError: On entering, if no zstandard library is installed.

    Example:
        >>> async with replay("recordings", speed=None) as client:
        ...     async for trade in client.watch_trades("CF:BTCUSDT"):
        ...         print(trade.received_at, trade.price)
    """
    speed = check_number("speed", speed, above_zero=True, optional=True)
    if numbers not in (Decimal, float, str):
        raise ValueError(f"numbers must be one of Decimal, float, str, not {numbers!r}")
    return Replay(path, speed, numbers)
