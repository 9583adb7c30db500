"""What the plan forbids is noted, and answered as the variant says."""

from __future__ import annotations

import aiohttp
import pytest

from qos_async.config import Limits
from qos_async.sim import Variants
from qos_async.sim.requests import UsageMeter


def plan(**limits: float) -> Limits:
    free = {"symbols": 100, "connections": 10, "command_interval": 0.0}
    return Limits(**{**free, **limits})  # type: ignore[arg-type]


def test_the_meter_measures_between_frames_whoever_sent_them():
    meter = UsageMeter(Limits(command_interval=1.0))
    assert meter.count_frame(10.0) is None
    assert meter.count_frame(11.0) is None
    assert meter.count_frame(11.9) == pytest.approx(0.9)
    assert meter.count_frame(12.5) == pytest.approx(0.6)  # From the refused one.
    assert meter.count_frame(13.4995) is None  # Clocks tick.


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


async def test_a_frame_too_soon_gets_an_error(enter):
    raw = await enter(plan=plan(command_interval=5.0))
    wire = await raw.dial()
    assert (await wire.say("H"))["msg"] == "OK"
    answer = await wire.say("T", "US:AAPL", reqid=4)
    assert "frequent" in answer["msg"]
    assert (answer["type"], answer["reqid"]) == ("T", 4)
    assert raw.sim.subscribed == set()
    assert "link 1: T came 0.0" in raw.sim.violations[0]


async def test_the_pace_is_the_keys_across_its_links(enter):
    raw = await enter(plan=plan(command_interval=5.0))
    await (await raw.dial()).say("H")
    assert "frequent" in (await (await raw.dial()).say("H"))["msg"]


async def test_frames_in_time_are_no_breach(enter):
    raw = await enter(plan=plan(command_interval=0.05))
    wire = await raw.dial()
    for _ in range(3):
        assert (await wire.say("H"))["msg"] == "OK"
        assert await wire.quiet(0.06)
    assert raw.sim.violations == []


async def test_a_frame_too_soon_may_be_obeyed_all_the_same(enter):
    raw = await enter(
        plan=plan(command_interval=5.0), variants=Variants(too_fast="ignore")
    )
    wire = await raw.dial()
    await wire.say("H")
    assert (await wire.say("T", "US:AAPL"))["msg"] == "OK"
    assert len(raw.sim.violations) == 1


async def test_a_frame_too_soon_may_be_dropped(enter):
    raw = await enter(
        plan=plan(command_interval=5.0), variants=Variants(too_fast="drop")
    )
    wire = await raw.dial()
    await wire.say("H")
    await wire.send("T", "US:AAPL")
    assert await wire.quiet()
    assert raw.sim.subscribed == set()
    assert len(raw.sim.violations) == 1


async def test_a_frame_too_soon_may_cost_the_link(enter):
    raw = await enter(
        plan=plan(command_interval=5.0),
        variants=Variants(too_fast="close", too_fast_code=4001),
    )
    wire = await raw.dial()
    await wire.say("H")
    await wire.send("T", "US:AAPL")
    assert await wire.end() == 4001
    await raw.sim.until(lambda: raw.sim.connections == 0)


async def test_distinct_symbols_of_a_link_are_limited_over_all_channels(enter):
    raw = await enter(plan=plan(symbols=2))
    wire = await raw.dial()
    assert (await wire.say("T", "US:AAPL"))["msg"] == "OK"
    assert (await wire.say("D", "US:AAPL"))["msg"] == "OK"
    assert (await wire.say("K", "US:AAPL,TSLA", kt=1))["msg"] == "OK"
    answer = await wire.say("T", "US:NVDA", "US:TSLA")
    assert "limit" in answer["msg"]
    assert ("T", "US:TSLA", None) not in raw.sim.subscribed
    assert len(raw.sim.violations) == 1
    await wire.say("KC", "US:TSLA", kt=1)
    assert (await wire.say("T", "US:NVDA"))["msg"] == "OK"
    assert len(raw.sim.violations) == 1


async def test_what_still_fits_may_be_taken(enter):
    raw = await enter(plan=plan(symbols=2), variants=Variants(too_many_symbols="cut"))
    wire = await raw.dial()
    await wire.say("T", "US:AAPL")
    assert (await wire.say("T", "US:TSLA,NVDA"))["msg"] == "OK"
    assert {one.symbol for one in raw.sim.subscribed} == {"US:AAPL", "US:TSLA"}
    answer = await wire.say("RS", "US:AAPL,TSLA,NVDA")
    assert len(answer["data"]) == 2
    assert len(raw.sim.violations) == 2


async def test_a_question_over_the_plan_is_refused(enter):
    raw = await enter(plan=plan(symbols=2))
    wire = await raw.dial()
    item = {"co": 1, "a": 0, "kt": 1}
    requests = [{"c": "US:AAPL,TSLA", **item}, {"c": "HK:700", **item}]
    assert "limit" in (await wire.say("RK", kline_reqs=requests))["msg"]
    requests = [{"c": "US:AAPL,TSLA", **item}, {"c": "US:AAPL", **item}]
    assert (await wire.say("RK", kline_reqs=requests))["msg"] == "OK"


