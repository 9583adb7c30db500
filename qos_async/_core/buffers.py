"""Buffers: bounded queues of ticks and notices between the stream and a consumer.

A producer never waits. The class of a buffer is its policy, and it counts what it drops.
A notice keeps its place among the ticks and is never dropped. Notices of one topic with
no tick between them are merged, so that a consumer that never reads costs a bounded
amount of memory.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Sequence, Sized
from itertools import islice
from operator import attrgetter
from typing import Any, Generic, Protocol, TypeAlias, TypeVar, cast

from msgspec import Struct
from msgspec.structs import force_setattr

from qos_async._core.notices import Dropped, Gap, Interrupted, Notice, Rejected
from qos_async._validation import check_whole
from qos_async.errors import LaggedError
from qos_async.models import Kline, Tick

__all__ = ["Buffer", "DropOldest", "KlineFinalizer", "Latest", "Policy", "Strict"]

T = TypeVar("T", bound=Tick)

_DEFAULT_SIZE = 65_536


class Buffer(Protocol[T]):
    """The ticks and notices that wait for one consumer; ``len`` counts the ticks.

    Attributes:
        received: Ticks that were put in.
        dropped: Those of them that were dropped, or replaced by newer ones.
        max_wanted: How many ticks a consumer may wait for: with more, the buffer may
            be full before the consumer takes them.
    """

    received: int
    dropped: int
    max_wanted: int

    @property
    def pending(self) -> Sized:
        """An object that is empty while no tick waits: the fastest test there is."""
        ...

    def put(self, ticks: Sequence[T]) -> None:
        """Add ticks in order; never waits."""
        ...

    def put_notice(self, notice: Notice) -> None:
        """Add a notice behind the ticks that wait now."""
        ...

    def take(self) -> T:
        """Return the next tick, skipping notices."""
        ...

    def take_all(self, most: int) -> list[T]:
        """Return the next ticks, ``most`` of them at most, skipping notices."""
        ...

    def skip_notices(self) -> None:
        """Discard the notices before the next tick."""
        ...

    def take_event(self) -> T | Notice:
        """Return the next tick or notice."""
        ...

    def take_events(self, most: int) -> list[T | Notice]:
        """Return the next ticks and notices, ``most`` of them at most."""
        ...

    @property
    def has_event(self) -> bool:
        """Whether a tick or a notice waits."""
        ...

    @property
    def oldest_received_at(self) -> int:
        """When the oldest tick that waits was received, ns since the epoch; else 0."""
        ...

    @property
    def oldest(self) -> T | None:
        """The tick that waits whose place in a recording is the first; None without."""
        ...

    def __len__(self) -> int: ...


class Latest(Struct, frozen=True):
    """Keep the newest tick of each topic: a slow consumer sees no outdated state."""

    def open(self) -> Buffer[Any]:
        """Return an empty buffer."""
        return _Conflating()


class DropOldest(Struct, frozen=True):
    """Keep the newest ``size`` ticks; ``events()`` reports how many were dropped.

    Attributes:
        size: Ticks, at least one.
    """

    size: int = _DEFAULT_SIZE

    def __post_init__(self) -> None:
        force_setattr(self, "size", check_whole("a buffer's size", self.size))

    def open(self) -> Buffer[Any]:
        """Return an empty buffer."""
        return _Ring(self.size)


class Strict(Struct, frozen=True):
    """Drop nothing: the loop of a consumer ``size`` ticks behind ends with ``LaggedError``.

    Attributes:
        size: Ticks, at least one.
    """

    size: int = _DEFAULT_SIZE

    def __post_init__(self) -> None:
        force_setattr(self, "size", check_whole("a buffer's size", self.size))

    def open(self) -> Buffer[Any]:
        """Return an empty buffer."""
        return _Strict(self.size)


Policy: TypeAlias = Latest | DropOldest | Strict


class _Ring(Generic[T]):
    def __init__(self, size: int) -> None:
        self.received = 0
        self.dropped = 0
        self._unreported_drops = 0
        self._drop_position = 0
        self.max_wanted = max(size // 2, 1)
        self._size = size
        self._ticks: deque[T] = deque()
        # deque.popleft itself while no notice waits: a Python call a tick less.
        self.take: Callable[[], T] = self._ticks.popleft
        # By their position: the count of ticks received before them.
        self._notices: dict[int, dict[object, Any]] = {}

    def __len__(self) -> int:
        return len(self._ticks)

    @property
    def pending(self) -> Sized:
        return self._ticks

    @property
    def has_event(self) -> bool:
        return bool(self._ticks or self._notices or self._unreported_drops)

    @property
    def oldest_received_at(self) -> int:
        return next((t.received_at for t in self._ticks if t.received_at), 0)

    @property
    def oldest(self) -> T | None:
        return self._ticks[0] if self._ticks else None

    def put(self, ticks: Sequence[T]) -> None:
        if len(self._ticks) + len(ticks) <= self._size:
            self._ticks.extend(ticks)
            self.received += len(ticks)
            return
        for tick in ticks:
            if len(self._ticks) >= self._size:
                self._make_room()
            self._ticks.append(tick)
            self.received += 1

    def _make_room(self) -> None:
        if not self._unreported_drops:
            self._drop_position = self._position
        self._ticks.popleft()
        self.dropped += 1
        self._unreported_drops += 1
        if len(self._notices) > 1:
            self._fold_notices()

    def _fold_notices(self) -> None:
        # Notices with no tick left between them share a position.
        first, second = islice(self._notices, 2)
        if second <= self._position:
            for notice in self._notices.pop(second).values():
                _add_notice(self._notices[first], notice)

    def put_notice(self, notice: Notice) -> None:
        _add_notice(self._notices.setdefault(self.received, {}), notice)
        self.take = self._take_after_notices

    def _take_after_notices(self) -> T:
        tick = self._ticks.popleft()
        self.skip_notices()
        return tick

    def take_all(self, most: int) -> list[T]:
        ticks = self._ticks
        if len(ticks) > 2 * most:
            taken = [ticks.popleft() for _ in range(most)]
        else:  # A fifth of the time of popping each.
            taken = list(ticks)
            ticks.clear()
            ticks.extend(taken[most:])
            del taken[most:]
        if self._notices:
            self.skip_notices()
        return taken

    def skip_notices(self) -> None:
        while self._notices and self._notice_before(self._position):
            self._notices.pop(next(iter(self._notices)))
        if not self._notices:
            self.take = self._ticks.popleft

    def take_event(self) -> T | Notice:
        dropped = self._unreported_drops
        if not dropped and not self._notices:
            return self._ticks.popleft()
        if self._notice_before(self._drop_position if dropped else self._position):
            return self._take_notice()
        if dropped:
            self._unreported_drops = 0
            return Dropped(dropped)
        return self._ticks.popleft()

    def take_events(self, most: int) -> list[T | Notice]:
        if not self._notices and not self._unreported_drops:
            return list[T | Notice](self.take_all(most))
        return _take_events(self, most)

    def _notice_before(self, position: int) -> bool:
        return bool(self._notices) and next(iter(self._notices)) <= position

    def _take_notice(self) -> Notice:
        position, here = next(iter(self._notices.items()))
        notice: Notice = here.pop(next(iter(here)))
        if not here:
            del self._notices[position]
        return notice

    @property
    def _position(self) -> int:
        return self.received - len(self._ticks)


class _Strict(_Ring[T]):
    def _make_room(self) -> None:
        raise LaggedError(
            f"the consumer is more than {self._size} ticks behind: read faster, use "
            "batches(), a larger Strict(n), or DropOldest(n) to drop ticks instead"
        )


class _Conflating(Generic[T]):
    def __init__(self) -> None:
        self.max_wanted = sys.maxsize
        self.received = 0
        self.dropped = 0
        self._notices = 0
        # Ticks by topic and notices by kind and topic, in the order of delivery.
        self._waiting: dict[object, Any] = {}

    def __len__(self) -> int:
        return len(self._waiting) - self._notices

    @property
    def pending(self) -> Sized:
        return self

    @property
    def has_event(self) -> bool:
        return bool(self._waiting)

    @property
    def oldest_received_at(self) -> int:
        ticks = (item for item in self._waiting.values() if isinstance(item, Tick))
        return min((t.received_at for t in ticks if t.received_at), default=0)

    @property
    def oldest(self) -> T | None:
        items: list[Any] = [*self._waiting.values()]
        ticks = (item for item in items if isinstance(item, Tick))
        return min(cast("Any", ticks), key=attrgetter("place"), default=None)

    def put(self, ticks: Sequence[T]) -> None:
        waiting = self._waiting
        for tick in ticks:
            key = (type(tick), tick.symbol, getattr(tick, "interval", None))
            if key in waiting:
                self.dropped += 1
                if self._notices:
                    del waiting[key]  # The newer tick belongs behind the notices.
            waiting[key] = tick
        self.received += len(ticks)

    def put_notice(self, notice: Notice) -> None:
        before = len(self._waiting)
        _add_notice(self._waiting, notice)
        self._notices += len(self._waiting) - before

    def take(self) -> T:
        while not isinstance(item := self.take_event(), Tick):
            pass
        return item

    def take_all(self, most: int) -> list[T]:
        return [self.take() for _ in range(min(len(self), most))]

    def skip_notices(self) -> None:
        while self._notices and not isinstance(
            next(iter(self._waiting.values())), Tick
        ):
            self.take_event()

    def take_event(self) -> T | Notice:
        item: T | Notice = self._waiting.pop(next(iter(self._waiting)))
        if not isinstance(item, Tick):
            self._notices -= 1
        return item

    def take_events(self, most: int) -> list[T | Notice]:
        return _take_events(self, most)


def _take_events(buffer: _Ring[T] | _Conflating[T], most: int) -> list[T | Notice]:
    events: list[T | Notice] = []
    while len(events) < most and buffer.has_event:
        events.append(buffer.take_event())
    return events


def _add_notice(here: dict[object, Any], notice: Notice) -> None:
    """Add a notice at a position; at most four of one topic share one.

    An ``Interrupted`` stays before the ``Gap`` that ends it. Where further outages of the
    topic follow before anything is read, their gaps are merged into the first, and only
    an outage that goes on is left behind it. A ``Rejected`` ends an interruption, too.
    """
    topic = getattr(notice, "topic", None)
    before, after = (Interrupted, topic), (Gap, Interrupted, topic)
    match notice:
        case Gap():
            earlier = here.get((Gap, topic))
            latest = here.pop(after, None)
            if earlier is not None:
                notice = notice.merged_with(earlier)
            if earlier is None or (Rejected, topic) in here:
                here.pop((Gap, topic), None)
                if latest is not None:
                    here.pop(before, None)
                    here[before] = latest
            here[Gap, topic] = notice
        case Interrupted():
            here.setdefault(after if (Gap, topic) in here else before, notice)
        case Rejected():
            here.pop(after, None)
            if (Gap, topic) not in here:
                here.pop(before, None)
            here.pop((Rejected, topic), None)
            here[Rejected, topic] = notice
        case Dropped():
            raise AssertionError("a buffer counts itself what it drops")


class KlineFinalizer:
    """Turns the updates of klines into finished klines, each once.

    Attributes:
        skipped: Updates that finished no kline.
    """

    def __init__(self) -> None:
        self.skipped = 0
        self._open: dict[tuple[str, int], Kline[Any]] = {}
        # Klines that begin in the future, unlike the one before: the next decides.
        self._doubtful: dict[tuple[str, int], Kline[Any]] = {}

    def discard(self, symbol: str, interval: int) -> None:
        """Discard an open kline: its end was missed, so it is never returned."""
        self._open.pop((symbol, interval), None)
        self._doubtful.pop((symbol, interval), None)

    def push(self, updates: Sequence[Kline[Any]]) -> list[Kline[Any]]:
        """Add updates; return the klines that they finish.

        A kline is finished when one that starts later arrives: the server's newest
        kline is unfinished, and only that one. One that begins in the future by the time
        of receipt finishes nothing unless the next does, too: then a clock is wrong.
        """
        finished: list[Kline[Any]] = []
        for update in updates:
            key = (update.symbol, update.interval)
            newest = self._open.get(key)
            if self._doubtful and key in self._doubtful:
                doubtful = self._doubtful.pop(key)
                if newest is not None and update.timestamp >= doubtful.timestamp:
                    finished.append(newest)
                    newest = self._open[key] = doubtful
            if newest is None or newest.timestamp == update.timestamp:
                self._open[key] = update
            elif update.timestamp > newest.timestamp:
                if _is_in_future(update) and not _is_in_future(newest):
                    self._doubtful[key] = update
                    continue
                finished.append(newest)
                self._open[key] = update
        self.skipped += len(updates) - len(finished)
        return finished


def _is_in_future(kline: Kline[Any]) -> bool:
    """Whether it begins over a minute after it was received."""
    received_at = kline.received_at
    return bool(received_at) and kline.timestamp > received_at / 1e9 + _FUTURE


_FUTURE = 60
