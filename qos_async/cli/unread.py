"""Notice on stderr about values of replies that could not be read.

The library logs them; a command has no log.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Generator

from qos_async.cli.log import handling
from qos_async.cli.streams import print_message

__all__ = ["reporting_unread"]


class _Collector(logging.Handler):
    """Keeps the first message about a row left out, and about a field left out."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.first: dict[str, str] = {}
        self.counts: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        if kind := getattr(record, "unread", None):
            self.first.setdefault(kind, record.getMessage())
            self.counts[kind] += 1


@contextlib.contextmanager
def reporting_unread() -> Generator[None]:
    """Print at the end of the block what could not be read, a line for each kind."""
    collector = _Collector()
    try:
        with handling(collector):
            yield
    finally:
        for kind, first in collector.first.items():
            more = collector.counts[kind] - 1
            others = f" (and {more} more like this)" if more else ""
            print_message(f"qos: warning: {first}{others}")
