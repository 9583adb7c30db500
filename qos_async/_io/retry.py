"""When a question is asked again, and after how long."""

from __future__ import annotations

import asyncio
import email.utils
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC
from typing import Any, Generic, TypeVar, cast

import tenacity

from qos_async.config import Timing
from qos_async.errors import QosError

__all__ = ["ATTEMPTS", "Outcome", "retry_after", "retrying"]

T = TypeVar("T")

ATTEMPTS = 4
"""How often a question is asked before its last failure is raised."""

_RETRY_AFTER_MAX = (1.0, 300.0)


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """How one attempt ended.

    Errors are values here: raising them inside an ``except`` would chain aiohttp's
    own exception to them, and that holds the request's headers with the key.

    Attributes:
        value: What was read; meaningless next to an error.
        error: What to raise, if anything.
        transient: Whether asking again may help.
        retry_after: How many seconds the server wants us to wait, if it said.
    """

    value: T | None = None
    error: QosError | None = None
    transient: bool = False
    retry_after: float | None = None

    def unwrap(self) -> T:
        """Give the value, or raise the error."""
        if self.error is not None:
            raise self.error
        return cast("T", self.value)


def retrying(
    timing: Timing,
    *,
    on_retry: Callable[[Outcome[Any], float], None],
    rng: Callable[[], float] = random.random,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> tenacity.AsyncRetrying:
    """Build what asks until an outcome is not transient, at most ``ATTEMPTS`` times.

    It returns the last outcome and raises nothing of its own. The wait is what the
    server asked for, else drawn evenly below a bound that doubles from
    ``timing.backoff_initial`` to ``timing.backoff_max`` ("full jitter").

    Args:
        timing: The bounds, in seconds.
        on_retry: Told the outcome and the wait before each new attempt.
        rng: A random number from 0 to 1.
        sleep: How to wait.
    """

    def wait(state: tenacity.RetryCallState) -> float:
        outcome = _outcome(state)
        if outcome.retry_after is not None:
            return outcome.retry_after
        doubled = timing.backoff_initial * 2.0 ** (state.attempt_number - 1)
        return rng() * min(timing.backoff_max, doubled)

    def before_sleep(state: tenacity.RetryCallState) -> None:
        on_retry(_outcome(state), state.next_action.sleep if state.next_action else 0.0)

    return tenacity.AsyncRetrying(
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        wait=wait,
        retry=tenacity.retry_if_result(_is_transient),
        retry_error_callback=_outcome,
        before_sleep=before_sleep,
        sleep=sleep,
    )


def retry_after(header: str | None, now: float) -> float | None:
    """Read a ``Retry-After`` header as seconds from 1 to 300.

    Args:
        header: Whole seconds or an HTTP date; anything else is ignored.
        now: The time, in epoch seconds.
    """
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        seconds = float(text[:9])
    else:
        try:
            date = email.utils.parsedate_to_datetime(text)
            # "-0000" reads as naive and means UTC.
            seconds = (
                date if date.tzinfo else date.replace(tzinfo=UTC)
            ).timestamp() - now
        except (ValueError, OverflowError):
            return None
    least, most = _RETRY_AFTER_MAX
    return min(max(seconds, least), most)


def _outcome(state: tenacity.RetryCallState) -> Outcome[Any]:
    assert state.outcome is not None, "tenacity asks after an attempt"
    return cast("Outcome[Any]", state.outcome.result())


def _is_transient(outcome: Outcome[Any]) -> bool:
    return outcome.transient
