"""The report of ``qos doctor``: results of checks, printed with secrets redacted."""

from __future__ import annotations

import getpass
import textwrap
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from qos_async._printable import printable

__all__ = ["Check", "Emit", "Report", "milliseconds", "password_of", "wrapped"]

_WIDTH = 80
_INDENT = 24


class Check(Struct, frozen=True):
    """The result of a check.

    Attributes:
        check: Its name.
        status: Its outcome.
        detail: What was found.
        hint: What to do; may be empty, and may be set although the check passed.
    """

    check: str
    status: Literal["ok", "failed", "skipped"]
    detail: str
    hint: str = ""


Emit: TypeAlias = Callable[[Check], None]


class Report:
    """Prints each result at once, with secrets redacted.

    Attributes:
        failed: The names of failed checks.
        key_refused: Whether the key is missing, or refused by the server.
    """

    def __init__(self, *, json: bool) -> None:
        self.failed: list[str] = []
        self.key_refused = False
        self._json = json
        self._replacements: list[tuple[str, str]] = _personal()
        if not json:
            print(f"qos doctor at {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC\n")

    def redact(self, *secrets: str | None) -> None:
        """Print stars instead of these from now on."""
        self._replacements = [
            *((text, "***") for text in secrets if text),
            *self._replacements,
        ]

    def add(self, check: Check) -> None:
        """Print a result."""
        if check.status == "failed":
            self.failed.append(check.check)
        shown = Check(
            check.check,
            check.status,
            self._redacted(check.detail),
            self._redacted(check.hint),
        )
        if self._json:
            print(msgspec.json.encode(shown).decode(), flush=True)
        else:
            print(_text(shown), flush=True)

    def _redacted(self, text: str) -> str:
        for secret, replacement in self._replacements:
            text = text.replace(secret, replacement)
        return printable(text)


def milliseconds(seconds: float) -> str:
    """Format a duration."""
    return f"{seconds * 1000:.0f} ms"


def password_of(url: str | None) -> str | None:
    """Return the password in a URL, if any."""
    try:
        return urlsplit(url or "").password
    except ValueError:
        return None


def _text(check: Check) -> str:
    head = f"{check.status.upper() if check.status == 'failed' else check.status:<8}"
    lines = wrapped(f"{head}{check.check:<{_INDENT - 8}}", check.detail)
    if check.hint:
        lines += wrapped(" " * _INDENT, f"-> {check.hint}")
    return "\n".join(lines)


def wrapped(head: str, text: str, indent: int = _INDENT) -> list[str]:
    """Return the lines of a text beside a head, indented below it."""
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=head,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [head.rstrip()]


def _personal() -> list[tuple[str, str]]:
    """Return the home directory and the user's name, each with its replacement."""
    found: list[tuple[str, str]] = []
    try:
        found.append((str(Path.home()), "~"))
        found.append((f"/{getpass.getuser()}/", "/USER/"))
    except (RuntimeError, KeyError, OSError):  # The user id has no account.
        pass
    return [(text, instead) for text, instead in found if len(text) > 1]
