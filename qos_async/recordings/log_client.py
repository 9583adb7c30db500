"""Client of a log of entries instead of a server: what replays and followers share."""

from __future__ import annotations

import logging
from secrets import token_hex
from typing import Any, Protocol, Self, TypeVar

from qos_async._core.buffers import Policy
from qos_async._core.queries import Queries
from qos_async._core.stats import Counters
from qos_async._event_loop import running_loop
from qos_async._io.aiohttp_session import AiohttpSession
from qos_async._io.http import Fetcher
from qos_async._io.loop_binding import LoopBinding
from qos_async._io.secret import Secret
from qos_async._io.stream import Stream
from qos_async.client import Client
from qos_async.config import TRADES_MAX, Limits, Timing
from qos_async.enums import LinkState
from qos_async.models import N
from qos_async.recordings.recorded_recovery import PlacedDecoder, RecordedRecovery
from qos_async.recordings.replay_clock import ReplayClock
from qos_async.recordings.replay_transport import ReplayTransport
from qos_async.recordings.source import EntrySource, Opening
from qos_async.stats import Stats

__all__ = ["LogClient", "MakeFetcher"]

T = TypeVar("T")

_log = logging.getLogger("qos_async.replay")

# A log has no limits and no latency; and a bot under test may block the loop for as long
# as it takes, which must not count as silence.
_LIMITS = Limits(symbols=1_000_000, connections=1_000, command_interval=0.0)
_TIMING = Timing(silence=1e9, backoff_initial=1e-6, backoff_max=0.0, close_timeout=0.1)


class MakeFetcher(Protocol):
    """Returns what sends the queries of ``fetch_*``, for a stream and its transport."""

    def __call__(self, stream: Stream[Any], transport: ReplayTransport, /) -> Fetcher:
        """Return it."""
        ...


class LogClient(Client[N]):
    """A client whose ticks come from a log of entries.

    Args:
        source: The log.
        numbers: The type of prices and sizes.
        made_by: The function that returns such a client, for messages.
        fetcher: Makes what sends queries.
        speed: Recorded seconds in a second; None: as fast as the consumers read.
        policy: The buffer of every subscription, whatever it asks for; None: its own.
        most_trades: The most trades that ``fetch_trades`` returns of a symbol.
    """

    def __init__(
        self,
        source: EntrySource,
        numbers: type[N],
        *,
        made_by: str,
        fetcher: MakeFetcher,
        speed: float | None,
        policy: Policy | None = None,
        most_trades: int = TRADES_MAX,
    ) -> None:
        self._loaded: Opening | None = None
        session = AiohttpSession(Secret(token_hex()))
        session.binding = self._binding = _LogBinding(made_by)
        decoder = PlacedDecoder(numbers)
        recovery, clock = RecordedRecovery(decoder), ReplayClock(speed)
        self._transport = ReplayTransport(
            source, speed=speed, clock=clock, recovery=recovery
        )
        stream = Stream(
            self._transport,
            numbers,
            limits=_LIMITS,
            timing=_TIMING,
            stats=Counters(),
            binding=session.binding,
            recovery=recovery,
            clock=clock,
            policy=policy,
            decoder=decoder,
        )
        self._transport.stream = stream
        queries = Queries(numbers, chunk=_LIMITS.symbols, most_trades=most_trades)
        self._build(session, fetcher(stream, self._transport), stream, queries)

    async def __aenter__(self) -> Self:
        running_loop()
        if self._loaded is None:
            try:
                self._loaded = await self._transport.open()
            except BaseException:
                await self._transport.aclose()
                raise
            for fault in self._loaded.faults:
                _log.warning("the recording is damaged: %s", fault)
            if self._loaded.unknown:
                _log.warning(
                    "skipped %d entries of the recording that a newer qos-async wrote",
                    self._loaded.unknown,
                )
            self._binding.is_entered = True
        return await super().__aenter__()

    async def aclose(self) -> None:
        """Close everything; loops end after what is buffered."""
        try:
            await super().aclose()
        finally:
            await self._transport.aclose()

    @property
    def _opening(self) -> Opening:
        if self._loaded is None:
            raise RuntimeError(self._binding.not_entered)
        return self._loaded

    # A client that was not entered has no stream yet.

    @property
    def state(self) -> LinkState:
        """The state of the recorded link."""
        return self._entered(super().state)

    @property
    def stats(self) -> Stats:
        """A snapshot of all counters; cheap to read."""
        return self._entered(super().stats)

    def report(self) -> str:
        """Return the counters and the state of the link as a page of plain text."""
        return self._entered(super().report())

    def _entered(self, value: T) -> T:
        _ = self._opening
        return value


class _LogBinding(LoopBinding):
    """A binding that cannot be used before the client is entered."""

    __slots__ = ("is_entered", "not_entered")

    def __init__(self, made_by: str) -> None:
        super().__init__()
        self.is_entered = False
        self.not_entered = f"enter it first: async with {made_by}(...) as client"

    def bind(self) -> None:
        if not self.is_entered:
            raise RuntimeError(self.not_entered)
        super().bind()