async def test_a_second_connection_is_refused(enter):
    raw = await enter(plan=plan(connections=1))
    wire = await raw.dial()
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await raw.dial()
    assert caught.value.status == 429
    assert len(raw.sim.violations) == 1
    assert (await wire.say("H"))["msg"] == "OK"


async def test_a_second_connection_may_replace_the_first(enter):
    raw = await enter(
        plan=plan(connections=1), variants=Variants(second_connection="close_oldest")
    )
    first = await raw.dial()
    second = await raw.dial()
    assert await first.end() == 1000
    assert (await second.say("H"))["msg"] == "OK"
    await raw.sim.until(lambda: raw.sim.connections == 1)
    assert len(raw.sim.violations) == 1


async def test_a_second_connection_may_be_let_in(enter):
    raw = await enter(
        plan=plan(connections=1), variants=Variants(second_connection="accept")
    )
    for wire in (await raw.dial(), await raw.dial()):
        assert (await wire.say("H"))["msg"] == "OK"
    assert len(raw.sim.violations) == 1


@pytest.mark.parametrize("reset", [True, False])
async def test_dialling_again_after_a_cut_is_no_breach(enter, reset):
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
        await wire.say("H")
    assert raw.sim.violations == []
    await wire.say("RS", "US:AAPL")  # No heartbeat, whatever it is.
    assert await wire.end() == 1001
    assert "no heartbeat" in raw.sim.violations[0]


async def test_a_link_without_heartbeats_may_live(enter):
    raw = await enter(heartbeat_limit=0.05, variants=Variants(no_heartbeat="ignore"))
    wire = await raw.dial()
    await raw.sim.until(lambda: raw.sim.violations)
    assert (await wire.say("H"))["msg"] == "OK"


@pytest.mark.parametrize("status", ["400", "401", "403"])
@pytest.mark.parametrize("headers", [{}, {"key": "wrong"}])
async def test_a_bad_key_is_refused_at_the_upgrade(enter, status, headers):
    raw = await enter(variants=Variants(bad_key=status))
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await raw.dial(headers=headers)
    assert caught.value.status == int(status)
    assert raw.sim.connections == 0


async def test_a_bad_key_may_be_let_in_and_told(enter):
    raw = await enter(variants=Variants(bad_key="message"))
    wire = await raw.dial(headers={"key": "wrong"})
    assert "key" in (await wire.next())["msg"]
    assert await wire.end() == 1008
    assert raw.sim.connections == 0


async def test_an_expired_key_is_refused_on_open_links_too(raw):
    wire = await raw.dial()
    raw.sim.expire_key()
    assert (await wire.say("T", "US:AAPL"))["msg"] == "Key expired."
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await raw.dial()
    raw.sim.renew_key()
    assert (await wire.say("T", "US:AAPL"))["msg"] == "OK"


async def test_unknown_symbols_are_left_out_or_refused(enter):
    raw = await enter()
    wire = await raw.dial()
    assert (await wire.say("T", "US:AAPL,NOPE"))["msg"] == "OK"
    assert raw.sim.subscribed == {("T", "US:AAPL", None)}
    raw = await enter(variants=Variants(unknown_symbol="refuse"))
    wire = await raw.dial()
    assert "US:NOPE" in (await wire.say("T", "US:AAPL,NOPE"))["msg"]
    assert raw.sim.subscribed == set()


async def test_errors_may_come_without_the_reqid(enter):
    raw = await enter(variants=Variants(reqid_on_errors=False))
    wire = await raw.dial()
    answer = await wire.say("X", reqid=3)
    assert "reqid" not in answer
    assert answer["type"] == "X"


async def test_the_state_may_be_pushed_right_after_the_yes(enter):
    raw = await enter(variants=Variants(push_on_subscribe=True), speed=0.001)
    wire = await raw.dial()
    for letter in "SDK":
        body = {"kt": 5} if letter == "K" else {}
        assert (await wire.say(letter, "US:AAPL", **body))["msg"] == "OK"
        push = await wire.push()
        assert (push["tp"], push["c"]) == (letter, "US:AAPL")
    assert (await wire.say("T", "US:AAPL"))["msg"] == "OK"
    assert await wire.quiet()


@pytest.mark.parametrize(("variant", "fine"), [("ok", True), ("error", False)])
async def test_subscribing_twice_is_fine_or_an_error(enter, variant, fine):
    raw = await enter(variants=Variants(subscribed_twice=variant))
    wire = await raw.dial()
    await wire.say("T", "US:AAPL")
    answer = await wire.say("T", "US:AAPL,TSLA")
    assert (answer["msg"] == "OK") is fine
    assert (("T", "US:TSLA", None) in raw.sim.subscribed) is fine


async def test_pushed_trades_may_carry_json_numbers(enter):
    raw = await enter(variants=Variants(json_numbers=True), speed=20.0)
    wire = await raw.dial()
    await wire.say("T", "US:AAPL")
    push = await wire.push()
    assert (type(push["p"]), type(push["v"])) == (float, int)
