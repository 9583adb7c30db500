"""Timestamps of trades that cannot be right: which trades to leave out."""

from __future__ import annotations

import math
from typing import Any

from msgspec import Struct

from qos_async.models import Trade

__all__ = ["AGREEMENT", "StampFilter", "Verdict", "is_possible"]

AGREEMENT = 5.0
"""The most seconds between a timestamp and the receipt, if the clocks agree."""

# 1980 to 2100. Zero and what is negative were never set; the rest are other units.
_EARLIEST, _LATEST = 315_532_800, 4_102_444_800
_LATE = 30  # Seconds by which trades are usually reported late, at most.
# Without a time of receipt: a longer step ahead needs a second trade. A shorter one is
# taken back by two trades behind it.
_AHEAD = 300
_MOST_TOLERANCE = 300.0
# Without a time of receipt: the first trade, if it is so far behind two that agree, has
# a timestamp that was never set right, rather than being of a quiet symbol.
_FIRST_BEHIND = 30 * 86_400
# So many in a row, behind trades that agree with the receipt: the clock was set back.
_SET_BACK = 10


class Verdict(Struct, frozen=True):
    """What to do after a trade.

    Attributes:
        use: Trades to use now, in order.
        lost: Trades to leave out.
        wrong: The last trade that was used before, if its timestamp was wrong after all:
            ``use`` goes on before it.
        alone: Whether no other trade was wrong with it: ``use`` goes on after the one
            before it.
    """

    use: tuple[Trade[Any], ...] = ()
    lost: tuple[Trade[Any], ...] = ()
    wrong: Trade[Any] | None = None
    alone: bool = False


class _Course:
    """The timestamps of one symbol so far.

    Attributes:
        newest: The trade with the newest timestamp; None before the first.
        previous: The newest timestamp before that of ``newest``; never, for the first.
        refused: How many in a row were behind ``newest``, and left out.
        offset: The largest offset; None without a time of receipt.
        current_offset: The offset of the newest trade that had a time of receipt.
        tolerance: By how much an offset may exceed ``offset``.
        held: A trade whose timestamp the next trade confirms, or not.
    """

    __slots__ = (
        "current_offset",
        "held",
        "newest",
        "offset",
        "previous",
        "refused",
        "tolerance",
    )

    def __init__(self) -> None:
        self.newest: Trade[Any] | None = None
        self.previous = -math.inf
        self.refused = 0
        self.offset: float | None = None
        self.current_offset = 0.0
        self.tolerance = AGREEMENT
        self.held: Trade[Any] | None = None

    @property
    def last(self) -> float:
        """The newest timestamp; never, before the first."""
        return -math.inf if self.newest is None else self.newest.timestamp

    def fits(self, trade: Trade[Any]) -> bool:
        """Whether a timestamp agrees with those before, or with the time of receipt."""
        second, offset = trade.timestamp, _offset(trade)
        if second < self.last - _LATE:
            return False
        in_time = offset is not None and offset <= (self.offset or 0.0) + self.tolerance
        if offset is None or self.was_set_back(trade):
            near = self.newest is None or second <= self.last + _AHEAD
            return in_time or near
        return in_time and offset >= self.current_offset - _LATE

    def was_set_back(self, trade: Trade[Any]) -> bool:
        """Whether the clock of receipt was, since ``newest``: its offset shows nothing."""
        before = 0 if self.newest is None else self.newest.received_at
        return 0 < trade.received_at < before - AGREEMENT * 1e9

    def accept(self, trade: Trade[Any]) -> None:
        """Take in the timestamp of a trade that is used."""
        second, offset = trade.timestamp, _offset(trade)
        if offset is not None:
            if self.offset is not None and offset > self.offset + self.tolerance:
                # The server's clock was set, or runs at another speed.
                step = 2 * (offset - self.offset)
                self.tolerance = min(step, _MOST_TOLERANCE)
            self.offset = offset if self.offset is None else max(self.offset, offset)
        self.refused = 0
        if second >= self.last:
            self.previous = self.last
            self.newest = trade
            self.current_offset = self.current_offset if offset is None else offset

    def agrees(self, held: Trade[Any], trade: Trade[Any]) -> bool:
        """Whether ``trade`` confirms the timestamp of ``held``."""
        before, now = _offset(held), _offset(trade)
        if before is not None and now is not None:
            return abs(now - before) < abs(now - (self.offset or 0.0))
        second = trade.timestamp
        return abs(second - held.timestamp) < abs(second - self.last)

    def begins_wrong(self, held: Trade[Any]) -> bool:
        """Whether ``newest``, the first, is wrong rather than the two ahead of it."""
        return (
            self.previous == -math.inf < self.last
            and _offset(held) is None
            and held.timestamp > self.last + _FIRST_BEHIND
        )

    def may_rewind(self, trade: Trade[Any]) -> bool:
        """Whether ``newest`` may be wrong rather than the two trades behind it."""
        now = _offset(trade)
        last = None if self.newest is None else _offset(self.newest)
        if now is None or last is None:
            return True
        self.refused += abs(last) <= AGREEMENT < abs(now)
        return not 0 < self.refused < _SET_BACK

    def rewind(self) -> None:
        """Forget ``newest``."""
        self.newest = self.offset = None


