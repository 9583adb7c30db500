"""Limits of the plan: recorded, and enforced as the variant says."""

from __future__ import annotations

import aiohttp
import pytest

from qos_async.config import Limits
from qos_async.sim import Variants
from qos_async.sim.requests import UsageMeter


def plan(**limits: float) -> Limits:
    free = {"symbols": 100, "connections": 10, "command_interval": 0.0}
    return Limits(**{**free, **limits})  # type: ignore[arg-type]


def test_the_meter_measures_between_the_frames_of_all_links():
    meter = UsageMeter(Limits(command_interval=1.0))
    assert meter.count_frame(10.0) is None
    assert meter.count_frame(11.0) is None
    assert meter.count_frame(11.9) == pytest.approx(0.9)
    assert meter.count_frame(12.5) == pytest.approx(
        0.6
    )  # Counted from the rejected one.
    assert meter.count_frame(13.4995) is None  # Within the tolerance.


def test_the_meter_counts_requests_in_any_period():
    meter = UsageMeter(Limits(http_requests=2, http_period=60.0))
    assert [meter.allow_request(at) for at in (0, 50, 55, 59.9)] == [
        True,
        True,
        False,
        False,
    ]
    assert meter.allow_request(60.0)
    assert not meter.allow_request(100.0)
    assert meter.allow_request(110.0)


async def test_an_early_frame_gets_an_error(enter):
    raw = await enter(plan=plan(command_interval=5.0))
    wire = await raw.dial()
    assert (await wire.request("H"))["msg"] == "OK"
    reply = await wire.request("T", "US:AAPL", reqid=4)
    assert "frequent" in reply["msg"]
    assert (reply["type"], reply["reqid"]) == ("T", 4)
    assert raw.sim.subscribed == set()
    assert "link 1: T arrived 0.0" in raw.sim.violations[0]


async def test_the_command_interval_applies_across_all_links_of_a_key(enter):
    raw = await enter(plan=plan(command_interval=5.0))
    await (await raw.dial()).request("H")
    assert "frequent" in (await (await raw.dial()).request("H"))["msg"]


async def test_frames_within_the_rate_are_no_violation(enter):
    raw = await enter(plan=plan(command_interval=0.05))
    wire = await raw.dial()
    for _ in range(3):
        assert (await wire.request("H"))["msg"] == "OK"
        assert await wire.quiet(0.06)
    assert raw.sim.violations == []


async def test_an_early_frame_can_be_processed(enter):
    raw = await enter(
        plan=plan(command_interval=5.0), variants=Variants(too_fast="ignore")
    )
    wire = await raw.dial()
    await wire.request("H")
    assert (await wire.request("T", "US:AAPL"))["msg"] == "OK"
    assert len(raw.sim.violations) == 1


async def test_an_early_frame_can_be_dropped(enter):
    raw = await enter(
        plan=plan(command_interval=5.0), variants=Variants(too_fast="drop")
    )
    wire = await raw.dial()
    await wire.request("H")
    await wire.send("T", "US:AAPL")
    assert await wire.quiet()
    assert raw.sim.subscribed == set()
    assert len(raw.sim.violations) == 1


async def test_an_early_frame_can_close_the_link(enter):
    raw = await enter(
        plan=plan(command_interval=5.0),
        variants=Variants(too_fast="close", too_fast_code=4001),
    )
    wire = await raw.dial()
    await wire.request("H")
    await wire.send("T", "US:AAPL")
    assert await wire.end() == 4001
    await raw.sim.until(lambda: raw.sim.connections == 0)


async def test_distinct_symbols_of_a_link_are_limited_over_all_channels(enter):
    raw = await enter(plan=plan(symbols=2))
    wire = await raw.dial()
    assert (await wire.request("T", "US:AAPL"))["msg"] == "OK"
    assert (await wire.request("D", "US:AAPL"))["msg"] == "OK"
    assert (await wire.request("K", "US:AAPL,TSLA", kt=1))["msg"] == "OK"
    reply = await wire.request("T", "US:NVDA", "US:TSLA")
    assert "limit" in reply["msg"]
    assert ("T", "US:TSLA", None) not in raw.sim.subscribed
    assert len(raw.sim.violations) == 1
    await wire.request("KC", "US:TSLA", kt=1)
    assert (await wire.request("T", "US:NVDA"))["msg"] == "OK"
    assert len(raw.sim.violations) == 1


async def test_symbols_that_fit_can_be_accepted(enter):
    raw = await enter(plan=plan(symbols=2), variants=Variants(too_many_symbols="cut"))
    wire = await raw.dial()
    await wire.request("T", "US:AAPL")
    assert (await wire.request("T", "US:TSLA,NVDA"))["msg"] == "OK"
    assert {one.symbol for one in raw.sim.subscribed} == {"US:AAPL", "US:TSLA"}
    reply = await wire.request("RS", "US:AAPL,TSLA,NVDA")
    assert len(reply["data"]) == 2
    assert len(raw.sim.violations) == 2


async def test_a_request_over_the_plan_is_rejected(enter):
    raw = await enter(plan=plan(symbols=2))
    wire = await raw.dial()
    item = {"co": 1, "a": 0, "kt": 1}
    requests = [{"c": "US:AAPL,TSLA", **item}, {"c": "HK:700", **item}]
    assert "limit" in (await wire.request("RK", kline_reqs=requests))["msg"]
    requests = [{"c": "US:AAPL,TSLA", **item}, {"c": "US:AAPL", **item}]
    assert (await wire.request("RK", kline_reqs=requests))["msg"] == "OK"


