"""Rejected symbols: reported at once, while the others go on."""

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
from qos_async.models import AnyTick

__all__ = ["Rejections"]


class Rejections:
    """Reads a subscription, and reports each rejected symbol once.

    ``watch`` has to run, before or beside the reading.

    Args:
        client: The subscription's client.
        topics: Its topics.
        ticks: The subscription.
        report: Called with a message.
    """

    def __init__(
        self,
        client: Client[Any],
        topics: Sequence[Topic],
        ticks: Subscription[Any],
        report: Callable[[str], None],
    ) -> None:
        self._client = client
        self._topics = topics
        self._ticks = ticks
        self._report = report
        self._reported: set[str] = set()
        self._decided = asyncio.Event()

    async def watch(self) -> None:
        """Wait until each symbol is acknowledged or rejected; report rejected ones.

        A missing acknowledgement is reported, and not waited for.

        Raises:
            ExceptionGroup: For an error that concerns all of them.
        """
        parts: dict[str, list[Topic]] = {}
        for topic in self._topics:
            parts.setdefault(topic.symbol, []).append(topic)
        async with asyncio.TaskGroup() as tasks:
            for part in parts.values():
                tasks.create_task(self._watch_symbol(part))
        self._decided.set()

    async def events(self) -> AsyncIterator[AnyTick | Gap | Dropped]:
        """Iterate over ticks, gaps and drops of the symbols that are not rejected.

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
                await self._decided.wait()
                self._rejected(error)
            else:
                return

    async def _watch_symbol(self, topics: list[Topic]) -> None:
        # The subscription is settled when all of its symbols are, each of which may take
        # some commands. A second subscription of the same topics costs no command.
        try:
            async with self._client.watch(*topics, buffer=Latest()):
                pass
        except LimitError:
            raise
        except RejectedError as error:
            if self._ticks.topics:  # Else the error ends the run, and is reported then.
                self._rejected(error)
        except RequestTimeoutError as error:
            self._report(f"{error}; retrying")

    def _rejected(self, error: RejectedError) -> None:
        if not self._reported.issuperset(error.symbols):
            self._reported.update(error.symbols)
            self._report(str(error))
