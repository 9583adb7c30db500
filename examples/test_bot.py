"""How to test a bot: ``pytest examples/test_bot.py``, with no key and no network.

Time is virtual: the hour takes less than a second.
"""

import asyncio

import pytest

from examples.bot import trade
from qos_async import Client, RejectedError
from qos_async.sim import Simulator

pytestmark = [pytest.mark.asyncio, pytest.mark.qos(virtual=True)]


async def test_the_bot_reports_how_long_it_was_blind_and_goes_on(
    qos_simulator: Simulator, qos_client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    enough = asyncio.Event()
    bot = asyncio.create_task(trade(qos_client, enough))
    await asyncio.sleep(10)
    await qos_simulator.outage(3600)
    await enough.wait()
    await qos_client.drain()
    await bot
    shown = capsys.readouterr().out
    assert "trade CF:BTCUSDT is not live: " in shown
    assert "blind on trade CF:BTCUSDT for 36" in shown
    assert shown.endswith("every received trade has been processed\n")
    assert not qos_simulator.violations


@pytest.mark.qos(rate=20)
async def test_the_bot_reports_how_many_trades_it_was_too_slow_for(
    qos_client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    enough = asyncio.Event()
    bot = asyncio.create_task(trade(qos_client, enough, think=2.0))
    await asyncio.sleep(60)
    await qos_client.aclose()
    await bot
    assert "too slow: " in capsys.readouterr().out


async def test_the_bot_does_not_start_without_one_of_its_symbols(
    qos_simulator: Simulator, qos_client: Client
) -> None:
    qos_simulator.reject_symbols("CF:ETHUSDT")
    with pytest.raises(RejectedError, match="No permission") as rejected:
        await trade(qos_client, asyncio.Event())
    assert rejected.value.symbols == ("CF:ETHUSDT",)
