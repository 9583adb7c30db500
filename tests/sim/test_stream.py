"""The websocket's commands and pushes, with a plain websocket client."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from pathlib import Path

import aiohttp
import pytest

from qos_async.sim import Variants, WireTopic

SAMPLES = Path(__file__).parents[1] / "samples"
LETTERS = ["S", "T", "D", "K"]
FAST = 60.0


def kt(letter: str) -> dict[str, int]:
    return {"kt": 1} if letter == "K" else {}


async def test_the_reply_to_a_heartbeat_has_the_time_and_no_reqid(raw):
    wire = await raw.dial()
    reply = await wire.request("H")
    assert list(reply) == ["type", "msg", "time"]
    assert (reply["type"], reply["msg"]) == ("H", "OK")
    assert reply["time"] == int(raw.sim.now)


@pytest.mark.parametrize("letter", LETTERS)
async def test_subscribing_and_unsubscribing_are_acknowledged(raw, letter):
    wire = await raw.dial()
    reply = await wire.request(
        letter, "US:AAPL,TSLA", "HK:00700", reqid=7, **kt(letter)
    )
    assert list(reply) == ["type", "msg", "time", "reqid"]
    assert (reply["type"], reply["msg"], reply["reqid"]) == (letter, "OK", 7)
    interval = kt(letter).get("kt")
    assert raw.sim.subscribed == {
        (letter, "US:AAPL", interval),
        (letter, "US:TSLA", interval),
        WireTopic(letter, "HK:700", interval),
    }
    reply = await wire.request(f"{letter}C", "US:TSLA", "HK:700", **kt(letter))
    assert (reply["type"], reply["msg"]) == (f"{letter}C", "OK")
    assert raw.sim.subscribed == {(letter, "US:AAPL", interval)}
    assert raw.sim.violations == []


@pytest.mark.parametrize("letter", LETTERS)
@pytest.mark.parametrize("symbol", ["US:AAPL", "CF:BTCUSDT", "HK:700", "SH:600519"])
async def test_pushes_have_the_data_of_the_market(enter, letter, symbol):
    raw = await enter(speed=FAST)
    wire = await raw.dial()
    await wire.request(letter, symbol, **kt(letter))
    for _ in range(3):
        push = await wire.push()
        assert push.pop("tp") == letter
        assert push["c"] == symbol
    assert raw.sim.pushed[letter] >= 3
    names = {
        "S": "c lp yp o h l ts v t s",
        "T": "c p v ts d",
        "D": "c b a ts",
        "K": "c o cl h l v ts kt",
    }[letter].split()
    if letter == "S":
        names = [one for one in names if symbol[:2] != "CF" or one != "yp"]
        names += ["tt"] if symbol[:2] == "US" else []
    assert sorted(push) == sorted(names)


@pytest.mark.parametrize(
    "name", [f"ws-R{one}" for one in ("S-snapshot", "D-depth", "T-trade")]
)
async def test_replies_have_type_msg_reqid_and_data_and_no_time(raw, name):
    question = json.loads((SAMPLES / f"{name}.request.json").read_bytes())
    recorded = json.loads((SAMPLES / f"{name}.response.json").read_bytes())
    wire = await raw.dial()
    await wire.ws.send_str(json.dumps(question))
    reply = await wire.reply()
    assert list(reply) == list(recorded)
    ours = {row["c"]: set(row) for row in reply["data"]}
    for row in recorded["data"]:
        assert set(row) <= ours[row["c"]]


@pytest.mark.parametrize("name", ["RK-kline", "RH-history", "RI-instrument-info"])
async def test_other_replies_have_the_recorded_names(raw, name):
    question = json.loads((SAMPLES / f"ws-{name}.request.json").read_bytes())
    recorded = json.loads((SAMPLES / f"ws-{name}.response.json").read_bytes())
    wire = await raw.dial()
    await wire.ws.send_str(json.dumps(question))
    reply = await wire.reply()
    assert list(reply) == list(recorded)
    ours = {row["c"]: row for row in reply["data"]}
    for row in recorded["data"]:
        assert list(row) == list(ours[row["c"]])
        if "k" in row:
            assert list(row["k"][0]) == list(ours[row["c"]]["k"][0])
            assert len(row["k"]) == len(ours[row["c"]]["k"])


async def test_every_trade_after_the_acknowledgement_is_pushed_once_in_order(enter):
    raw = await enter(speed=FAST)
    wire = await raw.dial()
    before = len(raw.sim.tape("CF:BTCUSDT"))
    await wire.request("T", "CF:BTCUSDT")
    acknowledged = len(raw.sim.tape("CF:BTCUSDT"))
    pushed = [await wire.push() for _ in range(60)]
    for push in pushed:
        assert push.pop("tp") == "T"
    tape = raw.sim.tape("CF:BTCUSDT")
    first = tape.index(pushed[0], before - 1)
    assert tape[first : first + 60] == pushed
    assert first <= acknowledged


async def test_a_request_for_trades_never_suppresses_a_push(enter):
    raw = await enter(speed=FAST)
    wire, other = await raw.dial(), await raw.dial()
    await wire.request("T", "CF:BTCUSDT")
    start = await wire.push()
    for _ in range(20):
        reply = await other.request("RT", "CF:BTCUSDT", count=1)
        await other.request("T", "CF:BTCUSDT,ETHUSDT")
    newest = reply["data"][0]
    pushed = [start]
    while {**newest, "tp": "T"} != pushed[-1]:
        pushed.append(await wire.push())
    del start["tp"]
    tape = raw.sim.tape("CF:BTCUSDT")
    rest = tape[tape.index(start) :]
    assert [{**one, "tp": "T"} for one in rest[1 : len(pushed)]] == pushed[1:]


async def test_no_trade_is_lost_between_the_acknowledgement_and_the_next_push(enter):
    raw = await enter(speed=FAST, push_interval=0.2)
    wire = await raw.dial()
    before = len(raw.sim.tape("CF:BTCUSDT"))
    await wire.request("T", "CF:BTCUSDT")
    acknowledged = len(raw.sim.tape("CF:BTCUSDT"))
    push = await wire.push()
    del push["tp"]
    # Those of the next beat alone would begin about 40 trades later.
    assert raw.sim.tape("CF:BTCUSDT").index(push, before - 1) <= acknowledged


async def test_a_reply_is_sent_after_the_pushes_of_everything_it_contains(enter):
    raw = await enter(speed=FAST, push_interval=0.2)
    wire = await raw.dial()
    await wire.request("T", "CF:BTCUSDT")
    await wire.push()
    await asyncio.sleep(0.1)  # In the middle of two beats.
    reply = await wire.request("RT", "CF:BTCUSDT", count=1)
    assert {"tp": "T", **reply["data"][0]} == wire.pushes[-1]


async def test_klines_are_pushed_by_interval_and_once_more_when_they_end(enter):
    raw = await enter(speed=120.0, rate=5.0)
    wire = await raw.dial()
    await wire.request("K", "CF:BTCUSDT", kt=1)
    await wire.request("K", "CF:BTCUSDT", kt=1001)
    last: dict[int, dict[str, object]] = {}
    async with asyncio.timeout(4):
        while len(last) < 4:
            push = await wire.push()
            if push["kt"] == 1:
                last[push["ts"]] = push
    trades = raw.sim.tape("CF:BTCUSDT")
    for start in sorted(last)[1:-1]:
        inside = [one for one in trades if start <= one["ts"] < start + 60]
        assert last[start]["v"] == str(sum(Decimal(one["v"]) for one in inside))
        assert last[start]["cl"] == inside[-1]["p"]


async def test_a_link_receives_only_its_topics(enter):
    raw = await enter(speed=FAST)
    one, two = await raw.dial(), await raw.dial()
    await one.request("T", "US:AAPL")
    await two.request("D", "HK:700")
    assert {(p["tp"], p["c"]) for p in [await one.push() for _ in range(5)]} == {
        ("T", "US:AAPL")
    }
    assert {(p["tp"], p["c"]) for p in [await two.push() for _ in range(5)]} == {
        ("D", "HK:700")
    }
    assert raw.sim.connections == 2
    await one.ws.close()
    await raw.sim.until(lambda: raw.sim.connections == 1)
    assert raw.sim.subscribed == {("D", "HK:700", None)}


async def test_nothing_is_pushed_after_unsubscribing(enter):
    raw = await enter(speed=FAST)
    wire = await raw.dial()
    await wire.request("T", "US:AAPL")
    await wire.push()
    await wire.request("TC", "US:AAPL")
    assert await wire.quiet()


async def test_a_missing_reqid_is_not_echoed_and_is_recorded(raw):
    wire = await raw.dial()
    await wire.ws.send_str('{"type":"T","codes":["US:AAPL"]}')
    assert "reqid" not in await wire.reply()
    assert "no reqid" in raw.sim.violations[0]


@pytest.mark.parametrize("reqid", [0, "7", 1.5])
async def test_a_reqid_that_is_not_a_nonzero_integer_is_recorded(raw, reqid):
    wire = await raw.dial()
    assert (await wire.request("T", "US:AAPL", reqid=reqid))["reqid"] == reqid
    assert len(raw.sim.violations) == 1


async def test_a_repeated_reqid_is_recorded_unless_it_is_on_another_link(raw):
    wire = await raw.dial()
    await wire.request("T", "US:AAPL", reqid=1)
    await (await raw.dial()).request("T", "US:AAPL", reqid=1)
    assert raw.sim.violations == []
    await wire.request("RS", "US:AAPL", reqid=1)
    assert "second time" in raw.sim.violations[0]


@pytest.mark.parametrize(
    ("type", "body"),
    [
        ("X", {"codes": ["US:AAPL"]}),
        ("TX", {"codes": ["US:AAPL"]}),
        ("", {}),
        ("K", {"codes": ["US:AAPL"]}),
        ("K", {"codes": ["US:AAPL"], "kt": 7}),
        ("T", {}),
        ("T", {"codes": "US:AAPL"}),
        ("T", {"codes": ["US:AAPL,HK:700"]}),
        ("RT", {"codes": ["US:AAPL"], "count": 51}),
        ("RK", {"kline_reqs": [7]}),
        ("RH", {"kline_reqs": [{"c": "US:AAPL", "co": 1, "a": 0, "kt": 1}]}),
    ],
)
async def test_a_wrong_command_is_rejected_and_recorded(raw, type, body):
    wire = await raw.dial()
    reply = await wire.request(type, reqid=5, **body)
    assert reply["msg"] != "OK"
    assert (reply["type"], reply["reqid"]) == (type, 5)
    assert len(raw.sim.violations) == 1
    assert raw.sim.subscribed == set()


@pytest.mark.parametrize("frame", [b"{", b"[]", b"7", b"\xff\xfe"])
async def test_a_frame_that_is_not_an_object_is_rejected_and_recorded(raw, frame):
    wire = await raw.dial()
    await wire.ws.send_frame(frame, aiohttp.WSMsgType.TEXT)
    assert (await wire.reply())["msg"] != "OK"
    assert len(raw.sim.violations) == 1
    assert raw.sim.frames[0].type == ""


async def test_frames_are_logged_with_time_link_and_body(raw):
    first, second = await raw.dial(), await raw.dial()
    await first.request("T", "US:AAPL", reqid=1)
    await second.request("H")
    await first.request("RS", "US:AAPL", reqid=2)
    frames = [(one.link, one.type, one.body.get("reqid")) for one in raw.sim.frames]
    assert frames == [(1, "T", 1), (2, "H", None), (1, "RS", 2)]
    times = [one.at for one in raw.sim.frames]
    assert times == sorted(times)
    assert raw.sim.received("T", "RS") == [raw.sim.frames[0], raw.sim.frames[2]]


async def test_protocol_pings_are_answered(raw):
    wire = await raw.dial()
    await wire.ws.ping(b"there?")
    message = await wire.receive()
    assert (message.type, message.data) == (aiohttp.WSMsgType.PONG, b"there?")


async def test_compression_is_accepted_unless_the_variant_forbids_it(enter):
    for agreed in (True, False):
        raw = await enter(variants=Variants(compression=agreed))
        wire = await raw.dial(compress=15)
        assert bool(wire.ws.compress) is agreed
        assert (await wire.request("RS", "US:AAPL"))["msg"] == "OK"


async def test_the_key_can_be_in_the_url(raw):
    wire = await raw.dial(headers={}, url=f"{raw.sim.stream_url}?key={raw.sim.key}")
    assert (await wire.request("H"))["msg"] == "OK"
    assert raw.sim.requests[0].key_in == "url"


async def test_the_same_seed_pushes_the_same_trades(enter):
    tapes = []
    for _ in range(2):
        raw = await enter(seed=5)
        await raw.post("/trade", codes=["US:AAPL"])
        tapes.append(raw.sim.tape("US:AAPL")[:1000])
    assert tapes[0] == tapes[1]
