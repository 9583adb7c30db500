"""The API key, kept out of everything that people look at."""

from __future__ import annotations

import html
import inspect
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn
from urllib.parse import quote, quote_plus

from yarl import URL

from qos_async.errors import AuthenticationError

__all__ = ["Secret"]

_VALID = re.compile(r"[\x21-\x7e]{1,256}")
_KEY_HELP = "set QOS_API_KEY, or pass key=... to Client (a string, or a callable that returns one)"
_REMEMBERED = 8


class Secret:
    """An API key, or where to get it.

    A callable is asked anew at each use, in the event loop: it should not block. The
    last few values are remembered, for ``redact`` to know what to look for.

    Raises:
        AuthenticationError: If there is no key, or none that fits into a header; the
            message says how to set it and does not contain it.
    """

    __slots__ = ("_recent", "_source")

    def __init__(self, key: str | Callable[[], str] | None) -> None:
        # With the forms that each may be written in. Replaced, never changed: other
        # threads look at it.
        self._recent: dict[str, list[str]] = {}
        self._source: Callable[[], object] = key if callable(key) else lambda: key
        if not callable(key):
            self.read()

    def read(self) -> str:
        """Give the key as it is now.

        Raises:
            AuthenticationError: If the callable fails, or what it returns is no key.
        """
        value, fault = self._ask()
        if fault:
            # Raised where neither the value nor the callable's own error is at hand:
            # a traceback with local variables would show them.
            raise AuthenticationError(f"{fault}: {_KEY_HELP}")
        return value

    def redact(self, text: str) -> str:
        """Replace the key by ``***``, also where it was escaped for a URL or a page.

        It may be called in any thread: a recorder does, for all that comes.
        """
        for forms in self._recent.values():
            for form in forms:
                text = text.replace(form, "***")
        return text

    def is_in_request(self, headers: Mapping[str, str], url: URL) -> bool:
        """Say whether a request has the key in its headers or in its URL."""
        carried = {*headers.values(), *url.query.values()}
        return any(value in carried for value in self._recent)

    def __repr__(self) -> str:
        return "Secret(***)"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret cannot be pickled or copied")

    def _ask(self) -> tuple[str, str]:
        try:
            value = self._source()
        except Exception as exc:  # noqa: BLE001 - the user's code may raise anything
            return "", f"the callable for the API key failed ({type(exc).__name__})"
        fault = _invalid_reason(value)
        if fault or not isinstance(value, str):
            return "", fault
        if value not in self._recent:
            old = list(self._recent.items())[: _REMEMBERED - 1]
            self._recent = {value: _encodings(value), **dict(old)}
        return value, ""


def _invalid_reason(value: Any) -> str:
    if value is None or value == "":
        return "there is no API key"
    if inspect.iscoroutine(value):
        value.close()
        return "the callable for the API key is a coroutine function, not a plain one"
    if not isinstance(value, str):
        return f"the API key must be a str, not {type(value).__name__}"
    if not _VALID.fullmatch(value):
        return (
            "the API key must be 1 to 256 visible ASCII characters, "
            "without spaces or line ends"
        )
    return ""


def _encodings(value: str) -> list[str]:
    forms = {
        value,
        quote(value, safe=""),
        quote_plus(value),
        URL.build(query={"key": value}).raw_query_string.removeprefix("key="),
        json.dumps(value)[1:-1],
        html.escape(value),
    }
    return sorted(forms, key=len, reverse=True)
