"""Outages that another client with the same key has left, over in-memory links."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from qos_async import Gap, Topic, Trade
from qos_async._io.dial_gate import InheritedOutage, OlderPush
from tests.support.factories import drain, gaps, prices
from tests.support.memory_transport import Frame
from tests.support.scripted_server import AAPL, ScriptedServer, connected

pytestmark = [pytest.mark.virtual_time, pytest.mark.fault("N120")]

TOPIC = Topic("trade", AAPL)
SINCE = 1_700_000_000_000_000_000


class Heir:
    """A recorder that waits for permission, and then inherits.

    Attributes:
        outages: What is inherited before the next dial.
        fetched_gaps: The gaps that were observed, each with its rows.
    """

    def __init__(self) -> None:
        self.outages: list[InheritedOutage] | None = None
        self.fetched_gaps: list[tuple[Gap, list[Any]]] = []
        self.link: Any = None
        self._may = asyncio.Event()

    def take(self, outages: list[InheritedOutage]) -> None:
        self.outages = outages
        self._may.set()

    def lose(self) -> None:
        self._may.clear()
        self.link.revoke("another has the lease")

    async def before_dial(self, link: Any) -> None:
        self.link = link
        if not self._may.is_set():
            link.hold("another has the lease")
            await self._may.wait()
        if self.outages is not None:
            outages, self.outages = self.outages, None
            link.inherit(outages)

    def may_keep(self) -> str:
        return "" if self._may.is_set() else "another has the lease"

    def conflict_wait(self) -> float | None:
        return None

    def fetched(
        self, gap: Gap, rows: Sequence[Any], omitted: Sequence[int], *, left: int
    ) -> None:
        assert not omitted
        self.fetched_gaps.append((gap, [*rows]))

    def _ignore(self, *args: Any, **more: Any) -> None:
        pass

    attach = opened = frames = lost = subscribed = unsubscribed = _ignore
    rejected = suspect = _ignore

    async def aclose(self) -> None:
        pass


@pytest.fixture
def server() -> ScriptedServer:
    return ScriptedServer()


def pushes(rows: Sequence[Frame]) -> list[OlderPush]:
    return [OlderPush(json.dumps({"tp": "T", **row}).encode(), SINCE) for row in rows]


def outage(
    server: ScriptedServer, tail: int, until: int | None = None, since: int = SINCE
) -> InheritedOutage:
    """Return an outage after some trades of the tape; others of it were held back."""
    held = pushes(server.tape[tail:until]) if until else []
    return InheritedOutage(TOPIC, since, "it died", pushes(server.tape[:tail]), held)


def fetched_prices(rows: Sequence[Any], held: Sequence[int] = ()) -> list[int]:
    return [held[row] if isinstance(row, int) else int(row.price) for row in rows]


@pytest.mark.parametrize("first", ["subscribe", "connect"])
async def test_what_was_missed_is_fetched_once(server: ScriptedServer, first: str):
    heir = Heir()
    async with connected(server, recorder=heir) as client:
        await server.trades(20)
        connecting = asyncio.create_task(client.connect())
        subscription = client.watch_trades(AAPL) if first == "subscribe" else None
        await server.trades(6)
        heir.take([outage(server, 20)])
        await connecting
        subscription = subscription or client.watch_trades(AAPL)
        await subscription.ready()
        await server.trades(20)
        [(gap, rows)] = heir.fetched_gaps
        events = drain(subscription)
        await subscription.aclose()
    assert (gap.status, gap.reason) == ("filled", "it died")
    assert gap.since == datetime.fromtimestamp(SINCE / 1e9, UTC)
    # Its own consumer has joined since, and has no gap.
    assert not gaps(events)
    live = prices(events)
    missed = fetched_prices(rows)
    assert [*range(1, 21), *missed, *live] == server.prices()
    assert missed


async def test_what_was_held_back_is_part_of_the_gap(server: ScriptedServer):
    heir = Heir()
    async with connected(server, recorder=heir) as client:
        await server.trades(25)
        subscription = client.watch_trades(AAPL)
        subscription.events()
        await server.trades(6)
        # It delivered 20, missed two, and held three back until it died.
        held = server.prices()[22:25]
        lost = outage(server, 20)
        heir.take([lost._replace(held=pushes(server.tape[22:25]))])
        await subscription.ready()
        await server.trades(20)
        [(gap, rows)] = heir.fetched_gaps
        events = drain(subscription)
        stats = client.stats
        await subscription.aclose()
    assert gap.status == "filled"
    assert [row for row in rows if isinstance(row, int)] == [0, 1, 2]
    missed = fetched_prices(rows, held)
    assert [*range(1, 21), *missed, *prices(events)] == server.prices()
    assert stats.held == stats.repeated == 0


async def test_an_own_outage_ends_where_another_client_has_recorded(
    server: ScriptedServer,
):
    heir = Heir()
    heir.take([])
    async with connected(server, recorder=heir) as client:
        subscription = client.watch_trades(AAPL)
        await subscription.ready()
        await server.trades(10)
        heir.lose()
        await server.trades(30)
        heir.take([outage(server, 36)])
        await server.trades(20)
        [(gap, rows)] = heir.fetched_gaps
        events = drain(subscription)
        await subscription.aclose()
    assert gap.status == "filled"
    # Nothing came between the two gaps of its own consumer: they are one.
    [own] = gaps(events)
    assert own.status == "unfilled"
    assert own.until == gap.until
    missed = [one for one in events if isinstance(one, Trade) and one.recovered]
    assert prices(missed) == fetched_prices(rows)
    assert fetched_prices(rows)[0] == 37


async def test_a_client_without_recovery_tells_the_gap(server: ScriptedServer):
    heir = Heir()
    async with connected(server, recorder=heir, recover=False) as client:
        await server.trades(20)
        subscription = client.watch_trades(AAPL)
        subscription.events()
        await asyncio.sleep(1)
        heir.take([outage(server, 10)])
        await subscription.ready()
        await server.trades(3)
        [(gap, rows)] = heir.fetched_gaps
        await subscription.aclose()
    assert (gap.status, rows) == ("unfilled", [])


async def test_a_time_in_the_future_is_now(server: ScriptedServer):
    heir = Heir()
    async with connected(server, recorder=heir) as client:
        await server.trades(20)
        subscription = client.watch_trades(AAPL)
        subscription.events()
        heir.take([outage(server, 20, since=SINCE * 2)])
        await subscription.ready()
        await server.trades(20)
        [(gap, _)] = heir.fetched_gaps
        await subscription.aclose()
    assert gap.until >= gap.since
