"""Turns of clients that wait for the service, from the flood to the modest one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from qos_async.hub import Token
from qos_async.testing.virtual import simulate
from tests.support.hub_rig import Rig, rigged

MANY = [f"US:{a}{b}" for a in "ABCDEFGHIJ" for b in "ABCDEFGHIJ"]
ONE = {"codes": ["US:AAPL"]}


@asynccontextmanager
async def flood(rig: Rig, key: str = "flood") -> AsyncGenerator[None]:
    """Ask over HTTP for more than the plan allows, in a request for each symbol."""
    asking = [
        asyncio.create_task(rig.post("/depth", {"codes": [symbol]}, key=key))
        for symbol in MANY
    ]
    await asyncio.sleep(0.3)
    status, _, _ = await rig.post("/depth", {"codes": ["US:NOW"]}, key=key)
    assert status == 429
    yield
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)


@pytest.mark.fault("H13")
def test_a_flood_over_http_does_not_delay_a_websocket():
    async def main() -> None:
        async with rigged() as rig, rig.raw() as raw, flood(rig):
            async with asyncio.timeout(4):
                reply = await raw.ask(type="RS", reqid=1, **ONE)
            assert reply["msg"] == "OK"

    simulate(main)


@pytest.mark.fault("H13")
def test_a_flood_over_http_does_not_delay_a_client_with_another_key():
    async def main() -> None:
        async with rigged() as rig, flood(rig), asyncio.timeout(4):
            assert (await rig.post("/snapshot", ONE, key="other"))[0] == 200

    simulate(main)


@pytest.mark.fault("H13")
def test_a_token_has_one_turn_however_many_connections_it_has():
    tokens = {name: Token(token=name * 16) for name in "ab"}

    async def main() -> None:
        async with (
            rigged(hub={"tokens": tokens}) as rig,
            rig.raw(key="a" * 16) as same,
            rig.raw(key="b" * 16) as other,
            flood(rig, key="a" * 16),
        ):
            refused = await same.ask(type="RI", reqid=1, **ONE)
            assert refused["msg"].startswith("Too many requests")
            async with asyncio.timeout(4):
                assert (await other.ask(type="RS", reqid=1, **ONE))["msg"] == "OK"

    simulate(main)


@pytest.mark.fault("H31")
@pytest.mark.parametrize("way", ["http", "websocket"])
def test_what_a_client_asked_for_is_not_asked_once_it_has_left(way: str):
    body: dict[str, Any] = {"codes": MANY[:80]}

    async def main() -> None:
        async with rigged() as rig:
            before = len(rig.sim.frames)
            if way == "http":
                asking = asyncio.create_task(rig.post("/depth", body))
                await asyncio.sleep(1.5)
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
            else:
                async with rig.raw() as raw:
                    await raw.ws.send_json({"type": "RD", "reqid": 1, **body})
                    await asyncio.sleep(1.5)
            await asyncio.sleep(1.5)
            sent = len([f for f in rig.sim.frames[before:] if f.type == "RD"])
            assert 1 <= sent <= 4
            await asyncio.sleep(20)
            assert sent == len([f for f in rig.sim.frames[before:] if f.type == "RD"])

    simulate(main)


@pytest.mark.fault("H31")
def test_the_other_klines_of_a_request_that_failed_are_not_asked_for():
    async def main() -> None:
        async with rigged() as rig, rig.raw() as raw:
            rig.sim.reject_symbols("US:TSLA")
            items = [
                {"c": code, "kt": kt, "co": 1}
                for code in ("US:TSLA", "US:AAPL")
                for kt in (1, 5, 15, 30, 60, 120, 240)
            ]
            reply = await raw.ask(type="RK", reqid=1, kline_reqs=items)
            assert "No permission" in reply["msg"]
            sent = len(rig.sim.frames)
            await asyncio.sleep(20)
            later = [f for f in rig.sim.frames[sent:] if f.type == "RK"]
            assert len(later) <= 1  # The one that was on its way.

    simulate(main)


def test_many_kinds_of_klines_in_one_request_are_answered():
    async def main() -> None:
        async with rigged() as rig, rig.raw() as raw:
            kinds = (1, 5, 15, 30, 60, 120, 240, 1001)
            items = [{"c": "US:AAPL", "kt": kt, "co": 2} for kt in kinds]
            reply = await raw.ask(type="RK", reqid=1, kline_reqs=items)
            assert reply["msg"] == "OK"
            assert [row["k"][0]["kt"] for row in reply["data"]] == [*kinds]

    simulate(main)
