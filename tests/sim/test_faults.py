"""Injected faults, from the client's side."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from qos_async.sim import Close, Cut, Mute
from qos_async.sim.faults import FaultRules

START = 1_741_958_430.0


def test_rules_match_their_types_and_count_down():
    rules: FaultRules[str] = FaultRules([])
    rules.add("a", ("T", "S"), 2)
    rules.add("b", None, 1)
    assert [rules.next_action(one) for one in ("D", "D", "T", "S", "T")] == [
        "b",
        None,
        "a",
        "a",
        None,
    ]


def test_a_rule_without_a_count_lasts():
    rules: FaultRules[str] = FaultRules([])
    rules.add("a", "T", None)
    assert [rules.next_action("T") for _ in range(5)] == ["a"] * 5


async def test_a_cut_ends_the_link_without_a_close_frame(raw):
    wire = await raw.dial()
    await wire.request("T", "US:AAPL")
    raw.sim.cut()
    assert await wire.end() is None
    assert wire.ws.close_code == 1006
    await raw.sim.until(lambda: raw.sim.connections == 0)
    assert raw.sim.subscribed == set()


async def test_a_cut_can_apply_to_one_link(raw):
    first, second = await raw.dial(), await raw.dial()
    raw.sim.cut(2)
    assert await second.end() is None
    assert (await first.request("H"))["msg"] == "OK"


async def test_the_market_goes_on_during_an_outage(enter):
    raw = await enter(speed=20.0)
    wire = await raw.dial()
    await wire.request("T", "CF:BTCUSDT")
    await wire.push()
    raw.sim.cut()
    await wire.end()
    before = len(raw.sim.tape("CF:BTCUSDT"))
    await raw.sim.until(lambda: len(raw.sim.tape("CF:BTCUSDT")) > before + 5)
    missed = raw.sim.tape("CF:BTCUSDT")[before : before + 5]
    wire = await raw.dial()
    await wire.request("T", "CF:BTCUSDT")
    push = await wire.push()
    assert push["ts"] >= missed[-1]["ts"]
    reply = await wire.request("RT", "CF:BTCUSDT", count=50)
    assert all(one in reply["data"] for one in missed)


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1012, 4321])
async def test_links_are_closed_with_a_code_and_a_reason(raw, code):
    wire = await raw.dial()
    closing = asyncio.create_task(raw.sim.close(code, "so long"))
    message = await wire.receive()
    assert message.type is aiohttp.WSMsgType.CLOSE
    assert (message.data, message.extra) == (code, "so long")
    await closing
    await raw.sim.until(lambda: raw.sim.connections == 0)


async def test_frames_sent_before_the_close_still_arrive(raw):
    wire = await raw.dial()
    for number in range(200):
        raw.sim.push({"tp": "X", "n": number})
    closing = asyncio.create_task(raw.sim.close())
    for number in range(200):
        assert await wire.next() == {"tp": "X", "n": number}
    assert await wire.end() == 1001
    await closing


async def test_closing_does_not_wait_long_for_a_client_that_does_not_read(raw):
    wire = await raw.dial()
    begun = asyncio.get_running_loop().time()
    await raw.sim.close()  # The client does not read.
    assert asyncio.get_running_loop().time() - begun < 1.2
    assert await wire.end() == 1001


async def test_a_muted_server_holds_replies_pongs_and_handshakes(enter):
    raw = await enter(speed=20.0)
    wire = await raw.dial()
    await wire.request("T", "CF:BTCUSDT")
    raw.sim.mute()
    while not await wire.quiet(0.05):  # What was in transit.
        pass
    await wire.ws.ping()
    await wire.send("H")
    request_task = asyncio.create_task(raw.post("/snapshot", codes=["US:AAPL"]))
    dialling = asyncio.create_task(raw.dial())
    assert await wire.quiet(0.1)
    assert not request_task.done()
    assert not dialling.done()
    assert raw.sim.received("H")
    raw.sim.unmute()
    assert (await request_task)["msg"] == "OK"
    assert (await (await dialling).request("H"))["msg"] == "OK"
    types = {(await wire.receive()).type for _ in range(20)}
    assert types == {aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.PONG}


async def test_muting_can_apply_to_open_links_only(raw):
    old = await raw.dial()
    raw.sim.mute(new_connections=False)
    await old.send("H")
    assert await old.quiet(0.05)
    new = await raw.dial()
    assert (await new.request("H"))["msg"] == "OK"
    await raw.post("/snapshot", codes=["US:AAPL"])


async def test_a_muted_link_sends_no_close_frame(raw):
    wire = await raw.dial()
    raw.sim.mute()
    await wire.ws.close()  # Times out.
    assert wire.ws.close_code == 1006


@pytest.mark.parametrize("status", [302, 403, 429, 500, 503])
async def test_upgrades_are_rejected_the_given_number_of_times(raw, status):
    raw.sim.reject_upgrades(status, count=2, headers={"Retry-After": "7"})
    for _ in range(2):
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await raw.dial()
        assert caught.value.status == status
        assert caught.value.headers is not None
        assert caught.value.headers["Retry-After"] == "7"
    await raw.dial()


async def test_upgrades_can_be_aborted_until_allowed_again(raw):
    raw.sim.reject_upgrades(None, count=None)
    for _ in range(3):
        with pytest.raises(aiohttp.ClientError):
            await raw.dial()
    raw.sim.allow_upgrades()
    await raw.dial()
    assert {one.path for one in raw.sim.requests} == {"/ws"}


async def test_replies_are_delayed(raw):
    wire = await raw.dial()
    raw.sim.delay_replies(0.1, "RS")
    raw.sim.delay_replies(0.1, "/snapshot", count=1)
    begun = asyncio.get_running_loop().time()
    await wire.send("RS", "US:AAPL")
    assert (await wire.request("H"))["type"] == "H"
    assert (await wire.reply())["type"] == "RS"
    assert asyncio.get_running_loop().time() - begun >= 0.1
    begun = asyncio.get_running_loop().time()
    await raw.post("/snapshot", codes=["US:AAPL"])
    assert asyncio.get_running_loop().time() - begun >= 0.1
    raw.sim.delay_replies(0)
    await wire.send("RS", "US:AAPL")
    await wire.send("H")
    assert (await wire.reply())["type"] == "RS"


async def test_delayed_replies_are_discarded_with_their_link(raw):
    wire = await raw.dial()
    raw.sim.delay_replies(30)
    await wire.send("RS", "US:AAPL")
    await raw.sim.until(lambda: raw.sim.frames)
    raw.sim.cut()
    await wire.end()
    await raw.sim.until(lambda: raw.sim.connections == 0)


async def test_replies_are_dropped_but_commands_processed(raw):
    wire = await raw.dial()
    raw.sim.drop_replies("T", count=1)
    await wire.send("T", "US:AAPL")
    assert (await wire.request("D", "US:AAPL"))["type"] == "D"
    assert ("T", "US:AAPL", None) in raw.sim.subscribed
    assert (await wire.request("T", "US:TSLA"))["type"] == "T"


async def test_a_dropped_http_response_never_arrives(raw):
    raw.sim.drop_replies("/depth")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await raw.post("/depth", codes=["US:AAPL"])
    await raw.post("/depth", codes=["US:AAPL"])


async def test_commands_and_requests_are_rejected_with_any_message(raw):
    wire = await raw.dial()
    raw.sim.reject("Not today", ("T", "/snapshot"), count=2)
    assert (await wire.request("T", "US:AAPL", reqid=9)) == {
        "type": "T",
        "msg": "Not today",
        "time": int(raw.sim.now),
        "reqid": 9,
    }
    assert raw.sim.subscribed == set()
    assert await raw.post_any("/snapshot", {}) == (400, {"msg": "Not today"})
    await raw.post("/snapshot", codes=["US:AAPL"])


@pytest.mark.parametrize("frame", [b"\xff\x00{", b"", b"[" * 1000, b"null"])
async def test_garbage_arrives_unchanged(raw, frame):
    wire = await raw.dial(decode_text=False)
    raw.sim.push_garbage(frame)
    message = await wire.receive()
    assert (message.type, message.data) == (aiohttp.WSMsgType.TEXT, frame)
    assert (await wire.request("H"))["msg"] == "OK"


async def test_any_frame_can_be_pushed_to_one_link(raw):
    first, second = await raw.dial(), await raw.dial()
    raw.sim.push({"tp": "T", "c": "US:AAPL"}, link=2)
    raw.sim.push(b'{"tp":"Z"}', link=2)
    assert await second.next() == {"tp": "T", "c": "US:AAPL"}
    assert await second.next() == {"tp": "Z"}
    assert await first.quiet(0.05)


async def test_http_requests_fail_with_any_response(raw):
    raw.sim.fail_http(502, count=2)
    raw.sim.fail_http(302, headers={"Location": "https://example.com/"})
    url = raw.sim.http_url + "/snapshot"
    for status in (502, 502, 302):
        async with raw.session.post(url, json={}, allow_redirects=False) as response:
            assert response.status == status
            assert b"<html>" in await response.read()
    assert response.headers["Location"] == "https://example.com/"


async def test_http_requests_can_fail_for_one_path_only(raw):
    raw.sim.fail_http(500, paths="/depth", body=b"{")
    await raw.post("/snapshot", codes=["US:AAPL"])
    url = raw.sim.http_url + "/depth"
    async with raw.session.post(url, json={}) as response:
        assert (response.status, await response.read()) == (500, b"{")


async def test_http_connections_are_aborted(raw):
    raw.sim.fail_http(None)
    with pytest.raises(aiohttp.ClientError):
        await raw.post("/depth", codes=["US:AAPL"])
    await raw.post("/depth", codes=["US:AAPL"])


async def test_faults_happen_on_schedule(enter):
    raw = await enter(
        faults=[
            Cut(after=0.3),
            Close(after=0.6, code=1012, reason="restart"),
            Mute(after=0.9, lasting=60.0),
        ]
    )
    assert await (await raw.dial()).end() is None
    assert await (await raw.dial()).end() == 1012
    wire = await raw.dial()
    await wire.send("H")
    assert (await wire.reply())["msg"] == "OK"
    async with asyncio.timeout(20):
        await wire.send("H")
        while not await wire.quiet(0.3):  # Until it is muted.
            await wire.send("H")


async def test_an_outage_aborts_all_connections_until_it_is_over(raw):
    wire = await raw.dial()
    outage = asyncio.create_task(raw.sim.outage(0.2))
    assert await wire.end() is None
    with pytest.raises(aiohttp.ClientError):
        await raw.dial()
    with pytest.raises(aiohttp.ClientError):
        await raw.post("/snapshot", codes=["US:AAPL"])
    await outage
    assert (await (await raw.dial()).request("H"))["msg"] == "OK"
    await raw.post("/snapshot", codes=["US:AAPL"])


async def test_rejected_symbols_are_rejected_in_every_command_and_request(raw):
    wire = await raw.dial()
    assert (await wire.request("T", "CF:ETHUSDT"))["msg"] == "OK"
    raw.sim.reject_symbols("CF:ETHUSDT", "HK:00700", message="No permission")
    no = "No permission: CF:ETHUSDT"
    assert (await wire.request("T", "CF:BTCUSDT,ETHUSDT"))["msg"] == no
    assert (await raw.post_any("/trade", {"codes": ["CF:ETHUSDT"]}))[1]["msg"] == no
    span = {"c": "HK:700", "co": 1, "a": 0, "kt": 1}
    status, reply = await raw.post_any("/kline", {"kline_reqs": [span]})
    assert (status, reply["msg"]) == (400, "No permission: HK:700")
    assert (await wire.request("TC", "CF:ETHUSDT"))["msg"] == "OK"
    raw.sim.allow_symbols("CF:ETHUSDT")
    assert (await wire.request("T", "CF:BTCUSDT,ETHUSDT"))["msg"] == "OK"
    raw.sim.allow_symbols()
    assert (await wire.request("T", "HK:700"))["msg"] == "OK"
