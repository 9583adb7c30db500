"""Client of a recording that another process writes."""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import AsyncExitStack, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, Self, TypeVar, overload

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from qos_async._core.queries import Query
from qos_async._io.retry import Patience
from qos_async._io.stream import Stream
from qos_async._paths import user_path
from qos_async.config import TRADES_MAX
from qos_async.enums import Interval
from qos_async.errors import RequestError
from qos_async.fetching import Via
from qos_async.models import N
from qos_async.recordings.durable import (
    ConsumerProgress,
    Durable,
    FileDurable,
    NameTakenError,
)
from qos_async.recordings.files import RecordingError
from qos_async.recordings.followed_directory import FollowedDirectory
from qos_async.recordings.log_client import LogClient
from qos_async.recordings.replay_client import check_numbers
from qos_async.recordings.replay_transport import (
    FROM_VALUES,
    ReplayTransport,
    needs_service,
)
from qos_async.recordings.slices import check_bound
from qos_async.recordings.source import EntrySource, Start
from qos_async.recordings.streams import (
    is_stream,
    shown_place,
    stream_durable,
    stream_source,
)
from qos_async.results import Result
from qos_async.stats import Stats
from qos_async.topics import Topic

__all__ = ["Follow", "follow"]

T = TypeVar("T")

_log = logging.getLogger("qos_async.follow")

_SAVE_INTERVAL = 0.05
_MOST_TRADES = 10_000


class Follow(LogClient[N]):
    """A client of a recording that another process writes; created by ``follow``.

    ``watch_*`` yields the recorded ticks, first those from the start on, then new ones as
    they are written: one sequence, without a hole or a duplicate. Each tick has a
    ``place``. Gaps of the recorder are gaps here, with the ticks that it fetched for them.
    ``fetch_snapshots``, ``fetch_depth``, ``fetch_trades`` and ``fetch_klines`` return the
    last values of the recording; what only the service knows raises ``RequestError``. Of a
    stream ``fetch_trades`` returns as many as it remembers, up to 10,000, and
    ``fetch_klines`` the bars that were pushed last.

    While the broker of a stream is away, loops go on to wait. After 5 seconds ``state``
    shows it, and ``events()`` yields ``Interrupted`` with the place of the stream in its
    ``reason``; when it is back a ``Gap`` with the status ``"filled"``, behind which comes
    what was stored meanwhile. What retention removed before it was read, or the stream has
    lost, is a ``Gap`` with the status ``"unfilled"`` and the reason ``"retention"`` or
    ``"store"``.
    """

    def __init__(
        self,
        source: EntrySource,
        place: Path | str,
        durable: Durable | None,
        numbers: type[N],
    ) -> None:
        self._place = str(place)
        self._durable = durable
        self._progress: ConsumerProgress | None = None
        self._saving: asyncio.Task[None] | None = None
        super().__init__(
            source,
            numbers,
            made_by="follow",
            fetcher=_FollowFetcher,
            speed=None,
            most_trades=TRADES_MAX if isinstance(place, Path) else _MOST_TRADES,
        )

    async def __aenter__(self) -> Self:
        durable = self._durable
        try:
            entered = await super().__aenter__()
        except BaseException:
            if durable is not None:
                with suppress(RecordingError):
                    await durable.aclose()
            raise
        if durable is not None and self._progress is None:
            self._progress = ConsumerProgress(self._transport, self._stream, durable)
            self._saving = asyncio.create_task(self._save(), name="qos_async.follow")
        return entered

    async def aclose(self) -> None:
        """Close everything; loops end after what is buffered."""
        if self._progress is not None:
            self._progress.update()
        async with AsyncExitStack() as last:  # Also if this is cancelled.
            if self._durable is not None:
                last.push_async_callback(self._durable.aclose)
            last.push_async_callback(super().aclose)
            if self._saving is not None:
                self._saving.cancel()
                await asyncio.wait([self._saving])

    async def _save(self) -> None:
        assert self._progress is not None, "the caller has made it"
        assert self._durable is not None, "the caller has checked that"
        failure = ""
        while True:
            self._progress.update()
            try:
                await self._durable.save()
                failure = ""
            except NameTakenError as exc:
                self._transport.fail(exc)
                return
            except RecordingError as exc:
                if str(exc) != failure:
                    failure = str(exc)
                    _log.warning("%s", exc)  # It is tried again, and raised at the end.
            await asyncio.sleep(_SAVE_INTERVAL)

    async def _fetch(
        self,
        queries: list[Query[dict[str, T]]],
        via: Via,
        kind: type[Struct],
        interval: Interval | None = None,
    ) -> Result[T]:
        # A follower has no link with a server that replies.
        via = "http" if via == "stream" else via
        return await super()._fetch(queries, via, kind, interval)

    @property
    def stats(self) -> Stats:
        """A snapshot of all counters; cheap to read."""
        left = None if self._durable is None else self._durable.retention_left
        return replace(super().stats, retention_left=left)

    def __repr__(self) -> str:
        return f"<Follow of {self._place!r}>"

    @property
    def live(self) -> bool:
        """Whether all that was recorded before it was entered has been played."""
        return self._entered(self._transport.is_live)

    @property
    def current(self) -> bool:
        """Whether it is live, and ticks come as they are recorded.

        It is false while a broker cannot be reached, and until what was added meanwhile
        has been read.
        """
        return self._entered(self._transport.is_current)

    @property
    def topics(self) -> tuple[Topic, ...]:
        """All topics that the recording has, as far as is known, sorted.

        Of a stream those of which it has messages; of a directory those of the files that
        were read, and all that have been subscribed since.
        """
        return self._entered(tuple(sorted(self._transport.topics)))


