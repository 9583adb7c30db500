"""A client of a recording instead of a server."""

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
from qos_async.recordings.steps import steps
from qos_async.recordings.tape import RecordedTime, Tape
from qos_async.topics import Topic

__all__ = ["Replay", "replay"]

T = TypeVar("T")

_log = logging.getLogger("qos_async.replay")

_NOT_ENTERED = "enter it first: async with replay(...) as client"

# Nothing is slow, far away or forbidden here; and a bot may think for as long as it
# likes.
_LIMITS = Limits(symbols=1_000_000, connections=1_000, command_interval=0.0)
_TIMING = Timing(silence=1e9, backoff_initial=1e-6, backoff_max=0.0, close_timeout=0.1)


class Replay(Client[N]):
    """A client whose server is a recording; ``replay`` makes one.

    It begins to play when something is watched. ``watch_*`` gives what was recorded, of
    the same types, each with the ``received_at`` of its time. ``fetch_*`` answers from
    what was pushed up to now; what was not is missing. Where the link was lost, the link
    is lost: ``events()`` tells a ``Gap`` with the reason and the times of that day. Loops
    end when the recording does.
    """

    def __init__(
        self, path: str | os.PathLike[str], speed: float | None, numbers: type[N]
    ) -> None:
        # Not a client's own beginning: that would make what speaks to a server.
        self._path = path
        self._speed = speed
        self._contents: Contents | None = None
        self._recorder = None
        self._session = AiohttpSession(Secret(token_hex()))
        self._queries = Queries(numbers, chunk=_LIMITS.symbols)
        self._http = cast("HttpClient", _NoServer(self._ask))
        self._numbers = numbers

    async def __aenter__(self) -> Self:
        if self._contents is None:
            self._contents = await asyncio.to_thread(contents, self._path)
            self._begin(self._contents)
        return await super().__aenter__()

    def _begin(self, found: Contents) -> None:
        for fault in found.faults:
            _log.warning("the recording is damaged: %s", fault)
        calendar = RecordedTime(found.begins_at)
        tape = Tape(
            steps(read(self._path)),
            topics=found.topics,
            speed=self._speed,
            calendar=calendar,
        )
        self._stream = Stream(
            tape,
            self._numbers,
            limits=_LIMITS,
            timing=_TIMING,
            stats=Counters(),
            binding=self._session.binding,
            clock=calendar,
        )
        tape.is_settled = lambda: self._stream.is_settled
        tape.is_watched = lambda: self._stream.has_subscriptions
        tape.is_thirsty = lambda: self._stream.is_starved

    if not TYPE_CHECKING:  # Whoever mistypes a name is to be told.

        def __getattr__(self, name: str) -> Any:
            if name == "_stream":
                raise RuntimeError(_NOT_ENTERED)
            raise AttributeError(name, name=name, obj=self)

    async def aclose(self) -> None:
        """Close everything, as a client does; what was never entered, too."""
        if self._contents is None:
            await self._session.aclose()
        else:
            await super().aclose()

    def __repr__(self) -> str:
        return f"<Replay of {os.fspath(self._path)!r}>"

    @property
    def topics(self) -> tuple[Topic, ...]:
        """What was ever subscribed in the recording, in order of name."""
        return tuple(sorted(self._found.topics))

    @property
    def begins_at(self) -> datetime:
        """When the recording begins, in UTC."""
        return datetime.fromtimestamp(self._found.begins_at / 1e9, UTC)

    @property
    def ends_at(self) -> datetime:
        """When the recording ends, in UTC."""
        return datetime.fromtimestamp(self._found.ends_at / 1e9, UTC)

    @property
    def _found(self) -> Contents:
        if self._contents is None:
            raise RuntimeError(_NOT_ENTERED)
        return self._contents

    def _subscribe(
        self,
        topics: tuple[Topic, ...],
        buffer: Policy,
        topics_of: Callable[..., tuple[Topic, ...]],
        *,
        final: bool = False,
    ) -> Subscription[Any]:
        if self._speed is None:
            buffer = DropOldest()  # The tape waits: it never has to.
        return super()._subscribe(topics, buffer, topics_of, final=final)

    async def _ask(self, query: Query[T]) -> T:
        self._session.bind()
        return await self._stream.fetch(query)


class _NoServer:
    """Stands where a client has its HTTP: asks the tape."""

    def __init__(self, ask: Callable[[Query[Any]], Any]) -> None:
        self._ask = ask

    async def fetch(self, query: Query[Any]) -> Any:
        if not query.operation:
            raise RequestError(f"{query.path}: a recording does not have it")
        return await self._ask(query)

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
    """Play a recording to a bot that was written for the live market.

    Use it where the bot has its ``Client``: it has the same verbs.

    Args:
        path: A recording's directory, or one of its files.
        speed: Recorded seconds in a real second: 10 is ten times as fast. None is as fast
            as it is read: the tape waits for the slowest reader, and nobody loses
            anything, whatever its buffer; so each subscription must be read, or closed.
        numbers: The type of every price, size and volume: ``Decimal``, ``float`` or
            ``str``.

    Raises:
        ValueError: For a speed or numbers that cannot be.
        RecordingError: On entering: if there is no recording, or it is empty.
        MissingZstdError: On entering: if what uncompresses it is not installed.

    Example:
        >>> async with replay("recordings", speed=None) as client:
        ...     async for trade in client.watch_trades("CF:BTCUSDT"):
        ...         print(trade.received_at, trade.price)
    """
    check_number("speed", speed, above_zero=True, optional=True)
    if numbers not in (Decimal, float, str):
        raise ValueError(f"numbers must be one of Decimal, float, str, not {numbers!r}")
    return Replay(path, speed, numbers)
