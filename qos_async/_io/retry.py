"""HTTP retries: which outcomes are retried, and after how long."""

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
"""The most attempts for one query; the error of the last one is raised."""

_RETRY_AFTER_RANGE = (1.0, 300.0)


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """The outcome of one attempt.

    Errors are values here: raised inside an ``except`` block, they would be chained to
    aiohttp's exception, which holds the request's headers with the key.

    Attributes:
        value: The result; meaningless if there is an error.
        error: The error to raise, if any.
        transient: Whether a retry may succeed.
        retry_after: Seconds that the server asked to wait, if it did.
    """

    value: T | None = None
    error: QosError | None = None
    transient: bool = False
    retry_after: float | None = None

    def unwrap(self) -> T:
        """Return the value, or raise the error."""
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
    """Return a retrier: up to ``ATTEMPTS`` attempts, until an outcome is not transient.

    It returns the last outcome and raises no error of its own. The wait between
    attempts is ``Outcome.retry_after`` if there is one, else uniformly random below a
    bound that doubles from ``timing.backoff_initial`` to ``timing.backoff_max`` ("full
    jitter").

    Args:
        timing: The bounds, in seconds.
        on_retry: Called with the outcome and the wait before each further attempt.
        rng: Returns a random number from 0 to 1.
        sleep: Waits between attempts.
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
    """Return a ``Retry-After`` header in seconds, from 1 to 300; None if malformed.

    Args:
        header: Whole seconds or an HTTP date (RFC 9110, section 10.2.3).
        now: The current time, in epoch seconds.
    """
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        seconds = float(text[:9])  # More digits only make a long wait longer.
    else:
        try:
            date = email.utils.parsedate_to_datetime(text)
            # The zone "-0000" means UTC, but is parsed to a naive datetime.
            seconds = (
                date if date.tzinfo else date.replace(tzinfo=UTC)
            ).timestamp() - now
        except (ValueError, OverflowError):
            return None
    shortest, longest = _RETRY_AFTER_RANGE
    return min(max(seconds, shortest), longest)


def _outcome(state: tenacity.RetryCallState) -> Outcome[Any]:
    assert state.outcome is not None, "tenacity calls this only after an attempt"
    return cast("Outcome[Any]", state.outcome.result())


def _is_transient(outcome: Outcome[Any]) -> bool:
    return outcome.transient
