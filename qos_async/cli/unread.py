"""Notice on stderr about values of replies that could not be read.

The library logs them; a command has no log.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator

from qos_async.cli.streams import print_message

__all__ = ["reporting_unread"]


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.first = ""
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        if hasattr(record, "unread"):
            self.first = self.first or record.getMessage()
            self.count += 1


@contextlib.contextmanager
def reporting_unread() -> Generator[None]:
    """Print one notice at the end of the block if there were values to report."""
    logger, collector = logging.getLogger("qos_async"), _Collector()
    logger.addHandler(collector)
    try:
        yield
    finally:
        logger.removeHandler(collector)
        if collector.count:
            more = collector.count - 1
            others = f" (and {more} more like this)" if more else ""
            print_message(f"qos: warning: {collector.first}{others}")
