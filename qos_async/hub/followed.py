"""Upstream that is a follower: what the hub serves comes from a recording."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import anyio

from qos_async._core.queries import Query
from qos_async._server.parsing import Rejection
from qos_async.client import Client
from qos_async.errors import ConnectError, RejectedError
from qos_async.hub.upstream import Upstream
from qos_async.recordings.follow_client import Follow
from qos_async.recordings.replay_transport import FROM_VALUES
from qos_async.topics import Topic

__all__ = ["FollowedUpstream", "upstream_of"]

_CONNECT_TIMEOUT = 1.0  # Of a link that may not be open in the recording.


def upstream_of(client: Client[Any]) -> Upstream:
    """Return the upstream for a client or a follower."""
    return FollowedUpstream(client) if isinstance(client, Follow) else Upstream(client)


class FollowedUpstream(Upstream):
    """A follower upstream: it has no key, no plan, and nothing but what is recorded.

    What was recorded before the hub was started is passed over: it is old.
    """

    keeps_klines = False  # The klines of a recording may have holes.
    notices_after = 6.0  # The heartbeats of a broker are missed for so long.

    def __init__(self, client: Follow[Any]) -> None:
        super().__init__(client)
        self.places = 0
        # No public verb passes over what was recorded.
        self._log = client._transport  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        self._log.plays_unwatched = True

    async def connect(self) -> None:
        """Begin to read; return before the recorded link is open if it is not."""
        with anyio.move_on_after(_CONNECT_TIMEOUT):
            await self.client.connect()

    @property
    def is_open(self) -> bool:
        """Whether the recorded link is open, and what it brings is new."""
        return super().is_open and self._log.is_current and bool(self._log.topics)

    @property
    def reason(self) -> str:
        """Why nothing is served, or why the recorded link was last lost."""
        return super().reason if self.is_open else self.outage

    @property
    def outage(self) -> str:
        """Why nothing is served now, for clients."""
        if not self._log.topics:
            return "nothing is recorded yet"
        if not self._log.is_live:
            return "what was recorded before is still being read"
        if not self._log.is_current:
            return "the recording cannot be read, or what was added is still being read"
        return "the recorder has no link to the service"

    def check_topics(self, topics: Iterable[Topic]) -> None:
        """Raise ``Rejection`` if topics are not in the recording, as far as is known."""
        missing = [topic for topic in topics if topic not in self._log.topics]
        if missing:
            codes = ",".join(dict.fromkeys(topic.symbol for topic in missing))
            kind = str(missing[0].channel)
            if (interval := missing[0].interval) is not None:
                kind = f"{kind} {interval}"
            raise Rejection(
                f"Unknown code: {codes} (the recording that this hub follows has no "
                f"{kind} of it)"
            )

    def check_current(self) -> None:
        """Raise ``ConnectError`` if the last values are not those of the service."""
        if not self.is_open:
            raise ConnectError(self.outage)

    async def fetch(self, query: Query[Any]) -> Any:
        """Answer a query with the last values.

        Raises:
            RejectedError: Only the service knows the reply.
        """
        if query.operation not in FROM_VALUES or _is_history(query):
            what = "finished and adjusted klines" if _is_kline(query) else query.path
            raise RejectedError(
                # Without the word key: clients would take it for a key that is rejected.
                f"known to the service only: {what}; this hub follows a recording",
                operation=query.operation,
                symbols=query.symbols,
            )
        return await self._http.fetch(query)


def _is_kline(query: Query[Any]) -> bool:
    return query.operation in ("RK", "RH")


def _is_history(query: Query[Any]) -> bool:
    """Whether a query is for other klines than those that grow."""
    items: list[dict[str, Any]] = query.body.get("kline_reqs", [])
    return any(one["co"] > 1 or "e" in one or one.get("a") for one in items)
