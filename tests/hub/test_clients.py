"""Clients of a hub that misbehave, or are slow; none harms another."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from qos_async import Client, Timing
from qos_async.testing.virtual import block, simulate
from tests.support.hub_rig import rigged
from tests.support.sweep import running_loop
from tests.support.tape_judge import check_trades

_NAMES = {"T": "trade", "D": "depth"}
SUBSCRIBE = {"codes": ["US:AAPL"], "reqid": 1}


@pytest.mark.fault("H6")
def test_a_slow_client_gets_the_newest_state_every_finished_bar_and_every_trade():
    async def main() -> None:
        async with rigged(rate=5.0, speed=20.0) as rig, rig.raw() as raw:
            for kind in "STDK":
                await raw.ask(type=kind, kt=1, **SUBSCRIBE)
            raw.stop_reading()
            began = rig.sim.now
            await asyncio.sleep(18)  # Six minutes of the market.
            [stats] = rig.hub.stats.clients
            assert stats.backlog > 0
            assert stats.conflated > 0
            raw.transport.resume_reading()
            ended = rig.sim.now
            received: list[dict[str, Any]] = []
            while not received or received[-1].get("ts", 0) < ended + 20:
                received.append(await raw.receive())
            own = [row for row in rig.sim.tape("US:AAPL") if began <= row["ts"] < ended]
            trades = [
                {"ts": m["ts"], "p": m["p"], "v": m["v"]}
                for m in received
                if m.get("tp") == "T" and began <= m["ts"] < ended
            ]
            assert trades == [
                {"ts": row["ts"], "p": row["p"], "v": row["v"]} for row in own
            ]
            starts = {m["ts"] for m in received if m.get("tp") == "K"}
            minutes = range(int(began // 60) * 60 + 60, int(ended // 60) * 60, 60)
            assert starts >= set(minutes)

    simulate(main)


@pytest.mark.fault("H6")
def test_a_client_that_never_reads_is_closed_and_delays_no_other():
    async def main() -> None:
        async with rigged(rate=20.0) as rig, rig.raw() as raw:
            good = await rig.consumer("US:AAPL")
            await raw.ask(type="T", **SUBSCRIBE)
            raw.stop_reading()
            await asyncio.sleep(60)
            assert len(rig.hub.stats.clients) == 1
            await rig.end_undisturbed(good)

    simulate(main)


@pytest.mark.fault("H6")
def test_a_client_that_is_too_far_behind_is_closed_with_a_reason(monkeypatch):
    monkeypatch.setattr("qos_async.hub.link._FRAMES_BEHIND_MAX", 100)

    async def main() -> None:
        async with rigged(rate=50.0, speed=20.0) as rig, rig.raw() as raw:
            await raw.ask(type="T", **SUBSCRIBE)
            raw.stop_reading()
            await asyncio.sleep(15)
            assert rig.hub.stats.clients == []

    simulate(main)


@pytest.mark.fault("H6")
def test_a_client_that_asks_for_much_and_reads_nothing_is_closed(monkeypatch):
    monkeypatch.setattr("qos_async.hub.link._BYTES_BEHIND_MAX", 1_000_000)

    async def main() -> None:
        async with rigged(rate=20.0) as rig, rig.raw() as raw:
            good = await rig.consumer("US:AAPL")
            await asyncio.sleep(5)
            raw.stop_reading()
            request = {"type": "RT", "codes": ["US:AAPL"], "count": 50, "reqid": 1}
            for _ in range(1000):
                await raw.ws.send_json(request)
            await asyncio.sleep(12)  # Less than it takes to miss its pongs.
            assert len(rig.hub.stats.clients) == 1
            check_trades(good, rig.sim)
            await good.stop()

    simulate(main)


@pytest.mark.fault("H7")
def test_a_client_that_vanishes_is_found_out_and_its_topics_go():
    async def main() -> None:
        async with rigged(hub={"linger": 0.0}) as rig, rig.raw() as raw:
            await raw.ask(type="D", **SUBSCRIBE)
            link = running_loop().net.connections[-1]
            link.blackhole()
            await asyncio.sleep(60)
            assert rig.hub.stats.clients == []
            assert rig.sim.subscribed == set()
            link.restore()

    simulate(main)


@pytest.mark.fault("H8")
def test_a_flood_of_commands_is_slowed_down_for_the_one_that_sends_it():
    async def main() -> None:
        async with rigged() as rig, rig.raw() as raw:
            good = await rig.consumer("US:AAPL")
            loop = asyncio.get_running_loop()
            began = loop.time()
            for _ in range(500):
                await raw.ws.send_json({"type": "H"})
            for _ in range(500):
                assert (await raw.receive())["msg"] == "OK"
            assert 4 <= loop.time() - began < 6  # A hundred a second.
            check_trades(good, rig.sim)
            await good.stop()

    simulate(main)


@pytest.mark.fault("H8")
def test_a_client_that_asks_again_at_each_reply_keeps_its_link():
    async def main() -> None:
        running_loop().net.latency = (0.0, 0.0)
        async with (
            rigged() as rig,
            rig.client() as client,
            client.watch_depth("US:AAPL") as books,
        ):
            await anext(aiter(books))
            for _ in range(300):
                await client.fetch_depth("US:AAPL", via="stream")
            assert client.stats.links == 1

    simulate(main)


@pytest.mark.fault("H8")
def test_a_flood_of_large_commands_is_slowed_down():
    codes = [f"US:A{n}" for n in range(4000)]

    async def main() -> None:
        async with rigged() as rig, rig.raw() as raw:
            began = asyncio.get_running_loop().time()
            for number in range(40):
                await raw.ws.send_json({"type": "RX", "codes": codes, "reqid": number})
            while (await raw.receive()).get("reqid") != 39:
                pass
            assert asyncio.get_running_loop().time() - began > 3.0
            assert len(rig.hub.stats.clients) == 1

    simulate(main)


@pytest.mark.fault("H8")
def test_pings_of_a_client_that_reads_nothing_do_not_pile_up():
    async def main() -> None:
        async with rigged() as rig, rig.raw() as raw:
            raw.stop_reading()
            for _ in range(2000):
                await raw.ws.ping(b"x" * 100)
            await asyncio.sleep(1)
            waiting = [one for one in asyncio.all_tasks() if "_pong" in repr(one)]
            assert len(waiting) <= 1
            assert len(rig.hub.stats.clients) == 1

    simulate(main)


def test_every_ping_of_a_client_that_reads_is_answered():
    async def main() -> None:
        async with rigged() as rig, rig.raw() as raw:
            ws = raw.ws
            ws._autoping = False
            for n in range(3):
                await ws.ping(f"{n}".encode())
                pong = await ws.receive()
                assert (pong.type.name, pong.data) == ("PONG", f"{n}".encode())
            assert len(rig.hub.stats.clients) == 1

    simulate(main)


@pytest.mark.fault("H8")
@pytest.mark.parametrize(
    ("limit", "frames", "reason"),
    [
        ("_PENDING_MAX", 9, "more than 5 commands at once"),
        ("_TOPICS_MAX", 1, "More than 5 topics."),
    ],
)
def test_what_one_client_may_have_is_limited(monkeypatch, limit, frames, reason):
    monkeypatch.setattr(f"qos_async.hub.commands.{limit}", 5)

    async def main() -> None:
        async with rigged() as rig, rig.raw() as raw:
            for n in range(frames):
                codes = [f"US:A{n}{m}" for m in range(6)]
                kind = "T" if frames == 1 else "RI"
                await raw.ws.send_json({"type": kind, "codes": codes, "reqid": n})
            if frames > 1:
                assert await raw.closing() == (1008, reason)
            else:
                assert (await raw.receive())["msg"] == reason

    simulate(main)


@pytest.mark.fault("H9")
@pytest.mark.parametrize("garbage", ["", "{", "[]", "1", '"x"', "\x00", "{" * 9000])
def test_garbage_is_answered_with_an_error_and_in_the_end_with_a_close(garbage):
    async def main() -> None:
        async with rigged() as rig, rig.raw() as raw:
            await raw.ws.send_str(garbage)
            assert "not an object" in (await raw.receive())["msg"]
            assert (await raw.ask(type="H"))["msg"] == "OK"
            for _ in range(20):
                await raw.ws.send_str(garbage)
            assert await raw.closing() == (1008, "frames that are no JSON objects")

    simulate(main)


@pytest.mark.fault("H9")
@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"type": "X"}, "Unknown type: X"),
        ({}, "Unknown type: "),
        ({"type": "T"}, "Parameter error: codes"),
        ({"type": "T", "codes": "US:AAPL"}, "Parameter error: codes"),
        ({"type": "T", "codes": [None]}, "Parameter error: malformed symbol"),
        ({"type": "K", "codes": ["US:AAPL"]}, "Parameter error: kt None"),
        (
            {"type": "RT", "codes": ["US:AAPL"], "count": 51},
            "Parameter error: count 51",
        ),
        ({"type": "RK", "kline_reqs": [1]}, "Parameter error: kline_reqs"),
        (
            {"type": "RH", "kline_reqs": [{"c": "US:A", "kt": 1, "co": 1}]},
            "Parameter err",
        ),
        ({"type": ["T"], "codes": {}}, "Unknown type: ['T']"),
    ],
)
def test_a_malformed_command_is_rejected_with_the_reason(frame, message):
    async def main() -> None:
        async with rigged() as rig, rig.raw() as raw:
            reply = await raw.ask(**frame, reqid=77)
            assert reply["msg"].startswith(message)
            assert reply["reqid"] == 77

    simulate(main)


@pytest.mark.fault("H9")
@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 50,  # A reserved opcode.
        b"\x83\x80\x00\x00\x00\x00",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00" * 5000,
    ],
)
def test_bytes_that_are_no_frames_end_the_link_and_no_other(data):
    async def main() -> None:
        async with rigged() as rig:
            good = await rig.consumer("US:AAPL")
            async with rig.raw() as raw:
                await raw.ask(type="T", **SUBSCRIBE)
                raw.transport.write(data)
                await raw.closing()
            await asyncio.sleep(10)
            assert len(rig.hub.stats.clients) == 1
            await rig.end_undisturbed(good)

    simulate(main)


@pytest.mark.fault("H9")
def test_what_is_no_request_is_refused_and_disturbs_no_client():
    async def main() -> None:
        async with rigged() as rig:
            good = await rig.consumer("US:AAPL")
            port = int(rig.hub.http_url.rpartition(":")[2].partition("/")[0])
            for data in (b"\x16\x03\x01\x02\x00", b"\x00" * 100_000, b"X" * 100_000):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(data + b"\r\n\r\n")
                reply = await reader.read()  # Until the hub closes it.
                assert not reply or reply[8:13] == b" 400 "
                writer.close()
            await rig.end_undisturbed(good)

    simulate(main)


@pytest.mark.fault("H9")
def test_a_frame_that_is_too_large_ends_the_link():
    async def main() -> None:
        async with rigged() as rig, rig.raw() as raw:
            await raw.ws.send_str("x" * 100_000)
            code, _ = await raw.closing()
            assert code == 1009

    simulate(main)


@pytest.mark.fault("H10")
def test_a_storm_of_subscriptions_leaves_what_was_asked_for_last():
    async def main() -> None:
        async with rigged(hub={"linger": 0.0}) as rig, rig.raw() as raw:
            for n in range(40):
                kind = "T" if n % 2 == 0 else "TC"
                await raw.ws.send_json({"type": kind, **SUBSCRIBE})
            reply = await raw.ask(type="D", codes=["HK:700"], reqid=2)
            assert reply["msg"] == "OK"
            await asyncio.sleep(30)
            assert rig.sim.subscribed == {("D", "HK:700", None)}
            assert rig.sim.violations == []

    simulate(main)


def test_the_pushes_of_a_topic_end_with_its_unsubscription():
    async def main() -> None:
        async with rigged() as rig, rig.raw() as raw:
            await raw.ask(type="T", **SUBSCRIBE)
            assert (await raw.receive())["tp"] == "T"
            assert (await raw.ask(type="TC", codes=["US:AAPL"], reqid=2))["msg"] == "OK"
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(20):
                    await raw.receive()

    simulate(main)


@pytest.mark.fault("H6")
def test_a_hub_whose_loop_was_held_logs_for_how_long(caplog):
    async def main() -> None:
        async with rigged() as rig:
            await asyncio.sleep(1)
            assert rig.hub.stats.loop_lag_max < 0.05
            block(0.4)
            await asyncio.sleep(1)
            assert 0.1 < rig.hub.stats.loop_lag_max <= 0.41

    simulate(main)
    assert "the event loop of the hub was held for 0." in caplog.text


@pytest.mark.fault("H10")
def test_a_storm_from_many_clients_leaves_the_union_and_disturbs_no_other():
    async def main() -> None:
        async with rigged(hub={"linger": 0.0}) as rig, AsyncExitStack() as stack:
            good = await rig.consumer("US:AAPL")
            rng = random.Random(1)
            links = [await stack.enter_async_context(rig.raw()) for _ in range(20)]
            for _ in range(60):
                for raw in links:
                    kind = rng.choice(["T", "TC", "D", "DC"])
                    code = rng.choice(["US:AAPL", "US:TSLA", "HK:700"])
                    await raw.ws.send_json({"type": kind, "codes": [code], "reqid": 1})
                await asyncio.sleep(0.05)
            await asyncio.sleep(30)
            wanted = {
                name for client in rig.hub.stats.clients for name in client.topics
            }
            assert len(rig.hub.stats.clients) == 21
            assert {
                f"{_NAMES[t.letter]} {t.symbol}" for t in rig.sim.subscribed
            } == wanted
            check_trades(good, rig.sim)
            assert good.gaps() == []
            assert rig.sim.violations == []
            await good.stop()

    simulate(main)


@pytest.mark.fault("H11")
def test_more_clients_than_the_hub_takes_are_asked_to_come_back(monkeypatch):
    monkeypatch.setattr("qos_async.hub.clients._CLIENTS_MAX", 2)

    async def main() -> None:
        async with rigged() as rig, rig.raw() as first, rig.raw():
            with pytest.raises(aiohttp.WSServerHandshakeError) as error:
                async with rig.raw():
                    pass
            assert error.value.status == 503
            assert error.value.headers is not None
            assert error.value.headers["Retry-After"] == "1"
            assert rig.hub.stats.refused == 1
            await first.ws.close()
            async with rig.raw() as third:
                assert (await third.ask(type="H"))["msg"] == "OK"

    simulate(main)


@pytest.mark.fault("H11")
def test_a_hundred_clients_have_every_trade():
    async def main() -> None:
        async with rigged() as rig:
            consumers = []
            for n in range(100):
                consumers.append(await rig.consumer(("US:AAPL", "HK:700")[n % 2]))
                await asyncio.sleep(0.05)
            await asyncio.sleep(20)
            for consumer in consumers:
                assert len(consumer.events) > 20
                check_trades(consumer, rig.sim)
            await asyncio.gather(*(consumer.stop() for consumer in consumers))
            assert rig.sim.connections == 1
            assert rig.sim.violations == []

    simulate(main)


@pytest.mark.parametrize("options", [{}, {"timing": Timing(close_timeout=1.0)}])
def test_a_client_dials_a_hub_that_is_away_every_few_seconds(options: Any):
    async def main() -> None:
        url = "127.0.0.1:1/hub"
        client = Client(
            "k", http_url=f"http://{url}", stream_url=f"ws://{url}/ws", **options
        )
        async with client:
            states, waits = client.states(), list[float]()
            ticks = client.watch_trades("US:AAPL")
            reading = asyncio.create_task(anext(aiter(ticks)))
            while len(waits) < 30:
                waits.append((await anext(states)).retry_in)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            assert 1.0 < max(waits) <= 5.0

    simulate(main)
