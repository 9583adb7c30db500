"""Requests of clients: answered live, kept, or by the service."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from qos_async import Limits
from qos_async.enums import Adjustment, Channel, Market
from qos_async.hub.live import LiveState
from qos_async.models import Trade
from qos_async.testing.virtual import WALL, simulate
from qos_async.topics import Topic
from tests.support.hub_rig import Rig, rigged


def asked(rig: Rig) -> list[str]:
    """Return the one-off requests that the service received."""
    over_http = [one.path for one in rig.sim.requests if one.path != "/ws"]
    return [*over_http, *(f.type for f in rig.sim.frames if f.type[:1] == "R")]


def test_a_snapshot_or_book_of_a_live_topic_costs_no_request():
    async def main() -> None:
        async with rigged() as rig, rig.client() as client:
            async with client.watch_snapshots("CF:BTCUSDT") as quotes:
                pushed = await anext(aiter(quotes))
                rig.sim.mute(new_connections=False)
                found = await client.fetch_snapshots("CF:BTCUSDT")
            assert found["CF:BTCUSDT"].last_price == pushed.last_price
            assert found["CF:BTCUSDT"].volume == pushed.volume
            assert asked(rig) == []
            assert rig.hub.stats.answered == {"live": 1}

    simulate(main)


def test_a_snapshot_of_the_us_has_the_quotes_that_pushes_lack():
    async def main() -> None:
        async with rigged() as rig, rig.client() as client:
            before = await client.fetch_snapshots("US:AAPL")
            async with client.watch_snapshots("US:AAPL") as quotes:
                await anext(aiter(quotes))
                found = await client.fetch_snapshots("US:AAPL")
            assert before["US:AAPL"].pre_market is not None
            assert found["US:AAPL"].pre_market is not None

    simulate(main)


def test_the_last_trades_of_a_live_topic_are_those_that_were_pushed():
    async def main() -> None:
        async with (
            rigged(rate=5.0) as rig,
            rig.client() as client,
            client.watch_trades("US:AAPL"),
        ):
            await asyncio.sleep(15)
            few = await client.fetch_trades("US:AAPL", count=20)
            assert asked(rig) == []
            tape = rig.sim.tape("US:AAPL")
            last = [(t.timestamp, str(t.price)) for t in few["US:AAPL"]]
            rows = [(row["ts"], row["p"]) for row in tape]
            assert any(
                rows[n : n + 20] == last for n in range(len(rows) - 40, len(rows))
            )

    simulate(main)


def test_trades_that_are_not_all_known_are_asked_for():
    async def main() -> None:
        async with (
            rigged(rate=1.0) as rig,
            rig.client() as client,
            client.watch_trades("US:AAPL"),
        ):
            await asyncio.sleep(5)
            found = await client.fetch_trades("US:AAPL", count=50)
            assert len(found["US:AAPL"]) == 50
            assert asked(rig) == ["RT"]

    simulate(main)


@pytest.mark.fault("H2")
def test_the_trades_before_a_hole_are_not_passed_off_as_the_last_ones():
    async def main() -> None:
        async with rigged(rate=30.0) as rig:
            consumer = await rig.consumer("US:AAPL")
            await asyncio.sleep(10)
            await rig.sim.outage(3)
            await asyncio.sleep(2)
            async with rig.client() as client:
                found = await client.fetch_trades("US:AAPL", count=50)
            rows = [(row["ts"], row["p"]) for row in rig.sim.tape("US:AAPL")]
            last = [(t.timestamp, str(t.price)) for t in found["US:AAPL"]]
            assert any(rows[n : n + 50] == last for n in range(len(rows)))
            await consumer.stop()

    simulate(main)


@pytest.mark.fault("H2")
def test_during_an_outage_nothing_is_answered_from_before_it():
    async def main() -> None:
        async with (
            rigged() as rig,
            rig.client() as client,
            client.watch_depth("US:AAPL") as books,
        ):
            await anext(aiter(books))
            rig.sim.cut()
            await asyncio.sleep(0.1)
            await client.fetch_depth("US:AAPL")
            assert asked(rig)[-1] in ("/depth", "RD")

    simulate(main)


def test_bars_that_are_over_are_asked_for_once():
    async def main() -> None:
        async with rigged() as rig, rig.client() as client:
            options: dict[str, Any] = {
                "interval": "1m",
                "end": WALL - 3600,
                "count": 30,
            }
            first = await client.fetch_history("US:AAPL", **options)
            again = await client.fetch_history("US:AAPL", **options)
            part = await client.fetch_history("US:AAPL", **{**options, "count": 7})
            assert len(asked(rig)) == 1
            assert first == again
            assert part["US:AAPL"] == first["US:AAPL"][-7:]
            assert rig.hub.stats.answered["kept"] == 2

    simulate(main)


def test_adjusted_bars_are_never_kept():
    async def main() -> None:
        async with rigged() as rig, rig.client() as client:
            for _ in range(2):
                await client.fetch_history(
                    "US:AAPL",
                    interval="1d",
                    end=WALL - 1e6,
                    count=5,
                    adjust=Adjustment.FORWARD,
                )
            assert len(asked(rig)) == 2

    simulate(main)


def test_the_growing_bar_of_a_live_topic_costs_no_request():
    async def main() -> None:
        async with rigged() as rig, rig.client() as client:
            async with client.watch_klines("CF:BTCUSDT", interval="1d") as bars:
                pushed = await anext(aiter(bars))
                rig.sim.mute(new_connections=False)
                found = await client.fetch_klines("CF:BTCUSDT", interval="1d", count=1)
            [bar] = found["CF:BTCUSDT"]
            assert (bar.timestamp, bar.close) == (pushed.timestamp, pushed.close)
            assert asked(rig) == []

    simulate(main)


def test_what_many_clients_ask_at_once_is_one_request():
    async def main() -> None:
        async with rigged() as rig:
            results = await asyncio.gather(
                *(rig.post("/snapshot", {"codes": ["US:AAPL"]}) for _ in range(20))
            )
            assert {status for status, _, _ in results} == {200}
            assert len(asked(rig)) == 1

    simulate(main)


def test_calendars_and_products_are_asked_for_once():
    async def main() -> None:
        async with rigged() as rig, rig.client() as client:
            for _ in range(3):
                days = await client.fetch_calendar("US", "HK")
                products = await client.fetch_products("US")
            assert len(days[Market.HK]) > 3
            assert len(products[Market.US]) == 3
            assert len(asked(rig)) == 2

    simulate(main)


@pytest.mark.fault("H13")
def test_a_client_learns_to_wait_where_the_rate_of_the_plan_is_used_up():
    async def main() -> None:
        async with rigged() as rig:
            symbols = [f"US:{a}{b}" for a in "ABCDEFGH" for b in "ABCDEFGHIJ"]
            greedy = [
                asyncio.create_task(rig.post("/depth", {"codes": [symbol]}))
                for symbol in symbols
            ]
            await asyncio.sleep(0.5)
            status, body, headers = await rig.post("/snapshot", {"codes": ["US:AAPL"]})
            assert status == 429
            assert "the plan's rate is used up; try again in" in body["msg"]
            assert 5 < int(headers["Retry-After"]) < 60
            statuses = [status for status, _, _ in await asyncio.gather(*greedy)]
            assert set(statuses) == {200, 429}
            assert rig.sim.violations == []

    simulate(main)


@pytest.mark.fault("H13")
def test_where_the_plan_has_one_request_at_a_time_the_wait_is_a_number():
    async def main() -> None:
        plan = Limits(http_requests=1)
        async with rigged(plan=plan, client={"limits": plan}) as rig:
            rig.sim.reject_upgrades(503)
            rig.sim.cut()
            rig.sim.delay_replies(3.0)
            first = asyncio.create_task(rig.post("/snapshot", {"codes": ["US:AAPL"]}))
            await asyncio.sleep(1)
            status, reply, headers = await rig.post("/depth", {"codes": ["US:AAPL"]})
            assert status == 429
            assert reply["msg"].endswith("try again in 60 s.")
            assert headers["Retry-After"] == "60"
            assert (await first)[0] == 200
            rig.sim.allow_upgrades()

    simulate(main)


@pytest.mark.fault("H13")
def test_large_requests_do_not_wait_for_the_quota_of_http():
    many = [f"US:A{n}" for n in range(9)]
    body = {"kline_reqs": [{"c": one, "kt": 1, "co": 1000} for one in many]}

    async def main() -> None:
        plan = Limits(http_requests=1)
        async with rigged(plan=plan, client={"limits": plan}) as rig:
            for adjust in (0, 1):
                for item in body["kline_reqs"]:
                    item["a"] = adjust
                async with asyncio.timeout(5):
                    assert (await rig.post("/kline", body))[0] == 200
            assert asked(rig) == ["/kline", "RK"]
            assert rig.sim.violations == []

    simulate(main)


def test_an_unknown_symbol_is_missing_as_it_is_at_the_service():
    async def main() -> None:
        async with rigged() as rig, rig.client() as client:
            found = await client.fetch_snapshots("US:AAPL", "US:NOSUCH")
            assert found.missing == ("US:NOSUCH",)

    simulate(main)


@pytest.mark.fault("H9")
@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/snapshot", [1], "Parameter error: not an object"),
        ("/snapshot", {}, "Parameter error: codes"),
        ("/trade", {"codes": ["US:A"], "count": 0}, "Parameter error: count 0"),
        ("/kline", {"kline_reqs": []}, "Parameter error: kline_reqs"),
        (
            "/kline",
            {"kline_reqs": [{"c": "US:A", "kt": 1, "co": 1}] * 101},
            "Parameter error: more than 100 kline_reqs",
        ),
        ("/market-calendar", {"market": []}, "Parameter error: market"),
    ],
)
def test_a_malformed_request_is_refused_with_the_reason(path, body, message):
    async def main() -> None:
        async with rigged() as rig:
            status, reply, _ = await rig.post(path, body)
            assert status == 400
            assert reply["msg"].startswith(message)
            assert asked(rig) == []

    simulate(main)


def test_a_rejection_of_the_service_is_passed_on_in_its_words():
    async def main() -> None:
        async with rigged() as rig:
            rig.sim.reject_symbols("US:TSLA", message="No permission")
            status, reply, _ = await rig.post("/snapshot", {"codes": ["US:TSLA"]})
            assert (status, reply["msg"]) == (400, "No permission: US:TSLA")

    simulate(main)


@pytest.mark.parametrize("end", [2**63, -(2**63), 10**15, "1", None])
def test_an_end_that_cannot_be_is_refused(end):
    async def main() -> None:
        async with rigged() as rig, rig.raw() as raw:
            asked_for = [{"c": "US:AAPL", "kt": 1, "co": 2, "e": end}]
            reply = await raw.ask(type="RH", kline_reqs=asked_for, reqid=5)
            assert reply["msg"].startswith("Parameter error: e ")

    simulate(main)


def test_trades_that_were_held_back_when_their_topic_left_are_not_the_last_ones():
    async def main() -> None:
        async with rigged(hub={"linger": 0.0}) as rig:
            async with rig.raw() as first:
                await first.ask(type="T", codes=["US:AAPL"], reqid=1)
                await asyncio.sleep(8)
                rig.sim.delay_replies(3.0, "RT", count=5)
                rig.sim.cut()
                await asyncio.sleep(3.5)
                await first.ask(type="TC", codes=["US:AAPL"], reqid=2)  # In recovery.
            await asyncio.sleep(60)
            async with rig.raw() as second:
                await second.ask(type="T", codes=["US:AAPL"], reqid=1)
                await asyncio.sleep(2)
                reply = await second.ask(type="RT", codes=["US:AAPL"], count=8, reqid=2)
            last = [(row["ts"], row["p"]) for row in reply["data"]]
            rows = [(row["ts"], row["p"]) for row in rig.sim.tape("US:AAPL")]
            assert any(
                rows[n : n + 8] == last for n in range(len(rows) - 20, len(rows))
            )

    simulate(main)


@pytest.mark.fault("H2")
@pytest.mark.parametrize("recovered", [True, False])
def test_trades_of_within_a_hole_are_not_the_last_ones(recovered):
    """Those that were fetched, or came on a link that did not last, stand alone."""
    topic = Topic(Channel.TRADE, "US:AAPL")
    state = LiveState()
    state.live.add(topic)
    state.start_after(topic, datetime.fromtimestamp(100.0, UTC))
    for second, count in ((99, 0), (100, 1), (101, 2)):
        before = recovered and second < 100
        tick = Trade(
            symbol="US:AAPL",
            timestamp=second,
            price="1",
            received_at=(101 if before else second) * 1_000_000_000,
            recovered=before,
        )
        state.update(topic, tick, b'{"tp":"T","ts":%d}' % second)
        assert state.trades(topic, count + 1) is None
        assert not count or state.trades(topic, count)
