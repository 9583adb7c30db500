"""Log of a command that runs for long: the library's warnings, on stderr.

A module of its own, as ``logging`` is slow to import.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator

from qos_async.cli.streams import print_message

__all__ = ["handling", "printing_warnings"]


class _Printer(logging.Handler):
    """Prints each record as lines on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        first, *rest = self.format(record).splitlines()
        print_message(f"qos: {record.levelname.lower()}: {first}", *rest)


@contextlib.contextmanager
def printing_warnings() -> Generator[None]:
    """Print the warnings and errors that the library logs in the block."""
    with handling(_Printer(logging.WARNING)):
        yield


@contextlib.contextmanager
def handling(handler: logging.Handler) -> Generator[None]:
    """Pass what the library logs in the block to a handler, too."""
    logger = logging.getLogger("qos_async")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
