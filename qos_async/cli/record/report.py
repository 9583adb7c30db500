"""What a run of ``qos record`` shows on stderr: messages, and a live line on a terminal."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections.abc import Callable

from qos_async import LinkState
from qos_async.cli.display import Display
from qos_async.cli.formatting import plural, state_word
from qos_async.cli.streams import print_message
from qos_async.cli.tables import is_terminal
from qos_async.cli.timed_lines import timed_lines
from qos_async.recordings import Recorder

__all__ = ["RecordReport"]

_MEGABYTE = 1e6
_INTERVAL = 0.5
_CLEAR = "\r\x1b[K"


class RecordReport:
    """Prints messages above a line that is written over twice a second.

    Args:
        display: The time zone of messages.
        of_stream: Whether it is recorded to a stream, which has messages, not files.

    Attributes:
        gaps: The number of gaps so far.
    """

    def __init__(self, display: Display, *, of_stream: bool = False) -> None:
        self.gaps = 0
        self._display, self._of_stream = display, of_stream
        self._line = ""

    def timed(self, text: str) -> None:
        """Print a message with its time."""
        self._print(*timed_lines(text, self._display))

    def plain(self, text: str) -> None:
        """Print a message."""
        self._print(text)

    async def run(self, recorder: Recorder, state: Callable[[], LinkState]) -> None:
        """Show frames, size, gaps and time on a terminal, until it is cancelled."""
        if not is_terminal(sys.stderr):
            return
        began = time.monotonic()
        try:
            while True:
                elapsed = time.monotonic() - began
                self._draw(self._progress(recorder, state(), elapsed))
                await asyncio.sleep(_INTERVAL)
        finally:
            self._draw("")

    def _progress(self, recorder: Recorder, state: LinkState, elapsed: float) -> str:
        stats = recorder.stats
        minutes, seconds = divmod(int(elapsed), 60)
        parts = [
            f"{minutes // 60}:{minutes % 60:02}:{seconds:02}",
            plural(stats.frames, "frame"),
        ]
        if self._of_stream:
            parts.append(f"{stats.stored:,} stored, {stats.pending:,} pending")
        else:
            parts.append(f"{stats.bytes_written / _MEGABYTE:.2f} MB")
        parts += [plural(self.gaps, "gap"), f"link {state_word(state)}"]
        if stats.dropped:
            parts.append(f"{stats.dropped:,} dropped")
        return "  ".join(parts)

    def _print(self, *lines: str) -> None:
        shown = self._line
        self._draw("")
        print_message(*lines)
        self._draw(shown)

    def _draw(self, line: str) -> None:
        """Write the line over the one before; the cursor is at its start."""
        if not line and not self._line:
            return
        self._line = line[: shutil.get_terminal_size().columns - 1]
        print(f"{_CLEAR}{self._line}\r", end="", file=sys.stderr, flush=True)
