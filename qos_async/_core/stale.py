"""Which topics are quieter than they usually are while their market is open."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from msgspec import Struct

from qos_async.enums import Session
from qos_async.topics import Topic

__all__ = ["Stale", "StalenessDetector"]

_KNOWN = 10  # Ticks in such a session before there is anything usual about them.
_LONGEST = 4.0
_MEAN = 20.0
_LEAST = {Session.REGULAR: 60.0}
_LEAST_ELSEWHERE = 300.0  # Pre-market, post-market and overnight are thin.


class Stale(Struct, frozen=True, kw_only=True):
    """A topic that used to tick is quiet, although its market is open and the link lives.

    It is a suspicion and no more: the client does nothing about it. Told once; again
    only after the topic has ticked.

    Attributes:
        topic: What is quiet.
        since: When something of it was last received; aware, UTC.
        quiet: For how many seconds, those of an open market and a live link only.
        usual: Seconds from tick to tick, on average, in sessions of this kind.
    """

    topic: Topic
    since: datetime
    quiet: float
    usual: float


class _BaseRate:
    """How often a topic ticks in one kind of session."""

    __slots__ = ("longest", "seconds", "ticks")

    def __init__(self) -> None:
        self.ticks = 0
        self.seconds = 0.0
        self.longest = 0.0

    def learn(self, ticks: int, passed: float, quiet: float) -> None:
        """Take in ticks that came at last, after ``quiet`` seconds without any."""
        self.ticks += ticks
        self.seconds += quiet + passed
        self.longest = max(self.longest, quiet)

    @property
    def usual(self) -> float:
        """Seconds from tick to tick."""
        return self.seconds / max(self.ticks, 1)


class _TopicState:
    """What was seen of one topic."""

    __slots__ = (
        "base_rates",
        "observed_at",
        "quiet",
        "reported",
        "ticks",
        "trading_session",
    )

    def __init__(self) -> None:
        self.base_rates: dict[Session, _BaseRate] = {}
        self.trading_session: Session | None = None
        self.observed_at = 0.0
        self.ticks = 0
        self.quiet = 0.0
        self.reported = False


class StalenessDetector:
    """Judges by looks now and then at how many ticks there were: ticks cost nothing.

    A topic is stale when it was quiet for over a minute (five outside of regular hours),
    over 4 times its longest quiet so far, and over 20 times its mean interval, the last
    two in sessions of the same kind. So a thin stock is given hours, and a slow decline
    of the rate, as after the close in the US, raises the bar as it goes.

    Args:
        step: Seconds; a longer time between two looks counts as this long, for who does
            not look may not have listened.
    """

    def __init__(self, step: float) -> None:
        self._step = step
        self._states: dict[Topic, _TopicState] = {}

    def retain(self, topics: Collection[Topic]) -> None:
        """Forget every other topic."""
        for topic in self._states.keys() - topics:
            del self._states[topic]

    def observe(
        self,
        topic: Topic,
        ticks: int | None,
        trading_session: Session | None,
        now: float,
    ) -> tuple[float, float] | None:
        """Look at a topic.

        Args:
            topic: Which.
            ticks: How many there were so far; None while it is not live.
            trading_session: The session that its market is in; None while that is closed.
            now: Seconds, by any clock that does not jump.

        Returns:
            For how long it was quiet, and what is usual, if that is to be told.
        """
        pulse = self._states.setdefault(topic, _TopicState())
        known = trading_session is not None and trading_session is pulse.trading_session
        passed = min(now - pulse.observed_at, self._step) if known else 0.0
        pulse.observed_at = now
        if ticks is None or trading_session is None:
            pulse.trading_session = None
            return None
        habit = pulse.base_rates.setdefault(trading_session, _BaseRate())
        # Who leaves a topic and comes back finds it counted from 0.
        fresh = ticks - pulse.ticks if ticks >= pulse.ticks else ticks
        pulse.ticks = ticks
        if not known:  # What came before belongs to another time.
            pulse.reported = pulse.reported and not fresh
            pulse.trading_session, pulse.quiet = trading_session, 0.0
            return None
        if fresh:
            habit.learn(fresh, passed, min(pulse.quiet, _limit(habit, trading_session)))
            pulse.quiet, pulse.reported = 0.0, False
            return None
        pulse.quiet += passed
        return _staleness(pulse, habit, trading_session)


def _limit(habit: _BaseRate, part: Session) -> float:
    least = _LEAST.get(part, _LEAST_ELSEWHERE)
    return max(least, _LONGEST * habit.longest, _MEAN * habit.usual)


def _staleness(
    pulse: _TopicState, habit: _BaseRate, part: Session
) -> tuple[float, float] | None:
    if pulse.reported or habit.ticks < _KNOWN or pulse.quiet <= _limit(habit, part):
        return None
    pulse.reported = True
    return pulse.quiet, habit.usual
