"""Log of what cannot be read in replies: one warning for each field of each symbol."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from qos_async._core.rows import Unread
from qos_async._core.sanitize import printable

__all__ = ["UnreadLog"]

_VALUE_LENGTH = 40
_REMEMBERED = 10_000


class UnreadLog:
    """Logs unreadable values; the same field of the same symbol once.

    Args:
        logger: Receives the warnings.
        redact: Removes the key from text of the server.
    """

    def __init__(self, logger: logging.Logger, redact: Callable[[str], str]) -> None:
        self._logger = logger
        self._redact = redact
        self._seen: set[tuple[str, str, str]] = set()

    def warn(
        self, operation: str, unread: Iterable[Unread], *, by_symbol: bool = False
    ) -> None:
        """Log what could not be read in a reply to ``operation``.

        Args:
            operation: The path or the type of the request.
            unread: What could not be read.
            by_symbol: Whether a row that is left out costs all rows of its symbol.
        """
        lost = (
            "all rows of its symbol are left out"
            if by_symbol
            else "the row is left out"
        )
        for one in unread:
            place = (operation, one.name, one.field)
            if place in self._seen:
                continue
            if len(self._seen) >= _REMEMBERED:
                self._seen.clear()
            self._seen.add(place)
            self._logger.warning(
                "%s: %s: cannot read %s (%s); %s",
                operation,
                self._shown(one.name) or "a row without a symbol",
                f"the field {self._shown(one.field)}" if one.field else "a row",
                "missing" if one.value is None else self._shown(repr(one.value)),
                lost if one.lost else "the field is left out",
                extra={"unread": "row" if one.lost else "field"},
            )

    def _shown(self, text: str) -> str:
        return printable(self._redact(text), _VALUE_LENGTH)
