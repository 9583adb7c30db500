"""Recorders that have fallen silent: their leases are not renewed any more.

A recorder that is killed writes nothing about it, and a quiet market looks the same. Its
successor does; without one, its lease shows it, which a holder renews whether or not
anything is pushed. A recorder without a lease is not judged.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from qos_async.jetstream.api import last_message
from qos_async.jetstream.errors import BrokerError, BrokerUnavailableError
from qos_async.jetstream.lease import Unchanged, bucket_of, decode_lease
from qos_async.jetstream.recorder_links import RecorderLinks
from qos_async.jetstream.wire import Wire

__all__ = ["LeaseWatch"]

_log = logging.getLogger("qos_async.follow")

_INTERVAL = 2.0
_LONGEST_GAP = 3 * _INTERVAL
_LEASES, _SHORTEST = 3, 10.0
"""Durations of a lease, and seconds, without a renewal: a standby takes over in one."""


class LeaseWatch:
    """Finds recorders that have fallen silent.

    Args:
        wire: The connection.
        stream: The stream.
        states: The recorders and their topics.
        on_silent: Called with the name of a silent recorder.
    """

    def __init__(
        self,
        wire: Wire,
        stream: str,
        states: RecorderLinks,
        on_silent: Callable[[str], object],
    ) -> None:
        self._wire, self._stream, self._states = wire, stream, states
        self._on_silent = on_silent
        self._renewals: dict[str, Unchanged] = {}

    async def run(self) -> None:
        """Read the leases, for as long as this user may."""
        stats = self._wire.stats
        while True:
            await asyncio.sleep(_INTERVAL)
            denied = stats.denied
            try:
                for name in self._states.live_recorders:
                    await self._look(name)
            except BrokerUnavailableError:
                if stats.denied > denied:
                    return
                self._renewals.clear()  # Only time in which they can be read counts.
            except BrokerError as exc:
                _log.debug("the leases of %s cannot be read: %s", self._stream, exc)

    async def _look(self, name: str) -> None:
        bucket = bucket_of(self._stream)
        found = await last_message(self._wire, f"KV_{bucket}", f"$KV.{bucket}.{name}")
        if found is None:
            return
        renewal = self._renewals.setdefault(name, Unchanged(_LONGEST_GAP))
        seconds = renewal.seconds(found.sequence, time.monotonic())
        if seconds >= max(_LEASES * decode_lease(found.data).seconds, _SHORTEST):
            self._on_silent(name)
