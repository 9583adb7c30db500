"""Text of the server made safe to print: what a terminal would obey is escaped."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable

__all__ = ["printable", "printable_json"]

# Unicode categories: control characters (C0, DEL and C1, with NEL), format characters
# (bidi controls, zero-width characters, the byte order mark, tags), lone surrogates,
# private and unassigned characters, and the separators of lines and paragraphs.
_OBEYED = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"}


def printable(text: str) -> str:
    r"""Return the text with each character that a terminal would obey as ``\x1b``.

    >>> printable("Ping An\x1b[2J")
    'Ping An\\x1b[2J'
    """
    return _escaped(text, lambda char: char.encode("unicode_escape").decode())


def printable_json(text: str) -> str:
    r"""Return JSON without line feeds with such characters as ``\u001b``: equal data."""
    return _escaped(text, lambda char: json.dumps(char)[1:-1])


def _escaped(text: str, escape: Callable[[str], str]) -> str:
    if text.isprintable():  # Nearly all text is.
        return text
    return "".join(
        escape(char) if unicodedata.category(char) in _OBEYED else char for char in text
    )
