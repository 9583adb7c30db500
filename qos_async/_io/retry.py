"""HTTP retries: which outcomes are retried, after how long, and how often."""

from __future__ import annotations

import asyncio
import email.utils
import random
import re
from collections.abc import Awaitable, Callable
from datetime import UTC
from enum import Enum
from typing import Any, Generic, TypeAlias, TypeVar, cast

import tenacity
from msgspec import Struct

from qos_async._core.rows import Unread
from qos_async.config import Timing
from qos_async.errors import QosError

__all__ = [
    "ATTEMPTS",
    "OnWait",
    "Outcome",
    "Patience",
    "Retry",
    "http_date",
    "retry_after",
    "retrying",
]

T = TypeVar("T")

OnWait: TypeAlias = Callable[[QosError, float], object]
"""Called with an error and the seconds until the request is sent again."""

ATTEMPTS = 4
"""The most attempts for one query; the error of the last one is raised."""

_RETRY_AFTER_RANGE = (1.0, 300.0)
_SECONDS = re.compile(r"[0-9]+(\.[0-9]*)?", re.ASCII)
_DOUBLINGS = 60  # So many exceed every bound; a float holds no more than 1023.


class Retry(Enum):
    """Whether a failed request is sent again.

    Attributes:
        NEVER: No: it would fail again.
        GARBLED: The response cannot be read: a few times.
        NETWORK: There was no response.
        BUSY: The server replied that the request may succeed later.
        PACE: The server replied that there were too many requests.
    """

    NEVER = "never"
    GARBLED = "garbled"
    NETWORK = "network"
    BUSY = "busy"
    PACE = "pace"


class Outcome(Struct, Generic[T], frozen=True):
    """The outcome of one attempt.

    Errors are values here: raised inside an ``except`` block, they would be chained to
    aiohttp's exception, which holds the request's headers with the key.

    Attributes:
        value: The result; meaningless if there is an error.
        error: The error to raise, if any.
        retry: Whether a retry may succeed.
        retry_after: Seconds that the server asked to wait, if it did.
        unread: What cannot be read in the response.
    """

    value: T | None = None
    error: QosError | None = None
    retry: Retry = Retry.NEVER
    retry_after: float | None = None
    unread: tuple[Unread, ...] = ()

    def unwrap(self) -> T:
        """Return the value, or raise the error."""
        if self.error is not None:
            raise self.error
        return cast("T", self.value)


class Patience:
    """How a job of many requests waits: as long as it takes, where waiting may help.

    1. While the server replies that a request may succeed later, it is sent again.
    2. While the network fails, too, but only after a first success: before that, the
       address or the network of this machine may be wrong.
    3. A response that cannot be read is requested ``ATTEMPTS`` times.

    Args:
        on_wait: Called before each wait.
    """

    def __init__(self, on_wait: OnWait | None = None) -> None:
        self.on_wait = on_wait
        self._has_succeeded = False
        self._failures = 0

    def succeeded(self) -> None:
        """Record a success."""
        self._has_succeeded = True
        self._failures = 0

    def gives_up(self, outcome: Outcome[Any]) -> bool:
        """Record a failure, and return whether it is final."""
        helps = {Retry.PACE, Retry.BUSY}
        if self._has_succeeded:
            helps.add(Retry.NETWORK)
        self._failures = 0 if outcome.retry in helps else self._failures + 1
        return self._failures >= ATTEMPTS


def retrying(
    timing: Timing,
    *,
    period: float,
    on_retry: Callable[[Outcome[Any], float], None],
    patience: Patience | None = None,
    rng: Callable[[], float] = random.random,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> tenacity.AsyncRetrying:
    """Return a retrier: up to ``ATTEMPTS`` attempts, until one is not to be retried.

    It returns the last outcome and raises no error of its own. The wait between
    attempts is

    1. ``Outcome.retry_after``, if there is one;
    2. else, for ``Retry.PACE``, ``period``: by then, the server counts none of the
       requests so far. From the second refusal on, at least that in any case;
    3. else uniformly random below a bound that doubles from ``timing.backoff_initial``
       to ``timing.backoff_max`` ("full jitter").

    Args:
        timing: The bounds, in seconds.
        period: The period of the plan's quota, in seconds.
        on_retry: Called with the outcome and the wait before each further attempt.
        patience: Replaces the limit of attempts.
        rng: Returns a random number from 0 to 1.
        sleep: Waits between attempts.
    """

    def wait(state: tenacity.RetryCallState) -> float:
        outcome, earlier = _outcome(state), state.attempt_number - 1
        shortest = period if outcome.retry is Retry.PACE else 0.0
        if outcome.retry_after is not None:
            return max(outcome.retry_after, shortest if earlier else 0.0)
        doubled = timing.backoff_initial * 2.0 ** min(earlier, _DOUBLINGS)
        return max(rng() * min(timing.backoff_max, doubled), shortest)

    def stop(state: tenacity.RetryCallState) -> bool:
        if patience is None:
            return state.attempt_number >= ATTEMPTS
        return patience.gives_up(_outcome(state))

    def before_sleep(state: tenacity.RetryCallState) -> None:
        on_retry(_outcome(state), state.next_action.sleep if state.next_action else 0.0)

    return tenacity.AsyncRetrying(
        stop=stop,
        wait=wait,
        retry=tenacity.retry_if_result(_may_be_retried),
        retry_error_callback=_outcome,
        before_sleep=before_sleep,
        sleep=sleep,
    )


def retry_after(header: str | None, now: float) -> float | None:
    """Return a ``Retry-After`` header in seconds, from 1 to 300; None if malformed.

    Args:
        header: Seconds, also fractional ones, or an HTTP date (RFC 9110, 10.2.3).
        now: The current time of the server's clock, in epoch seconds.
    """
    if header is None:
        return None
    text = header.strip(
        " \t"
    )  # What HTTP allows around it: ``float`` takes other than ``strip``.
    if _SECONDS.fullmatch(text):
        seconds = float(text)
    elif (date := http_date(text)) is not None:
        seconds = date - now
    else:
        return None
    shortest, longest = _RETRY_AFTER_RANGE
    return min(max(seconds, shortest), longest)


def http_date(header: str | None) -> float | None:
    """Return an HTTP date in epoch seconds; None if it is missing or malformed."""
    try:
        date = email.utils.parsedate_to_datetime(header or "")
        # The zone "-0000" means UTC, but is parsed to a naive datetime.
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _outcome(state: tenacity.RetryCallState) -> Outcome[Any]:
    assert state.outcome is not None, "tenacity calls this only after an attempt"
    return cast("Outcome[Any]", state.outcome.result())


def _may_be_retried(outcome: Outcome[Any]) -> bool:
    return outcome.retry is not Retry.NEVER
