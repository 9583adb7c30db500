"""What a check of ``qos doctor`` finds, and how it is shown."""

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

__all__ = ["Check", "Report", "Tell", "milliseconds", "password_of"]

_WIDTH = 80
_INDENT = 24


class Check(Struct, frozen=True):
    """One thing that was looked at.

    Attributes:
        check: Its name.
        status: How it is.
        says: What was seen.
        hint: What to do; may be empty, and may be there though all is well.
    """

    check: str
    status: Literal["ok", "failed", "skipped"]
    says: str
    hint: str = ""


Tell: TypeAlias = Callable[[Check], None]


class Report:
    """Prints checks as they come, without what is nobody else's business.

    Attributes:
        failed: The names of those that failed.
        key_refused: Whether there is no key, or none that the server takes.
    """

    def __init__(self, *, json: bool) -> None:
        self.failed: list[str] = []
        self.key_refused = False
        self._json = json
        self._secrets: list[tuple[str, str]] = _personal()
        if not json:
            print(f"qos doctor at {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC\n")

    def hide(self, *secrets: str | None) -> None:
        """Show stars instead of these from now on."""
        self._secrets = [*((text, "***") for text in secrets if text), *self._secrets]

    def tell(self, check: Check) -> None:
        """Print a check."""
        if check.status == "failed":
            self.failed.append(check.check)
        shown = Check(
            check.check,
            check.status,
            self._redacted(check.says),
            self._redacted(check.hint),
        )
        if self._json:
            print(msgspec.json.encode(shown).decode(), flush=True)
        else:
            print(_text(shown), flush=True)

    def _redacted(self, text: str) -> str:
        for secret, instead in self._secrets:
            text = text.replace(secret, instead)
        return text


def milliseconds(seconds: float) -> str:
    """Write a duration."""
    return f"{seconds * 1000:.0f} ms"


def password_of(url: str | None) -> str | None:
    """Give the password in a URL, if there is one."""
    try:
        return urlsplit(url or "").password
    except ValueError:
        return None


def _text(check: Check) -> str:
    head = f"{check.status.upper() if check.status == 'failed' else check.status:<8}"
    lines = _wrapped(f"{head}{check.check:<{_INDENT - 8}}", check.says)
    if check.hint:
        lines += _wrapped(" " * _INDENT, f"-> {check.hint}")
    return "\n".join(lines)


def _wrapped(head: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=head,
        subsequent_indent=" " * _INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [head.rstrip()]


def _personal() -> list[tuple[str, str]]:
    """Give the home directory and the user's name, and what to show instead."""
    found: list[tuple[str, str]] = []
    try:
        found.append((str(Path.home()), "~"))
        found.append((f"/{getpass.getuser()}/", "/USER/"))
    except (RuntimeError, KeyError, OSError):  # A user id without an account.
        pass
    return [(text, instead) for text, instead in found if len(text) > 1]
