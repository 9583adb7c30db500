"""Upstream: what the hub needs of its client beyond the public verbs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any
from weakref import WeakSet

from qos_async._core.queries import Query
from qos_async._io.http import HttpClient
from qos_async._io.states import StateChanges
from qos_async._io.subscription import Subscription
from qos_async.client import Client
from qos_async.config import Limits
from qos_async.enums import LinkState
from qos_async.errors import ConnectError
from qos_async.metrics import openmetrics
from qos_async.recordings import Recorder
from qos_async.topics import Topic

__all__ = ["Upstream"]

_claimed: WeakSet[Client[Any]] = WeakSet()
_STREAM_ROWS_MAX = 2_000  # A larger reply would delay the ticks on the link.


class Upstream:
    """The client upstream, and requests whose rows stay as they are received.

    Args:
        client: A client, which nothing else has entered.

    Attributes:
        client: As passed.
        limits: What the plan allows.
        numbers: The type of prices and sizes.
        places: The symbols that may be subscribed; 0 if there is no such limit.
        notices_after: Seconds for which ticks may be missing while ``is_open``.
        keeps_klines: Whether replies have each finished kline between two others.
    """

    keeps_klines = True
    notices_after = 0.0

    def __init__(self, client: Client[Any]) -> None:
        self.client = client
        # No public verb returns rows as they are received.
        self._stream = client._stream  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        self._http = client._http  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        self._clock = client._server_clock  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        self.limits: Limits = self._stream.limits
        self.places = self.limits.symbols
        self.numbers = client._queries.numbers  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]

    def claim(self) -> None:
        """Take the client for this hub alone.

        Raises:
            RuntimeError: If another hub has it.
        """
        if self.client in _claimed:
            raise RuntimeError("the client belongs to another hub: make one for each")
        _claimed.add(self.client)

    async def connect(self) -> None:
        """Open the link; return before that if it has to wait for a lease.

        A link that cannot be opened is dialled again, in the background.

        Raises:
            AuthenticationError: The key is rejected.
        """
        changes = self.client.states()
        connecting = asyncio.create_task(self.client.connect())
        waiting = asyncio.create_task(_until_standby(changes))
        tasks = (connecting, waiting)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if connecting.done():
                with suppress(ConnectError):
                    connecting.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await changes.aclose()

    @property
    def is_open(self) -> bool:
        """Whether the link is open, and what it brings is new."""
        return self.client.state is LinkState.OPEN

    @property
    def outage(self) -> str:
        """Why the link is not open, for clients."""
        if self.client.state is LinkState.STANDBY:
            return "this hub stands by: another one has the link to the service"
        return "the link to the service is down"

    @property
    def is_closed(self) -> bool:
        """Whether the client is closed, or its link has ended for good."""
        return self.client.state is LinkState.CLOSED

    @property
    def reason(self) -> str:
        """Why the link was last lost or could not be opened; empty if it never was."""
        return self._stream.states.reason

    def check(self) -> None:
        """Raise the error that has ended the link for good, if it has ended."""
        self._stream.check_usable()

    def now(self) -> float:
        """Return the service's time, in epoch seconds, as far as it is known."""
        return self._clock.time()

    def metrics(self) -> str:
        """Return the OpenMetrics text of the client, and of its recorder."""
        text = openmetrics(self.client.stats)
        recorder = self.client._recorder  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        if isinstance(recorder, Recorder):
            text = recorder.stats.to_openmetrics().removesuffix("# EOF\n") + text
        return text

    def check_topics(self, topics: Iterable[Topic]) -> None:
        """Raise ``Rejection`` if it is known that there are no such topics."""

    def check_current(self) -> None:
        """Raise ``ConnectError`` if requests would be answered with old values."""

    def watch(self, topics: Sequence[Topic]) -> Subscription[Any]:
        """Return a subscription."""
        return self.client.watch(*topics)

    async def fetch(self, query: Query[Any]) -> Any:
        """Send a query: over the link, which has the larger budget, or over HTTP.

        A large one is sent over HTTP while the quota has a slot for it.
        """
        if query.operation and self.is_open:
            is_small = _rows(query) <= _STREAM_ROWS_MAX
            if is_small or self.wait_for_http() > 0:
                return await self._stream.fetch(query)
        return await self._http.fetch(query)

    def wait(self) -> float:
        """Return the seconds until a request could be sent, as far as is known."""
        return 0.0 if self.is_open else self.wait_for_http()

    def wait_for_http(self) -> float:
        """Return the seconds until the HTTP quota has a slot, as far as is known."""
        if not isinstance(self._http, HttpClient):
            return 0.0
        # It is infinite while requests on their way have all slots.
        return min(self._http.ready_in(), self.limits.http_period)


async def _until_standby(changes: StateChanges) -> None:
    async for change in changes:
        if change.state is LinkState.STANDBY:
            return


def _rows(query: Query[Any]) -> int:
    """Return how many rows a reply may have."""
    items: Sequence[Any] = query.body.get("kline_reqs", ())
    rows: int = max([query.body.get("count", 1), *(item["co"] for item in items)])
    return rows * len(query.symbols)
