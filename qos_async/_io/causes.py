"""Why links end, in a few fixed words: a server cannot make up new ones.

What a person reads is the full reason, in the state changes, the gaps and the log. These
words are for counting.
"""

from __future__ import annotations

from http import HTTPStatus

__all__ = [
    "BROKEN",
    "KEY",
    "OTHER",
    "PROTOCOL",
    "REDIRECT",
    "SEND",
    "SILENCE",
    "TIMEOUT",
    "UNREACHABLE",
    "closed",
    "refused",
]

SILENCE = "silence"
SEND = "send"
BROKEN = "broken"
PROTOCOL = "protocol"
UNREACHABLE = "unreachable"
TIMEOUT = "timeout"
REDIRECT = "redirect"
KEY = "key refused"
OTHER = "other"

_STANDARD = range(1000, 1016)
_LIBRARIES = range(3000, 4000)
_PRIVATE = range(4000, 5000)
_STATUSES = frozenset(HTTPStatus)


def closed(code: int | None) -> str:
    """Name the end of a link by its close code; None if it had none."""
    if code is None:
        return BROKEN
    if code in _STANDARD:
        return f"close {code}"
    if code in _LIBRARIES:
        return "close 3xxx"
    return "close 4xxx" if code in _PRIVATE else "close other"


def refused(status: int) -> str:
    """Name a refusal by its HTTP status."""
    return f"http {status}" if status in _STATUSES else "http other"
