"""Symbols that the service refuses: told as soon as it does, and the others go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from qos_async import (
    Client,
    Dropped,
    Gap,
    Latest,
    LimitError,
    RejectedError,
    RequestTimeoutError,
    Subscription,
    Topic,
)
from qos_async.cli.run_stats import AnyTick

__all__ = ["Refusals"]


class Refusals:
    """Reads a subscription, and tells of each symbol that is refused, once.

    ``hear`` has to run, before or beside the reading.

    Args:
        client: Of the subscription.
        topics: What is subscribed.
        ticks: The subscription.
        tell: Takes what the service says, as a line.
    """

    def __init__(
        self,
        client: Client[Any],
        topics: Sequence[Topic],
        ticks: Subscription[Any],
        tell: Callable[[str], None],
    ) -> None:
        self._client = client
        self._topics = topics
        self._ticks = ticks
        self._tell = tell
        self._told: set[str] = set()
        self._heard = asyncio.Event()

    async def hear(self) -> None:
        """Wait until the service has decided on each symbol; tell whom it refuses.

        Where it does not answer in time, that is told, and not waited for.

        Raises:
            ExceptionGroup: Of an error that concerns all of them.
        """
        parts: dict[str, list[Topic]] = {}
        for topic in self._topics:
            parts.setdefault(topic.symbol, []).append(topic)
        async with asyncio.TaskGroup() as tasks:
            for part in parts.values():
                tasks.create_task(self._hear_of(part))
        self._heard.set()

    async def events(self) -> AsyncIterator[AnyTick | Gap | Dropped]:
        """Iterate over ticks and notices of the symbols that are not refused.

        Raises:
            RejectedError: If all of them are.
            LimitError: If the plan does not allow this.
        """
        while True:
            try:
                async for event in self._ticks.events():
                    yield event
            except LimitError:
                raise
            except RejectedError as error:
                if not self._ticks.topics:
                    raise
                await self._heard.wait()
                self._refused(error)
            else:
                return

    async def _hear_of(self, topics: list[Topic]) -> None:
        # The subscription tells when all of its symbols are decided, and each of them
        # may take some commands. One of their own costs none.
        try:
            async with self._client.watch(*topics, buffer=Latest()):
                pass
        except LimitError:
            raise
        except RejectedError as error:
            if self._ticks.topics:  # Else it ends all, and is told then.
                self._refused(error)
        except RequestTimeoutError as error:
            self._tell(f"{error}; asking again")

    def _refused(self, error: RejectedError) -> None:
        if not self._told.issuperset(error.symbols):
            self._told.update(error.symbols)
            self._tell(str(error))
