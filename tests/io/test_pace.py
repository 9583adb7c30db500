"""The pace of a key outlives the client that kept it."""

from __future__ import annotations

import asyncio
import gc

import pytest
from yarl import URL

from qos_async import Client, Timing
from qos_async._io import aiohttp_transport
from qos_async._io.aiohttp_transport import KeyPace
from qos_async.sim import Simulator
from qos_async.testing.virtual import simulate
from tests.support.leak_check import assert_absent
from tests.support.memory_transport import KEY

URL_ = URL("wss://host/ws")


async def waited(turn: KeyPace) -> float:
    start = asyncio.get_running_loop().time()
    await turn.wait()
    return asyncio.get_running_loop().time() - start


@pytest.mark.fault("P22", "P23", "I2")
@pytest.mark.parametrize("key_in", ["header", "url"])
def test_one_client_after_another_keeps_the_pace_of_their_key(key_in):
    async def use() -> None:
        async with Simulator(start=1_741_958_430.0, key=KEY) as sim:
            for _ in range(5):
                async with Client(
                    KEY,
                    http_url=sim.http_url,
                    stream_url=sim.stream_url,
                    key_in=key_in,
                    timing=Timing(),
                ) as client:
                    await client.connect()
            assert len(sim.received("H")) == 5
            assert sim.violations == []

    simulate(use)


@pytest.mark.virtual_time
async def test_only_what_shares_key_and_address_waits():
    KeyPace(URL_, "one", 5.0).mark_sent()
    assert await waited(KeyPace(URL_, "other", 5.0)) == 0
    assert await waited(KeyPace(URL("wss://elsewhere/ws"), "one", 5.0)) == 0
    assert await waited(KeyPace(URL_, "one", 5.0)) == pytest.approx(5)
    assert await waited(KeyPace(URL_, "one", 5.0)) == 0


@pytest.mark.fault("U19")
@pytest.mark.virtual_time
async def test_nothing_is_remembered_for_longer_than_it_matters_nor_the_key():
    loop = asyncio.get_running_loop()
    for number in range(100):
        KeyPace(URL_, f"{KEY}-{number}", 1.0).mark_sent()
        await asyncio.sleep(0.5)
    times = aiohttp_transport._free_at[loop]
    assert len(times) <= 3
    assert_absent(KEY, times)


@pytest.mark.fault("I16")
def test_a_loop_that_is_gone_is_not_remembered():
    before = len(aiohttp_transport._free_at)

    async def use() -> None:
        KeyPace(URL_, "one", 5.0).mark_sent()
        assert len(aiohttp_transport._free_at) == before + 1

    asyncio.run(use())
    gc.collect()
    assert len(aiohttp_transport._free_at) <= before