class _FollowFetcher:
    """Answers queries from the last values, in place of HTTP."""

    clock_ahead: float | None = None

    def __init__(self, stream: Stream[Any], transport: ReplayTransport) -> None:
        self._stream = stream
        self._transport = transport

    async def fetch(self, query: Query[T], *, patience: Patience | None = None) -> T:
        self._stream.check_usable()
        if query.operation not in FROM_VALUES or needs_service(query.body):
            raise RequestError(
                f"{query.path} is known to the service only, and a follower is not "
                "connected to it: use a Client with a key"
            )
        rows = await self._transport.rows(query.operation, query.body)
        return query.read(msgspec.json.encode(rows))

    def close(self) -> None:
        """Do nothing: no request is in flight."""


@overload
def follow(
    place: str | os.PathLike[str],
    start: Start = None,
    durable: str | None = None,
    strict: bool = False,  # noqa: FBT001, FBT002 - the settled name
) -> Follow[Decimal]: ...


@overload
def follow(
    place: str | os.PathLike[str],
    start: Start = None,
    durable: str | None = None,
    strict: bool = False,  # noqa: FBT001, FBT002 - the settled name
    *,
    numbers: type[N],
) -> Follow[N]: ...


def follow(
    place: str | os.PathLike[str],
    start: Start = None,
    durable: str | None = None,
    strict: bool = False,  # noqa: FBT001, FBT002 - the settled name
    *,
    numbers: type[Any] = Decimal,
) -> Follow[Any]:
    """Follow a recording that another process writes.

    Use it in place of the ``Client``: it has the same methods, and needs no key. It goes
    on across the files of the recording, and when the recorder is stopped, killed and
    started again. It waits for a directory that does not exist yet, as ``tail -F`` does,
    and logs that.

    What was recorded before is played as fast as the consumers read; each subscription
    must be read, or closed. From then on ``live`` is true, and ticks come as they are
    written: by default a recorder writes once a second.

    Args:
        place: A recording's directory, or one of its files; ``~`` is the home directory.
            Or a stream, ``"nats://host:4222/STREAM"``, of which the extra ``nats`` reads
            the messages; several servers are ``"nats://a,nats://b/STREAM"``.
        start: Where to begin: None with what comes from now on; ``"first"`` with the
            oldest entry; an aware datetime with the first entry received then or later;
            a place, such as ``tick.place``, with what comes after it.
        durable: A name under which the place is kept, so that the next follower of that
            name goes on there; ``start`` is for the first one. One process at a time has
            a name. Of a stream it is kept in the broker, for all machines; of a
            directory in a small file of this user. A tick is handled when its consumer
            asks for the next one, or for the next batch, and that is written within 0.05
            seconds: after a ``kill -9`` the one that was being handled is delivered
            again, with the same ``place``, and those of the last 0.05 seconds may be;
            with several loops, those since the tick of the slowest. The next follower
            waits up to 5 seconds, to find out that the last one has ended.
        strict: Whether damage and deleted files end the loops with a ``RecordingError``
            instead of a ``Gap``.
        numbers: The type of every price, size and volume: ``Decimal``, ``float`` or
            ``str``.

    Raises:
        ValueError: For any other start, such as a datetime without a time
            zone; a name that is not one of letters, digits, ``-`` and ``_``; an unknown
            type of numbers, or a path that cannot be one.
        BrokerError: On entering, if the server of a stream refuses or cannot be reached.
        RecordingError: On entering, if a start is not kept any more, or another follower
            has the name. In loops, if the recording cannot be read.
        MissingZstdError: On entering, if no zstandard library is installed.

    Example:
        >>> async with follow("recordings", durable="bot-1") as client:
        ...     async for trade in client.watch_trades("CF:BTCUSDT"):
        ...         print(trade.place, trade.price)
    """
    check_numbers(numbers)
    check_bound("start", start, stream=is_stream(place))
    if is_stream(place):
        path = os.fspath(place)
        name = None if durable is None else stream_durable(path, durable)
        source = stream_source(
            path, start, grows=True, strict=strict, durable=name, packed=True
        )
        return Follow(source, shown_place(place), name, numbers)
    folder = user_path("place", place)
    kept = None if durable is None else FileDurable(folder, durable)
    files = FollowedDirectory(folder, start, strict=strict, durable=kept)
    return Follow(files, folder, kept, numbers)
