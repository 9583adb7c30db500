"""The stream over in-memory links, in virtual time."""

from __future__ import annotations

import pytest

from tests.peers import Network, opened, trade

pytestmark = pytest.mark.virtual_time


async def test_a_tick_arrives():
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        net.peers[0].push(trade(1))
        assert (await anext(trades)).price == 1
