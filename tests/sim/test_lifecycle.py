"""Lifecycle: addresses, clocks, and nothing left behind."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
import time
from pathlib import Path

import aiohttp
import pytest

from qos_async.sim import Limits, Simulator, Variants

ROOT = Path(__file__).parents[2]


async def test_it_listens_on_a_free_loopback_port_of_its_own():
    async with Simulator() as one, Simulator() as two:
        assert one.http_url.startswith("http://127.0.0.1:")
        assert one.stream_url == one.http_url.replace("http", "ws") + "/ws"
        assert one.http_url != two.http_url


async def test_a_port_can_be_chosen_and_a_taken_one_is_an_error():
    async with Simulator() as one:
        port = int(one.http_url.rpartition(":")[2])
        with pytest.raises(OSError, match="address already in use"):
            async with Simulator(port=port):
                pass
    async with Simulator(port=port) as again:
        assert again.http_url.endswith(f":{port}")


async def test_the_market_starts_at_the_wall_clock_and_runs_at_its_speed():
    async with Simulator(speed=100.0) as sim:
        assert sim.now == pytest.approx(time.time(), abs=5)
        begun = sim.now
        await asyncio.sleep(0.1)
        assert 9 < sim.now - begun < 60


async def test_two_simulators_with_the_same_seed_and_start_have_the_same_trades():
    async with Simulator(seed=3, start=1e9) as one, Simulator(seed=3, start=1e9) as two:
        assert one.tape("US:AAPL")[:900] == two.tape("US:AAPL")[:900]


async def test_exiting_is_quick_and_leaves_nothing_behind():
    before = asyncio.all_tasks()
    async with aiohttp.ClientSession() as session:
        async with Simulator(speed=20.0) as sim:
            wire = await session.ws_connect(sim.stream_url, headers={"key": sim.key})
            await wire.send_json({"type": "T", "codes": ["CF:BTCUSDT"], "reqid": 1})
            await wire.receive()
            sim.delay_replies(30)
            await wire.send_json({"type": "H"})
            lost = asyncio.create_task(
                session.post(sim.http_url + "/depth", headers={"key": sim.key}, json={})
            )
            await sim.until(lambda: len(sim.requests) == 2)
            begun = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - begun < 0.3
        with pytest.raises(aiohttp.ClientError):
            await lost
        await wire.close()
    assert asyncio.all_tasks() == before


async def test_exiting_is_quick_when_muted_with_clients_that_do_not_read():
    async with aiohttp.ClientSession() as session:
        async with Simulator(speed=20.0) as sim:
            wire = await session.ws_connect(
                sim.stream_url,
                headers={"key": sim.key},
                timeout=aiohttp.ClientWSTimeout(ws_close=0.1),
            )
            sim.mute()
            begun = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - begun < 0.3
        await wire.close()


async def test_a_bug_of_the_simulator_is_raised_on_exit(monkeypatch):
    def boom(*_: object) -> None:
        raise ZeroDivisionError

    sim = await Simulator().__aenter__()
    monkeypatch.setattr(sim._websockets, "push_pending", boom)
    await asyncio.sleep(0.05)
    with pytest.raises(ZeroDivisionError):
        await sim.__aexit__(None, None, None)


async def test_waiting_for_a_condition_that_stays_false_times_out():
    async with Simulator() as sim:
        with pytest.raises(TimeoutError):
            await sim.until(lambda: sim.connections, timeout=0.05)


async def test_it_serves_until_cancelled():
    async with Simulator() as sim:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await sim.serve_forever()


async def test_a_step_that_takes_long_is_not_reported_by_the_loop(raw, caplog):
    time.sleep(0.15)  # noqa: ASYNC251 - as on a busy machine
    await asyncio.sleep(0)
    assert "Executing" not in caplog.text


async def test_an_open_universe_serves_any_symbol(enter):
    raw = await enter(open_universe=True, history=30.0)
    codes = [f"US:S{n}" for n in range(100)]
    assert len((await raw.post("/snapshot", codes=codes))["data"]) == 100


SCRIPT = """
import asyncio, aiohttp
from qos_async.sim import Limits, Simulator
async def main():
    asyncio.get_running_loop().slow_callback_duration = 60.0
    async with Simulator() as sim, aiohttp.ClientSession() as session:
        async with session.ws_connect(sim.stream_url, headers={"key": sim.key}) as ws:
            await ws.send_json({"type": "H"})
            print((await ws.receive_json())["msg"])
            sim.cut()
            await ws.receive()
asyncio.run(main())
"""


def test_python_in_development_mode_prints_no_warning():
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", SCRIPT],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        cwd=ROOT,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("OK\n", "", 0)


@pytest.mark.fault("F41")
@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("rate", wrong) for wrong in (0, 0.0, -1, float("nan"), True, "1", 1e300)),
        *(("speed", wrong) for wrong in (-1.0, float("inf"), None, "1", 1e300, 10**40)),
        *(("history", wrong) for wrong in (-1, float("nan"), None, "1", 1e300)),
        *(("plan", wrong) for wrong in (3, {"symbols": 3}, Limits)),
    ],
)
def test_a_wrong_option_is_named_in_the_error(option, value):
    with pytest.raises(ValueError, match=f"{option} must be .*, not "):
        Simulator(**{option: value})


def test_the_address_is_not_available_before_entering():
    for sim in (Simulator(), Simulator(port=8765)):
        for name in ("http_url", "stream_url"):
            with pytest.raises(RuntimeError, match="enter it first"):
                getattr(sim, name)


async def test_an_ipv6_address_is_in_brackets():
    try:
        async with Simulator(host="::1") as sim:
            assert sim.http_url.startswith("http://[::1]:")
            assert sim.stream_url == sim.http_url.replace("http", "ws") + "/ws"
            async with aiohttp.ClientSession() as session:
                headers = {"key": sim.key}
                async with session.post(
                    sim.http_url + "/snapshot", headers=headers, json={}
                ) as response:
                    assert await response.json()
    except OSError:
        pytest.skip("no IPv6 here")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *[("port", value) for value in (70000, -1, 10**30, True, "1", math.nan)],
        *[("start", value) for value in (1e12, 10**30, -1, True, math.nan, math.inf)],
        *[("seed", value) for value in ([1], object(), True, math.nan, 1.0, "1", None)],
    ],
)
def test_an_option_that_does_not_fit_is_named(option, value):
    with pytest.raises(ValueError, match=f"^{option} must be .*, not "):
        Simulator(**{option: value})


@pytest.mark.parametrize("start", [0, 4_102_444_800])
async def test_the_market_works_at_both_ends_of_its_times(start):
    async with Simulator(start=start, seed=-1) as sim:
        assert isinstance(sim.tape("US:AAPL"), list)


@pytest.mark.fault("F82")
@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("too_fast", "silent"),
        ("bad_key", 401),
        ("second_connection", "Refuse"),
        ("unknown_symbol", None),
        ("reqid_on_errors", "no"),
        ("compression", 1),
        ("too_fast_code", 99),
        ("second_connection_status", True),
    ],
)
def test_a_variant_that_there_is_not_is_named_with_those_that_there_are(option, value):
    with pytest.raises(ValueError, match=f"^{option} must be .*, not {value!r}"):
        Variants(**{option: value})