class StampFilter:
    """Finds trades whose timestamps cannot be right, by those around them.

    A timestamp agrees with the time of receipt, apart from a difference of the clocks
    that lasts; without a time of receipt, with the timestamps before and after. The
    decision on a trade that disagrees is the next trade's of its symbol: if two
    disagree in the same way, the clock was set. Times of receipt that go back show at
    once that the clock of receipt was.
    """

    def __init__(self) -> None:
        self._courses: dict[str, _Course] = {}

    def offset(self, symbol: str) -> float:
        """Return by how many seconds timestamps are ahead of receipt; 0 if they agree.

        As of late: in a fast simulator it grows, and delayed data are always behind.
        """
        course = self._courses.get(symbol)
        offset = 0.0 if course is None else course.current_offset
        return offset if abs(offset) > AGREEMENT else 0.0

    def push(self, trade: Trade[Any]) -> Verdict:
        """Return what to do, now that this trade was received."""
        if not is_possible(trade.timestamp):
            return Verdict(lost=(trade,))
        course = self._courses.get(trade.symbol)
        if course is None:
            course = self._courses[trade.symbol] = _Course()
        held, course.held = course.held, None
        if held is None:
            if course.fits(trade):
                course.accept(trade)
                return Verdict(use=(trade,))
            course.held = trade
            return Verdict()
        return self._decide(course, held, trade)

    def release(self, symbol: str | None = None) -> list[Verdict]:
        """Return the decisions on trades after which none of their symbol follows.

        Args:
            symbol: Of which; None: of all.
        """
        courses = [
            course for name, course in self._courses.items() if symbol in (None, name)
        ]
        found: list[Verdict] = []
        for course in courses:
            held, course.held = course.held, None
            if held is None:
                continue
            if held.timestamp > course.last and (
                not held.received_at
                or course.offset is None
                or course.was_set_back(held)
            ):
                course.accept(held)
                found.append(Verdict(use=(held,)))
            else:
                found.append(Verdict(lost=(held,)))
        return found

    def _decide(self, course: _Course, held: Trade[Any], trade: Trade[Any]) -> Verdict:
        if not course.agrees(held, trade):
            return _joined(Verdict(lost=(held,)), self.push(trade))
        ahead = held.timestamp > course.last
        if ahead and not course.begins_wrong(held):
            course.accept(held)
            return _joined(Verdict(use=(held,)), self.push(trade))
        if not ahead and not course.may_rewind(trade):
            return _joined(Verdict(lost=(held,)), self.push(trade))
        wrong, alone = course.newest, held.timestamp >= course.previous - _LATE
        course.rewind()
        course.accept(held)
        first = Verdict(use=(held,), wrong=wrong, alone=alone)
        return _joined(first, self.push(trade))


def _joined(first: Verdict, second: Verdict) -> Verdict:
    use, lost = first.use + second.use, first.lost + second.lost
    return Verdict(use, lost, first.wrong, first.alone)


def _offset(trade: Trade[Any]) -> float | None:
    """Return by how many seconds a timestamp is ahead of the receipt; None if fetched."""
    return trade.timestamp - trade.received_at / 1e9 if trade.received_at else None


def is_possible(second: object) -> bool:
    """Whether a timestamp may be the time of a trade, in epoch seconds."""
    return isinstance(second, (int, float)) and _EARLIEST <= second < _LATEST
