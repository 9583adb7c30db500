"""Messages with their time, as a terminal or a log needs them."""

from __future__ import annotations

import shutil
import sys
import textwrap
from datetime import UTC, datetime

from qos_async.cli.display import Display
from qos_async.cli.formatting import clock, iso_time
from qos_async.cli.tables import is_terminal

__all__ = ["timed_lines"]


def timed_lines(text: str, display: Display) -> list[str]:
    """Return a message for stderr, with the time now.

    A terminal has the time of day, and lines that fit it; a log has one line, with the
    date.
    """
    zone = display.zone()
    if not is_terminal(sys.stderr):
        return [f"{iso_time(zone=zone)} {text}"]
    time = clock(datetime.now(UTC).astimezone(zone))
    indent = " " * (len(time) + 1)
    width = max(shutil.get_terminal_size().columns, 2 * len(indent))
    return textwrap.wrap(f"{time} {text}", width, subsequent_indent=indent)
