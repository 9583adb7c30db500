"""Bounded places where ticks wait for their reader.

A producer never waits. The buffer's class is its policy, and it counts what it
loses. A ``Gap`` keeps its place among the ticks and is never lost; two of one topic
with nothing between them become one, or an idle reader would collect them for ever.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence, Sized
from itertools import islice
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from msgspec import Struct

from qos_async._core.recovery.gaps import Dropped, Gap
from qos_async._validation import check_whole
from qos_async.errors import LaggedError
from qos_async.models import Kline, Tick
from qos_async.topics import Topic

__all__ = ["Buffer", "DropOldest", "KlineFinalizer", "Latest", "Policy", "Strict"]

T = TypeVar("T", bound=Tick)

_DEFAULT_SIZE = 65_536


class Buffer(Protocol[T]):
    """Where ticks of one subscription wait; ``len`` counts the ticks.

    Attributes:
        received: Ticks that were put in.
        dropped: Those of them that were lost, or replaced by newer ones.
    """

    received: int
    dropped: int

    @property
    def pending(self) -> Sized:
        """Something that is empty if no tick waits: the quickest way to ask."""
        ...

    def put(self, tick: T) -> None:
        """Add a tick; never waits."""
        ...

    def put_all(self, ticks: Sequence[T]) -> None:
        """Add ticks, as if one by one."""
        ...

    def put_gap(self, gap: Gap) -> None:
        """Add a notice behind the ticks that wait now."""
        ...

    def take(self) -> T:
        """Take the next tick, passing over notices."""
        ...

    def take_all(self, most: int) -> list[T]:
        """Take the next ticks, ``most`` of them at most."""
        ...

    def skip_gaps(self) -> None:
        """Pass over the notices that come before the next tick."""
        ...

    def take_event(self) -> T | Gap | Dropped:
        """Take the next tick or notice."""
        ...

    @property
    def has_event(self) -> bool:
        """Whether :meth:`take_event` has something."""
        ...

    @property
    def oldest_received_at(self) -> int:
        """When the oldest tick that waits was received, ns since the epoch; else 0."""
        ...

    def __len__(self) -> int: ...


class Latest(Struct, frozen=True):
    """Keep the newest tick of each topic: a slow reader sees no stale state."""

    def open(self) -> Buffer[Any]:
        """Make an empty buffer."""
        return _Conflating()


class DropOldest(Struct, frozen=True):
    """Keep the newest ``size`` ticks; ``events()`` tells how many were lost.

    Attributes:
        size: Ticks, at least one.
    """

    size: int = _DEFAULT_SIZE

    def __post_init__(self) -> None:
        check_whole("a buffer's size", self.size)

    def open(self) -> Buffer[Any]:
        """Make an empty buffer."""
        return _Ring(self.size)


class Strict(Struct, frozen=True):
    """Lose nothing: a reader ``size`` ticks behind ends with ``LaggedError``.

    Attributes:
        size: Ticks, at least one.
    """

    size: int = _DEFAULT_SIZE

    def __post_init__(self) -> None:
        check_whole("a buffer's size", self.size)

    def open(self) -> Buffer[Any]:
        """Make an empty buffer."""
        return _Strict(self.size)


Policy: TypeAlias = Latest | DropOldest | Strict


class _Ring(Generic[T]):
    def __init__(self, size: int) -> None:
        self.received = 0
        self.dropped = 0
        self._unreported_drops = 0
        self._drop_position = 0
        self._size = size
        self._ticks: deque[T] = deque()
        self.take: Callable[[], T] = self._ticks.popleft
        # By the count of ticks received before them, which is their place.
        self._gaps: dict[int, dict[Topic, Gap]] = {}

    def __len__(self) -> int:
        return len(self._ticks)

    @property
    def pending(self) -> Sized:
        return self._ticks

    @property
    def has_event(self) -> bool:
        return bool(self._ticks or self._gaps or self._unreported_drops)

    @property
    def oldest_received_at(self) -> int:
        return next((t.received_at for t in self._ticks if t.received_at), 0)

    def put(self, tick: T) -> None:
        ticks = self._ticks
        if len(ticks) >= self._size:
            self._make_room()
        ticks.append(tick)
        self.received += 1

    def put_all(self, ticks: Sequence[T]) -> None:
        if len(self._ticks) + len(ticks) <= self._size:
            self._ticks.extend(ticks)
            self.received += len(ticks)
        else:
            for tick in ticks:
                self.put(tick)

    def _make_room(self) -> None:
        if not self._unreported_drops:
            self._drop_position = self._position
        self._ticks.popleft()
        self.dropped += 1
        self._unreported_drops += 1
        if len(self._gaps) > 1:
            self._fold_gaps()

    def _fold_gaps(self) -> None:
        # With nothing left between them, two gaps of one topic are one.
        first, second = islice(self._gaps, 2)
        if second <= self._position:
            for gap in self._gaps.pop(second).values():
                self._add(first, gap)

    def _add(self, place: int, gap: Gap) -> None:
        here = self._gaps.setdefault(place, {})
        earlier = here.get(gap.topic)
        here[gap.topic] = gap if earlier is None else gap.merged_with(earlier)

    def put_gap(self, gap: Gap) -> None:
        self._add(self.received, gap)
        self.take = self._take_from_gaps

    def _take_from_gaps(self) -> T:
        tick = self._ticks.popleft()
        self.skip_gaps()
        return tick

    def take_all(self, most: int) -> list[T]:
        ticks = self._ticks
        if len(ticks) > 2 * most:
            taken = [ticks.popleft() for _ in range(most)]
        else:  # In a fifth of the time.
            taken = list(ticks)
            ticks.clear()
            ticks.extend(taken[most:])
            del taken[most:]
        if self._gaps:
            self.skip_gaps()
        return taken

    def skip_gaps(self) -> None:
        while self._gaps and self._gap_before(self._position):
            self._gaps.pop(next(iter(self._gaps)))
        if not self._gaps:
            self.take = self._ticks.popleft

    def take_event(self) -> T | Gap | Dropped:
        if self._gap_before(
            self._drop_position if self._unreported_drops else self._position
        ):
            return self._take_gap()
        if self._unreported_drops:
            count, self._unreported_drops = self._unreported_drops, 0
            return Dropped(count)
        return self._ticks.popleft()

    def _gap_before(self, place: int) -> bool:
        return bool(self._gaps) and next(iter(self._gaps)) <= place

    def _take_gap(self) -> Gap:
        place, here = next(iter(self._gaps.items()))
        gap = here.pop(next(iter(here)))
        if not here:
            del self._gaps[place]
        return gap

    @property
    def _position(self) -> int:
        return self.received - len(self._ticks)


class _Strict(_Ring[T]):
    def _make_room(self) -> None:
        raise LaggedError(
            f"the reader is more than {self._size} ticks behind: read faster, use "
            "batches(), a larger Strict(n), or DropOldest(n) to lose ticks instead"
        )


class _Conflating(Generic[T]):
    def __init__(self) -> None:
        self.received = 0
        self.dropped = 0
        self._gaps = 0
        self._waiting: dict[object, T | Gap] = {}

    def __len__(self) -> int:
        return len(self._waiting) - self._gaps

    @property
    def pending(self) -> Sized:
        return self

    @property
    def has_event(self) -> bool:
        return bool(self._waiting)

    @property
    def oldest_received_at(self) -> int:
        ticks = (t for t in self._waiting.values() if not isinstance(t, Gap))
        return min((t.received_at for t in ticks if t.received_at), default=0)

    def put(self, tick: T) -> None:
        key = (type(tick), tick.symbol, getattr(tick, "interval", None))
        waiting = self._waiting
        if key in waiting:
            self.dropped += 1
            if self._gaps:
                del waiting[key]  # The newer tick belongs behind the notice.
        waiting[key] = tick
        self.received += 1

    def put_all(self, ticks: Sequence[T]) -> None:
        for tick in ticks:
            self.put(tick)

    def put_gap(self, gap: Gap) -> None:
        earlier = self._waiting.get(gap.topic)
        if isinstance(earlier, Gap):  # It stays where it is: before what it hides.
            gap = gap.merged_with(earlier)
        else:
            self._gaps += 1
        self._waiting[gap.topic] = gap

    def take(self) -> T:
        while isinstance(item := self.take_event(), Gap):
            pass
        return item

    def take_all(self, most: int) -> list[T]:
        return [self.take() for _ in range(min(len(self), most))]

    def skip_gaps(self) -> None:
        while self._gaps and isinstance(next(iter(self._waiting.values())), Gap):
            self.take_event()

    def take_event(self) -> T | Gap:
        item = self._waiting.pop(next(iter(self._waiting)))
        if isinstance(item, Gap):
            self._gaps -= 1
        return item


class KlineFinalizer:
    """Turns a stream of growing klines into one of finished klines, each once."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, int], Kline[Any]] = {}

    def forget(self, symbol: str, interval: int) -> None:
        """Drop a growing kline: what it became was not seen, so it is never given."""
        self._open.pop((symbol, interval), None)

    def push(self, kline: Kline[Any]) -> Kline[Any] | None:
        """Take a kline in; give the one before it back when that is over.

        A bar is over when one that starts later comes: the server's newest bar is
        unfinished, and only that one.
        """
        key = (kline.symbol, kline.interval)
        newest = self._open.get(key)
        if newest is not None and kline.timestamp < newest.timestamp:
            return None
        self._open[key] = kline
        if newest is None or newest.timestamp == kline.timestamp:
            return None
        return newest
