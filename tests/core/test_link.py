"""Link states, back-off and guards."""

from __future__ import annotations

import itertools

import pytest

from qos_async._core.link import (
    MOVES,
    Backoff,
    Contention,
    Link,
    LinkEvent,
    PolicyViolationGuard,
)
from qos_async.config import Timing
from qos_async.enums import LinkState


def link(state: LinkState) -> Link:
    made = Link()
    made.state = state
    return made


def test_a_link_starts_idle():
    assert Link().state is LinkState.IDLE


def test_a_link_passes_through_all_states():
    current = Link()
    story = ["DIAL", "LOST", "DIAL", "OPENED", "LOST", "DIAL", "OPENED", "STOP"]
    states = [current.fire(LinkEvent[event]) for event in story]
    assert [str(state) for state in states] == [
        "connecting",
        "backoff",
        "connecting",
        "open",
        "backoff",
        "connecting",
        "open",
        "closed",
    ]


@pytest.mark.parametrize(
    ("state", "event"), list(itertools.product(LinkState, LinkEvent)), ids=str
)
def test_an_unlisted_move_raises_and_changes_nothing(
    state: LinkState, event: LinkEvent
):
    current = link(state)
    if (state, event) in MOVES:
        assert current.fire(event) is current.state is MOVES[state, event]
        assert event is LinkEvent.STOP or current.state is not state
    else:
        with pytest.raises(AssertionError, match=f"{event.name} is impossible"):
            current.fire(event)
        assert current.state is state


def test_every_state_can_be_stopped_and_the_end_is_final():
    for state in LinkState:
        assert link(state).fire(LinkEvent.STOP) is LinkState.CLOSED
    out = {event for state, event in MOVES if state is LinkState.CLOSED}
    assert out == {LinkEvent.STOP}


def test_only_an_opened_link_is_open():
    into = {event for (_, event), state in MOVES.items() if state is LinkState.OPEN}
    assert into == {LinkEvent.OPENED}


def test_the_bound_doubles_up_to_the_maximum():
    backoff = Backoff(Timing(backoff_initial=0.5, backoff_max=10.0))
    bounds = [backoff.next_wait(uptime=0.0)[1] for _ in range(7)]
    assert bounds == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert backoff.attempt == 7


def test_ten_thousand_failures_do_not_overflow():
    backoff = Backoff(Timing())
    for _ in range(10_000):
        bounds = backoff.next_wait(uptime=0.0)
    assert bounds == (0.0, 60.0)
    assert backoff.attempt == 10_000


@pytest.mark.fault("T12")
@pytest.mark.parametrize(("lived", "attempt"), [(59.9, 4), (60.0, 1), (1e9, 1)])
def test_only_a_stable_link_resets_the_attempts(lived: float, attempt: int):
    backoff = Backoff(Timing(stable_after=60.0))
    for _ in range(3):
        backoff.next_wait(uptime=0.0)
    backoff.next_wait(uptime=lived)
    assert backoff.attempt == attempt


@pytest.mark.fault("T12", "I14")
def test_a_server_that_accepts_and_closes_is_not_dialled_in_a_tight_loop():
    backoff = Backoff(Timing())
    assert sum(backoff.next_wait(uptime=1.0)[1] for _ in range(70)) > 3600


def test_the_back_off_can_be_turned_off():
    assert Backoff(Timing(backoff_max=0.0)).next_wait(0.0, 1008) == (0.0, 0.0)


@pytest.mark.fault("T8", "T9", "T11")
@pytest.mark.parametrize(
    ("code", "bounds"),
    [
        (None, (0.0, 0.5)),
        (1000, (0.0, 0.5)),
        (1001, (0.0, 0.5)),
        (1012, (0.0, 0.5)),
        (2999, (0.0, 0.5)),
        (5000, (0.0, 0.5)),
        (1013, (10.0, 20.0)),
        (1008, (30.0, 60.0)),
        (3000, (30.0, 60.0)),
        (4999, (30.0, 60.0)),
    ],
)
def test_some_close_codes_raise_the_shortest_wait(code, bounds):
    assert Backoff(Timing()).next_wait(10.0, code) == bounds


@pytest.mark.fault("T9", "T11")
def test_a_raised_wait_doubles_too_and_stays_below_the_maximum():
    backoff = Backoff(Timing())
    assert [backoff.next_wait(1.0, 1013)[1] for _ in range(8)][-3:] == [
        20.0,
        32.0,
        60.0,
    ]
    assert Backoff(Timing(backoff_max=8.0)).next_wait(1.0, 4000) == (4.0, 8.0)


def reproofs(*rows: tuple[float, int | None]) -> list[bool]:
    reproof = PolicyViolationGuard(Timing(stable_after=60.0))
    return [reproof.link_ended(lived, code) for lived, code in rows]


@pytest.mark.fault("T8")
def test_three_policy_violations_in_a_row_give_up():
    assert reproofs(*[(59.0, 1008)] * 4) == [False, False, True, True]


@pytest.mark.fault("T8")
@pytest.mark.parametrize(
    "other", [(60.0, 1008), (1.0, 1000), (1.0, 4000), (1.0, 1013), (0.0, None)]
)
def test_a_stable_link_or_another_ending_resets_the_policy_violations(other):
    assert not any(reproofs((1.0, 1008), (1.0, 1008), other, (1.0, 1008)))


@pytest.mark.fault("F1")
def test_of_closes_for_the_pace_the_sixth_in_a_row_gives_up():
    guard = PolicyViolationGuard(Timing())
    ended = [guard.link_ended(1.0, 4029, about_pace=True) for _ in range(6)]
    assert ended == [False] * 5 + [True]


@pytest.mark.fault("F1")
def test_closes_for_the_pace_and_other_violations_are_counted_apart():
    guard = PolicyViolationGuard(Timing())
    for _ in range(10):
        assert not guard.link_ended(1.0, 1008, about_pace=True)
        assert not guard.link_ended(1.0, 1008)
        assert not guard.link_ended(1.0, 1008)


def ends(*rows: tuple[float, int | None]) -> list[bool]:
    contention = Contention()
    return [contention.link_ended(lived, code) for lived, code in rows]


@pytest.mark.fault("P23")
def test_five_early_closes_in_a_row_are_contention():
    assert ends(*[(1.0, 1000)] * 6) == [False] * 4 + [True] * 2
    assert ends(*[(29.9, 4001)] * 5)[-1]


@pytest.mark.fault("P23")
@pytest.mark.parametrize(
    "other",
    [(31.0, 1000), (30.0, 1000), (1.0, None), (1.0, 1001), (1.0, 1006), (1.0, 1012)],
)
def test_any_other_ending_resets_the_contention(other: tuple[float, int | None]):
    kick = (1.0, 1000)
    assert not any(ends(kick, kick, kick, kick, other, kick, kick, kick, kick))
    assert not any(ends(*[other] * 20))
