"""State checks: every transition of a client's link, and every back-off."""

from __future__ import annotations

import re
from typing import Any

from qos_async import Client
from qos_async._core.link import MOVES
from qos_async.enums import LinkState
from tests.support.invariants import TOLERANCE, InvariantChecker

__all__ = ["check_states"]

TRANSITIONS = {(before, after) for (before, _), after in MOVES.items()}
_PAUSES = {"1008": 30.0, "3000": 30.0, "4000": 30.0, "1013": 10.0}
"""The least seconds until the next dial, after close codes."""


async def check_states(checker: InvariantChecker, client: Client) -> None:
    """Check each transition of the link until the client is closed."""
    state, lost_at, wait, attempt = client.state, 0.0, 0.0, 0
    async for change in client.states():
        now = checker.clock()
        checker.record(f"state {change}")
        checker.check_no_key(repr(change), "a state change")
        transition = (state, change.state)
        text = f"from {state} to {change.state}"
        checker.check("I15", transition in TRANSITIONS, text)
        checker.check("I15", state != change.state, f"from {state} to itself")
        state = change.state
        if state is LinkState.BACKOFF:
            checker.check("I15", change.reason, "a link is lost without a reason")
            _check_backoff(checker, change, attempt)
            lost_at, wait, attempt = now, change.retry_in, change.attempt
        elif state is LinkState.CONNECTING:
            waited = now - lost_at
            late = checker.slack(
                lost_at - wait
            )  # The change may have been received late.
            early = attempt and waited + late < wait - TOLERANCE
            checker.check("I14", not early, f"dialled after {waited:g} s, not {wait:g}")
        elif state is LinkState.OPEN:
            confirmed = checker.links and checker.links[-1].confirmed
            checker.check("I15", confirmed, "open before the server sent anything")
        else:
            checker.check("I15", change.reason, "closed without a reason")


def _check_backoff(checker: InvariantChecker, change: Any, before: int) -> None:
    last = checker.links[-1] if checker.links else None
    stable = (
        last is not None
        and last.closed_at == checker.clock()
        and checker.clock() - last.opened_at >= 60.0
    )
    expected = 1 if stable else before + 1
    text = f"attempt {change.attempt}, expected {expected}"
    checker.check("I14", change.attempt == expected, text)
    code = re.search(r"closed the link with (\d+)", change.reason)
    least = _PAUSES.get(code[1], 0.0) if code else 0.0
    most = min(60.0, max(0.5 * 2.0 ** (change.attempt - 1), 2 * least))
    wait = change.retry_in
    text = f"attempt {change.attempt} waits {wait:g} s, not {least:g} to {most:g} s"
    checker.check("I14", least <= wait <= most, text)