async def test_a_second_connection_is_rejected(enter):
    raw = await enter(plan=plan(connections=1))
    wire = await raw.dial()
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await raw.dial()
    assert caught.value.status == 429
    assert len(raw.sim.violations) == 1
    assert (await wire.request("H"))["msg"] == "OK"


async def test_a_second_connection_can_replace_the_first(enter):
    raw = await enter(
        plan=plan(connections=1), variants=Variants(second_connection="close_oldest")
    )
    first = await raw.dial()
    second = await raw.dial()
    assert await first.end() == 1000
    assert (await second.request("H"))["msg"] == "OK"
    await raw.sim.until(lambda: raw.sim.connections == 1)
    assert len(raw.sim.violations) == 1


async def test_a_second_connection_can_be_accepted(enter):
    raw = await enter(
        plan=plan(connections=1), variants=Variants(second_connection="accept")
    )
    for wire in (await raw.dial(), await raw.dial()):
        assert (await wire.request("H"))["msg"] == "OK"
    assert len(raw.sim.violations) == 1


@pytest.mark.parametrize("reset", [True, False])
async def test_reconnecting_after_a_cut_is_no_violation(enter, reset):
    raw = await enter(plan=plan(connections=1))
    for _ in range(5):
        wire = await raw.dial()
        raw.sim.cut(reset=reset)
        await wire.end()
    assert raw.sim.violations == []


async def test_a_link_without_heartbeats_is_closed(enter):
    raw = await enter(heartbeat_limit=0.15)
    wire = await raw.dial()
    for _ in range(3):
        assert await wire.quiet(0.1)
        await wire.request("H")
    assert raw.sim.violations == []
    await wire.request("RS", "US:AAPL")  # No heartbeat, whatever it is.
    assert await wire.end() == 1001
    assert "no heartbeat" in raw.sim.violations[0]


async def test_a_link_without_heartbeats_can_stay_open(enter):
    raw = await enter(heartbeat_limit=0.05, variants=Variants(no_heartbeat="ignore"))
    wire = await raw.dial()
    await raw.sim.until(lambda: raw.sim.violations)
    assert (await wire.request("H"))["msg"] == "OK"


@pytest.mark.parametrize("status", ["400", "401", "403"])
@pytest.mark.parametrize("headers", [{}, {"key": "wrong"}])
async def test_a_bad_key_is_rejected_at_the_upgrade(enter, status, headers):
    raw = await enter(variants=Variants(bad_key=status))
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await raw.dial(headers=headers)
    assert caught.value.status == int(status)
    assert raw.sim.connections == 0


async def test_a_bad_key_can_be_accepted_then_answered_with_an_error(enter):
    raw = await enter(variants=Variants(bad_key="message"))
    wire = await raw.dial(headers={"key": "wrong"})
    assert "key" in (await wire.next())["msg"]
    assert await wire.end() == 1008
    assert raw.sim.connections == 0


async def test_an_expired_key_is_rejected_on_open_links_too(raw):
    wire = await raw.dial()
    raw.sim.expire_key()
    assert (await wire.request("T", "US:AAPL"))["msg"] == "Key expired."
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await raw.dial()
    raw.sim.renew_key()
    assert (await wire.request("T", "US:AAPL"))["msg"] == "OK"


async def test_unknown_symbols_are_left_out_or_rejected(enter):
    raw = await enter()
    wire = await raw.dial()
    assert (await wire.request("T", "US:AAPL,NOPE"))["msg"] == "OK"
    assert raw.sim.subscribed == {("T", "US:AAPL", None)}
    raw = await enter(variants=Variants(unknown_symbol="refuse"))
    wire = await raw.dial()
    assert "US:NOPE" in (await wire.request("T", "US:AAPL,NOPE"))["msg"]
    assert raw.sim.subscribed == set()


async def test_errors_can_omit_the_reqid(enter):
    raw = await enter(variants=Variants(reqid_on_errors=False))
    wire = await raw.dial()
    reply = await wire.request("X", reqid=3)
    assert "reqid" not in reply
    assert reply["type"] == "X"


async def test_the_current_state_can_be_pushed_right_after_the_acknowledgement(enter):
    raw = await enter(variants=Variants(push_on_subscribe=True), speed=0.001)
    wire = await raw.dial()
    for letter in "SDK":
        body = {"kt": 5} if letter == "K" else {}
        assert (await wire.request(letter, "US:AAPL", **body))["msg"] == "OK"
        push = await wire.push()
        assert (push["tp"], push["c"]) == (letter, "US:AAPL")
    assert (await wire.request("T", "US:AAPL"))["msg"] == "OK"
    assert await wire.quiet()


@pytest.mark.parametrize(("variant", "fine"), [("ok", True), ("error", False)])
async def test_subscribing_twice_is_fine_or_an_error(enter, variant, fine):
    raw = await enter(variants=Variants(subscribed_twice=variant))
    wire = await raw.dial()
    await wire.request("T", "US:AAPL")
    reply = await wire.request("T", "US:AAPL,TSLA")
    assert (reply["msg"] == "OK") is fine
    assert (("T", "US:TSLA", None) in raw.sim.subscribed) is fine


async def test_pushed_trades_can_have_json_numbers(enter):
    raw = await enter(variants=Variants(json_numbers=True), speed=20.0)
    wire = await raw.dial()
    await wire.request("T", "US:AAPL")
    push = await wire.push()
    assert (type(push["p"]), type(push["v"])) == (float, int)
