"""API key: validation, and redaction from logs, errors, reprs and recordings."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn
from urllib.parse import quote, quote_plus

from yarl import URL

from qos_async.errors import AuthenticationError

__all__ = ["Secret"]

# Visible ASCII: aiohttp would send other characters, and keys of any length, as they
# are.
_VALID = re.compile(r"[\x21-\x7e]{1,256}")
# As html.escape, whose module is slow to import.
_HTML = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"}
)
_NO_KEY = "there is no API key"
_KEY_HELP = (
    "set QOS_API_KEY, or pass key=... to Client (a string, or a callable that "
    "returns one)"
)
_GET_A_KEY = (
    "; keys are given out at https://qos.hk, for an e-mail address, and "
    '"qos sim -- python FILE.py" runs a program without one'
)
_REMEMBERED = (
    8  # The newest keys that are redacted, if a callable returns different ones.
)


class Secret:
    """An API key, or a callable that returns it.

    A callable is called for each use, in the event loop, so it should not block. The
    last few values are kept, for ``redact`` to search for.

    Raises:
        AuthenticationError: If there is no key, or one that is not valid in a header.
            The message explains how to set it and does not contain it.
    """

    __slots__ = ("_recent", "_source")

    def __init__(self, key: str | Callable[[], str] | None) -> None:
        # Each recent key, with its encodings. The dict is replaced, never changed, as
        # other threads iterate over it.
        self._recent: dict[str, list[str]] = {}
        self._source: Callable[[], object] = key if callable(key) else lambda: key
        if not callable(key):
            self.read()

    def read(self) -> str:
        """Return the current key.

        Raises:
            AuthenticationError: If the callable fails or does not return a valid key.
        """
        value, invalid_reason = self._call_source()
        if invalid_reason:
            # Raised here, in a frame without the invalid value and outside of the
            # except block: tracebacks with local variables would show both.
            where = _GET_A_KEY if invalid_reason == _NO_KEY else ""
            raise AuthenticationError(f"{invalid_reason}: {_KEY_HELP}{where}")
        return value

    def redact(self, text: str) -> str:
        """Return ``text`` with ``***`` for the key, also if escaped for a URL or HTML.

        Thread-safe: a recorder redacts all frames in a thread of its own.
        """
        for forms in self._recent.values():
            for form in forms:
                text = text.replace(form, "***")
        return text

    def is_in_request(self, headers: Mapping[str, str], url: URL) -> bool:
        """Return whether a request has the key in its headers or in its URL."""
        values = {*headers.values(), *url.query.values()}
        return any(key in values for key in self._recent)

    def __repr__(self) -> str:
        return "Secret(***)"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret cannot be pickled or copied")

    def _call_source(self) -> tuple[str, str]:
        """Return the key, or else the reason why it is invalid."""
        try:
            value = self._source()
        except Exception as exc:  # noqa: BLE001 - the user's code may raise anything
            return "", f"the callable for the API key failed ({type(exc).__name__})"
        invalid_reason = _invalid_reason(value)
        if invalid_reason or not isinstance(value, str):
            return "", invalid_reason
        if value not in self._recent:
            old = list(self._recent.items())[: _REMEMBERED - 1]
            self._recent = {value: _encodings(value), **dict(old)}
        return value, ""


def _invalid_reason(value: Any) -> str:
    if value is None or value == "":
        return _NO_KEY
    if inspect.iscoroutine(value):
        value.close()  # Avoids the warning that it was never awaited.
        return "the callable for the API key must not be a coroutine function"
    if not isinstance(value, str):
        return f"the API key must be a str, not {type(value).__name__}"
    if not _VALID.fullmatch(value):
        return (
            "the API key must be 1 to 256 visible ASCII characters, "
            "without spaces or line ends"
        )
    return ""


def _encodings(value: str) -> list[str]:
    """Return the key and its escaped forms, longest first: one may contain another."""
    forms = {
        value,
        quote(value, safe=""),
        quote_plus(value),
        URL.build(query={"key": value}).raw_query_string.removeprefix("key="),
        json.dumps(value)[1:-1],
        value.translate(_HTML),
    }
    return sorted(forms, key=len, reverse=True)
