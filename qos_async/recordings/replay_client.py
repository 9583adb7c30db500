"""Client of a recording instead of a server."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast, overload

from qos_async._core.buffers import DropOldest, Policy
from qos_async._core.queries import Queries, Query
from qos_async._core.stats import Counters
from qos_async._io.aiohttp_session import AiohttpSession
from qos_async._io.http import HttpClient
from qos_async._io.secret import Secret
from qos_async._io.stream import Stream
from qos_async._io.subscription import Subscription
from qos_async._validation import check_number
from qos_async.client import Client
from qos_async.config import Limits, Timing
from qos_async.errors import RequestError
from qos_async.models import N
from qos_async.recordings.reading import Contents, contents, read
from qos_async.recordings.replay_timeline import timeline
from qos_async.recordings.replay_transport import ReplayClock, ReplayTransport
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
        # Without super().__init__(): it would create the transports of a server.
        self._path = path
        self._speed = speed
        self._loaded: Contents | None = None
        self._recorder = None
        self._session = AiohttpSession(Secret(token_hex()))
        self._queries = Queries(numbers, chunk=_LIMITS.symbols)
        self._http = cast("HttpClient", _ReplayHttp(self._request))
        self._numbers = numbers

    async def __aenter__(self) -> Self:
        if self._loaded is None:
            self._loaded = await asyncio.to_thread(contents, self._path)
            self._open(self._loaded)
        return await super().__aenter__()

    def _open(self, found: Contents) -> None:
        for fault in found.faults:
            _log.warning("the recording is damaged: %s", fault)
        clock = ReplayClock(found.begins_at)
        transport = ReplayTransport(
            timeline(read(self._path)),
            topics=found.topics,
            speed=self._speed,
            clock=clock,
        )
        self._stream = Stream(
            transport,
            self._numbers,
            limits=_LIMITS,
            timing=_TIMING,
            stats=Counters(),
            binding=self._session.binding,
            clock=clock,
        )
        transport.is_settled = lambda: self._stream.is_settled
        transport.has_subscriptions = lambda: self._stream.has_subscriptions
        transport.is_starved = lambda: self._stream.is_starved

    if not TYPE_CHECKING:  # Type checkers are to report unknown names.

        def __getattr__(self, name: str) -> Any:
            if name == "_stream":
                raise RuntimeError(_NOT_ENTERED)
            raise AttributeError(name, name=name, obj=self)

    async def aclose(self) -> None:
        """Close everything, as a client does; also if it was never entered."""
        if self._loaded is None:
            await self._session.aclose()
        else:
            await super().aclose()

    def __repr__(self) -> str:
        return f"<Replay of {os.fspath(self._path)!r}>"

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

    def _subscribe(
        self,
        topics: tuple[Topic, ...],
        buffer: Policy,
        topics_of: Callable[..., tuple[Topic, ...]],
        *,
        final: bool = False,
    ) -> Subscription[Any]:
        if self._speed is None:
            buffer = DropOldest()  # The replay waits for the consumer: it never drops.
        return super()._subscribe(topics, buffer, topics_of, final=final)

    async def _request(self, query: Query[T]) -> T:
        self._session.bind()
        return await self._stream.fetch(query)


class _ReplayHttp:
    """Replaces the ``HttpClient``: sends requests to the replay."""

    def __init__(self, request: Callable[[Query[Any]], Any]) -> None:
        self._request = request

    async def fetch(self, query: Query[Any]) -> Any:
        if not query.operation:
            raise RequestError(f"{query.path} is not available in a recording")
        return await self._request(query)

    def close(self) -> None:
        pass


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
        path: A recording's directory, or one of its files.
        speed: Recorded seconds in a second: 10 is ten times as fast. None is as fast as
            the consumers read: the replay waits for the slowest, and no tick is dropped,
            whatever the buffer; so each subscription must be read, or closed.
        numbers: The type of every price, size and volume: ``Decimal``, ``float`` or
            ``str``.

    Raises:
        ValueError: For a speed that is not above 0, or an unknown type of numbers.
        RecordingError: On entering, if there is no recording, or it is empty.
        MissingZstdError: On entering, if no zstandard library is installed.

    Example:
        >>> async with replay("recordings", speed=None) as client:
        ...     async for trade in client.watch_trades("CF:BTCUSDT"):
        ...         print(trade.received_at, trade.price)
    """
    check_number("speed", speed, above_zero=True, optional=True)
    if numbers not in (Decimal, float, str):
        raise ValueError(f"numbers must be one of Decimal, float, str, not {numbers!r}")
    return Replay(path, speed, numbers)
