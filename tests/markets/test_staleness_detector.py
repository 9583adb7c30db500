"""When quiet is suspicious."""

from __future__ import annotations

import pytest

from qos_async import Session, Topic
from qos_async.markets.staleness import StalenessDetector

APPLE = Topic("trade", "US:AAPL")
STEP = 5.0
REGULAR, POST = Session.REGULAR, Session.POST_MARKET


class Watcher:
    """Looks every five seconds."""

    def __init__(self) -> None:
        self.quiet = StalenessDetector(2 * STEP)
        self.now = 100.0
        self.ticks = 7  # Of others, before.
        self.look(part=REGULAR)

    def look(
        self, ticks: int = 0, part: Session | None = REGULAR, *, live: bool = True
    ) -> tuple[float, float] | None:
        self.now += STEP
        self.ticks += ticks
        seen = self.ticks if live else None
        return self.quiet.observe(APPLE, seen, part, self.now)

    def busy(self, looks: int = 24, every: int = 1, part: Session = REGULAR) -> None:
        """See a tick every so many looks."""
        for number in range(looks):
            assert self.look(number % every == 0, part) is None

    def silent(
        self, most: int = 10_000, part: Session | None = REGULAR, *, live: bool = True
    ) -> float | None:
        """Poll until the topic is stale; return how long it was quiet by then."""
        for _ in range(most):
            if (found := self.look(0, part, live=live)) is not None:
                return found[0]
        return None


def test_a_busy_topic_is_suspicious_once_after_a_minute():
    watcher = Watcher()
    watcher.busy()
    # Twenty times a mean of five seconds is more than a minute.
    assert watcher.silent() == pytest.approx(105, abs=10)
    assert watcher.silent(5000) is None
    watcher.busy()
    assert watcher.silent() is not None


def test_a_busier_topic_is_given_a_minute():
    watcher = Watcher()
    for _ in range(20):
        assert watcher.look(50) is None
    assert watcher.silent() == 65.0


def test_the_usual_interval_is_reported():
    watcher = Watcher()
    for _ in range(20):
        watcher.look(10)
    found = None
    while found is None:
        found = watcher.look()
    assert found[1] == pytest.approx(0.5, rel=0.7)


def test_a_thin_stock_is_given_hours():
    watcher = Watcher()
    watcher.busy(looks=12 * 5 * 12, every=5 * 12)  # A trade every five minutes.
    quiet = watcher.silent()
    assert quiet is not None
    assert quiet > 20 * 240


def test_a_topic_with_few_ticks_is_never_stale():
    watcher = Watcher()
    watcher.busy(looks=9)
    assert watcher.silent(5000) is None


def test_the_longest_quiet_so_far_raises_the_threshold():
    watcher = Watcher()
    for _ in range(5):
        for _ in range(20):
            watcher.look(50)
        assert watcher.silent(11) is None  # 55 seconds.
    assert watcher.silent() == pytest.approx(225, abs=6)


@pytest.mark.parametrize(
    "pause", [{"part": None}, {"live": False}], ids=["closed", "without a link"]
)
def test_quiet_is_not_counted_while_no_tick_can_arrive(pause):
    watcher = Watcher()
    for _ in range(20):
        watcher.look(50)
    assert watcher.silent(12) is None
    assert watcher.silent(1000, **pause) is None
    assert watcher.silent(12) is None  # It begins anew.
    assert watcher.silent(5) is not None


def test_each_part_of_the_day_has_its_own_statistics():
    watcher = Watcher()
    for _ in range(20):
        watcher.look(50)
    assert watcher.silent(14, part=POST) is None  # Nothing is known of it yet.
    for _ in range(20):
        watcher.look(50, POST)
    assert watcher.silent(part=POST) == 305.0
    watcher.look(1)
    assert watcher.silent() == 65.0  # The statistics of the day session were kept.


def test_a_blocked_loop_is_not_a_quiet_market():
    watcher = Watcher()
    for _ in range(20):
        watcher.look(50)
    watcher.now += 3600
    assert watcher.look() is None


def test_removed_topics_have_no_statistics():
    watcher = Watcher()
    for _ in range(20):
        watcher.look(50)
    watcher.quiet.retain([APPLE])
    assert watcher.silent() is not None
    watcher.quiet.retain([])
    assert watcher.silent(1000) is None


def test_a_count_that_restarts_keeps_the_statistics():
    watcher = Watcher()
    for _ in range(20):
        watcher.look(50)
    watcher.ticks = 0
    assert watcher.silent() == 65.0


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
def test_time_by_which_the_clock_was_set_does_not_count(step):
    watcher = Watcher()
    watcher.busy()
    watcher.now += step
    assert watcher.silent() == pytest.approx(105, abs=10)
