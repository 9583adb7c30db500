"""Standard streams: data on stdout, messages on stderr, whatever both of them are."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any, TextIO, cast

from qos_async._printable import printable

__all__ = ["discard_output", "end_line", "print_message", "standard_streams"]


def print_message(*lines: str) -> None:
    """Print lines on stderr; what a terminal would obey in them is escaped."""
    for line in lines:
        print(printable(line), file=sys.stderr, flush=True)


def end_line() -> None:
    """Begin a new line on a terminal, which has shown ``^C`` at the start of this one."""
    if sys.stderr is not None and sys.stderr.isatty():
        print(file=sys.stderr, flush=True)


@contextlib.contextmanager
def standard_streams() -> Generator[None]:
    """Make stdout and stderr usable although they may be closed, or stderr full.

    Python sets those that are closed to None: ``print`` then takes stdout for stderr.
    """
    _occupy_descriptors()
    before = sys.stdout, sys.stderr
    with contextlib.ExitStack() as stack:
        null = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
        sys.stdout = cast("TextIO", sys.stdout or null)
        sys.stderr = cast("TextIO", _LossyStream(sys.stderr or null))
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before


def discard_output(stream: TextIO) -> None:
    """Send what a stream holds to the null device: Python would report it at exit."""
    with contextlib.suppress(OSError, ValueError):  # It may have no descriptor.
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, stream.fileno())
        finally:
            os.close(null)


class _LossyStream:
    """A stream whose text is lost, without an error, where it cannot be written.

    A full disk or a closed pipe behind stderr must not end a command, or its data.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or lose, all of the text."""
        try:
            self._stream.write(text)
        except (OSError, ValueError):  # ValueError: the stream was closed.
            discard_output(self._stream)
        return len(text)

    def flush(self) -> None:
        """Flush, or lose, what was written."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            discard_output(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _occupy_descriptors() -> None:
    """Open the null device for each closed standard descriptor.

    Otherwise the next file or socket gets the number, and receives what is written to
    stdout or stderr.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # The system takes the lowest free number.
