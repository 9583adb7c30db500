"""How long to wait before dialling again, and when to stop."""

from __future__ import annotations

import pytest

from qos_async._core.backoff import Backoff, Contention
from qos_async.config import Timing


def test_the_bound_doubles_up_to_its_limit():
    backoff = Backoff(Timing(backoff_initial=0.5, backoff_max=10.0))
    bounds = [backoff.failed(lived=0.0) for _ in range(7)]
    assert bounds == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert backoff.attempt == 7


def test_ten_thousand_failures_do_not_overflow():
    backoff = Backoff(Timing())
    for _ in range(10_000):
        bound = backoff.failed(lived=0.0)
    assert bound == 60.0
    assert backoff.attempt == 10_000


@pytest.mark.parametrize(("lived", "attempt"), [(59.9, 4), (60.0, 1), (1e9, 1)])
def test_only_a_link_that_was_stable_starts_the_count_again(lived: float, attempt: int):
    backoff = Backoff(Timing(stable_after=60.0))
    for _ in range(3):
        backoff.failed(lived=0.0)
    backoff.failed(lived=lived)
    assert backoff.attempt == attempt


def test_a_server_that_accepts_and_closes_is_not_dialled_in_a_tight_loop():
    backoff = Backoff(Timing())
    assert sum(backoff.failed(lived=1.0) for _ in range(70)) > 3600


def test_no_waiting_at_all_can_be_had():
    assert Backoff(Timing(backoff_max=0.0)).failed(lived=0.0) == 0.0


def ends(*rows: tuple[float, int | None]) -> list[bool]:
    contention = Contention()
    return [contention.link_ended(lived, code) for lived, code in rows]


def test_five_polite_and_early_goodbyes_in_a_row_are_somebody_else():
    assert ends(*[(1.0, 1000)] * 6) == [False] * 4 + [True] * 2
    assert ends(*[(29.9, 4001)] * 5)[-1]


@pytest.mark.parametrize(
    "other",
    [(31.0, 1000), (30.0, 1000), (1.0, None), (1.0, 1001), (1.0, 1006), (1.0, 1012)],
)
def test_any_other_ending_breaks_the_row(other: tuple[float, int | None]):
    kick = (1.0, 1000)
    assert not any(ends(kick, kick, kick, kick, other, kick, kick, kick, kick))
    assert not any(ends(*[other] * 20))
