"""The life of the link."""

from __future__ import annotations

import itertools

import pytest

from qos_async._core.link import MOVES, Link, LinkEvent
from qos_async.enums import LinkState


def link(state: LinkState) -> Link:
    made = Link()
    made.state = state
    return made


def test_a_link_starts_idle():
    assert Link().state is LinkState.IDLE


def test_a_whole_life():
    alive = Link()
    story = ["DIAL", "LOST", "DIAL", "OPENED", "LOST", "DIAL", "OPENED", "STOP"]
    states = [alive.fire(LinkEvent[event]) for event in story]
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
def test_a_move_that_is_not_listed_fails_loudly_and_changes_nothing(
    state: LinkState, event: LinkEvent
):
    alive = link(state)
    if (state, event) in MOVES:
        assert alive.fire(event) is alive.state is MOVES[state, event]
        assert event is LinkEvent.STOP or alive.state is not state
    else:
        with pytest.raises(AssertionError, match=f"{event.name} is impossible"):
            alive.fire(event)
        assert alive.state is state


def test_it_can_be_stopped_from_anywhere_and_then_for_good():
    for state in LinkState:
        assert link(state).fire(LinkEvent.STOP) is LinkState.CLOSED
    out = {event for state, event in MOVES if state is LinkState.CLOSED}
    assert out == {LinkEvent.STOP}


def test_only_an_opened_link_is_open():
    into = {event for (_, event), state in MOVES.items() if state is LinkState.OPEN}
    assert into == {LinkEvent.OPENED}
