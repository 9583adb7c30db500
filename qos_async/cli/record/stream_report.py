"""What a run of ``qos record`` prints of the link and the broker of a stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from qos_async import Client, LinkState, StateChange
from qos_async.cli.formatting import move_line, plural
from qos_async.jetstream.errors import BrokerError
from qos_async.recordings import Recorder, RecordingError

__all__ = ["StreamReport"]

_INTERVAL = 0.5


class StreamReport:
    """Prints the states of the link, the holder of the lease, and absences of the broker.

    Args:
        timed: Prints a message with its time.
        kept: Where what is received waits while the broker is away.
    """

    def __init__(self, timed: Callable[[str], None], kept: str) -> None:
        self._timed, self._kept = timed, kept
        self._is_away = False
        self._shown = ""

    def on_error(self, error: RecordingError) -> None:
        """Print an error that does not end the recording."""
        if not isinstance(error, BrokerError):  # Of the spool.
            self._timed(str(error))
            return
        self._is_away = True
        self._timed(
            f"the stream gets nothing: {error}; what is received waits in {self._kept}"
        )

    async def run(self, client: Client[Any], recorder: Recorder) -> None:
        """Print what happens, until the client is closed."""
        states = client.states()
        while True:
            try:
                async with asyncio.timeout(_INTERVAL):
                    change = await anext(states, None)
            except TimeoutError:
                self._look(client, recorder)
            else:
                if change is None:
                    return
                self._print(change)

    def _look(self, client: Client[Any], recorder: Recorder) -> None:
        """Print what no state and no error shows."""
        stats = recorder.stats
        holder = stats.lease_holder
        # Who has the lease is known a moment after the state.
        if holder and holder not in self._shown and client.state is LinkState.STANDBY:
            reason = f"waiting for the lease, which {holder} has"
            self._print(StateChange(client.state, reason))
        if self._is_away and not stats.last_error:
            self._is_away = False
            left = plural(stats.pending, "message")
            rest = f"; {left} to go" if stats.pending else ""
            self._timed(f"the stream is written again{rest}")

    def _print(self, change: StateChange) -> None:
        self._shown = change.reason
        self._timed(move_line(change))
