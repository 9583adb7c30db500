"""Every HTTP endpoint, requested with a plain HTTP client."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qos_async.sim import Limits, Variants

START = 1_741_958_430.0
MINUTE = 1_741_958_400
ASKED = ["US:AAPL,TSLA", "HK:700,9988", "SH:600519,600518", "CF:BTCUSDT,ETHUSDT"]
SYMBOLS = {f"{e.partition(':')[0]}:{c}" for e in ASKED for c in e[3:].split(",")}
EXAMPLES = Path(__file__).parents[1] / "samples"


@pytest.mark.parametrize("path", ["instrument-info", "snapshot", "depth", "trade"])
async def test_a_request_for_symbols_returns_a_row_for_each(raw, path):
    content = await raw.post(f"/{path}", codes=ASKED)
    assert list(content) == ["msg", "data"]
    assert content["msg"] == "OK"
    assert {row["c"] for row in content["data"]} == SYMBOLS


async def test_the_rows_of_a_response_are_not_in_the_order_of_the_request(raw):
    for path in ("snapshot", "instrument-info", "depth", "trade"):
        for _ in range(3):
            content = await raw.post(f"/{path}", codes=["US:AAPL,TSLA"])
            assert [row["c"] for row in content["data"]] == ["US:TSLA", "US:AAPL"]


async def test_hong_kong_symbols_lose_their_zeros_and_shenzhen_ones_do_not(raw):
    content = await raw.post("/trade", codes=["HK:00700", "SZ:000001"])
    assert {row["c"] for row in content["data"]} == {"HK:700", "SZ:000001"}


async def test_trades_are_the_newest_fifty_at_most_oldest_first(raw):
    content = await raw.post("/trade", codes=["CF:BTCUSDT"], count=50)
    tape = raw.sim.tape("CF:BTCUSDT")
    assert content["data"] == tape[-50:] or content["data"] == tape[-51:-1]
    status, content = await raw.post_any("/trade", {"codes": ["US:AAPL"], "count": 51})
    assert status == 400
    assert "count" in content["msg"]
    assert raw.sim.violations


async def test_klines_are_grouped_by_symbol_ascending_the_newest_open(raw):
    item = {"c": "CF:BTCUSDT,ETHUSDT", "co": 3, "a": 0, "kt": 1}
    content = await raw.post("/kline", kline_reqs=[item])
    for row in content["data"]:
        assert {bar["c"] for bar in row["k"]} == {row["c"]}
        assert [bar["ts"] for bar in row["k"]] == [MINUTE - 120, MINUTE - 60, MINUTE]


async def test_history_ends_with_the_kline_that_contains_its_end(raw):
    item = {"c": "US:AAPL", "e": 1_700_000_000, "co": 2, "a": 0, "kt": 1001}
    content = await raw.post("/history", kline_reqs=[item])
    bars = content["data"][0]["k"]
    assert [bar["ts"] for bar in bars] == [1_699_851_600, 1_699_938_000]


async def test_history_before_the_first_kline_is_empty(raw):
    item = {"c": "US:AAPL", "e": 1000, "co": 2, "a": 0, "kt": 1}
    assert (await raw.post("/history", kline_reqs=[item]))["data"] == []


@pytest.mark.parametrize(
    "wrong",
    [{"co": 0}, {"co": 1001}, {"kt": 7}, {"kt": None}, {"a": 3}, {"c": "AAPL"}],
)
async def test_a_wrong_kline_request_is_rejected_and_recorded(raw, wrong):
    item = {"c": "US:AAPL", "co": 1, "a": 0, "kt": 1, **wrong}
    status, content = await raw.post_any("/kline", {"kline_reqs": [item]})
    assert (status, content["msg"] == "OK") == (400, False)
    assert len(raw.sim.violations) == 1


@pytest.mark.parametrize(
    "codes", [None, [], ["AAPL"], ["US:AAPL,HK:700"], ["US:"], ["US:A B"], [7]]
)
async def test_malformed_symbols_are_rejected_and_recorded(raw, codes):
    status, _ = await raw.post_any("/snapshot", {"codes": codes})
    assert status == 400
    assert len(raw.sim.violations) == 1


@pytest.mark.parametrize("body", [[], "x", 7])
async def test_a_body_that_is_not_an_object_is_rejected_and_recorded(raw, body):
    status, _ = await raw.post_any("/snapshot", body)
    assert status == 400
    assert len(raw.sim.violations) == 1


async def test_a_repeated_symbol_gives_one_row_and_is_recorded(raw):
    content = await raw.post("/snapshot", codes=["HK:700,00700"])
    assert [row["c"] for row in content["data"]] == ["HK:700"]
    assert "twice" in raw.sim.violations[0]


async def test_the_calendar_is_three_months_by_market(raw):
    content = await raw.post("/market-calendar", market=["HK", "US"])
    assert set(content["data"]) == {"HK", "US"}
    days = content["data"]["US"]
    assert days[0] == "20250314,F"
    assert 60 < len(days) < 70
    assert days == sorted(days)


async def test_the_calendar_marks_half_days(enter):
    raw = await enter(start=1_751_300_000.0)
    content = await raw.post("/market-calendar", market=["US", "CF"])
    assert "20250703,H" in content["data"]["US"]
    assert "20250705,F" not in content["data"]["US"]
    assert "20250705,F" in content["data"]["CF"]


async def test_products_come_by_market_with_five_digits_in_hong_kong(raw):
    content = await raw.post("/product-list", market=["HK", "CM", "XX"])
    assert set(content["data"]) == {"HK", "CM"}
    assert {"code": "HK:00700", "name": "腾讯控股"} in content["data"]["HK"]
    assert {"code": "CM:XAUUSD", "name": "黄金"} in content["data"]["CM"]
    status, _ = await raw.post_any("/product-list", {"market": "HK"})
    assert status == 400


async def test_the_key_can_be_in_the_header_or_the_url(raw):
    raw.headers = {}
    status, content = await raw.post_any(
        f"/snapshot?key={raw.sim.key}", {"codes": ["US:AAPL"]}
    )
    assert (status, content["msg"]) == (200, "OK")
    raw.headers = {"key": raw.sim.key}
    await raw.post("/snapshot", codes=["US:AAPL"])
    assert [one.key_in for one in raw.sim.requests] == ["url", "header"]
    assert raw.sim.requests[0].path == "/snapshot"
    assert raw.sim.requests[0].body == {"codes": ["US:AAPL"]}


@pytest.mark.parametrize("headers", [{}, {"key": "wrong"}])
async def test_a_bad_key_is_rejected(raw, headers):
    raw.headers = headers
    status, content = await raw.post_any("/snapshot", {"codes": ["US:AAPL"]})
    assert status == 401
    assert "key" in content["msg"]


async def test_an_expired_key_is_rejected_until_renewed(raw):
    raw.sim.expire_key()
    assert await raw.post_any("/snapshot", {}) == (401, {"msg": "Key expired."})
    raw.sim.renew_key()
    await raw.post("/snapshot", codes=["US:AAPL"])


async def test_requests_over_the_quota_are_rejected_and_recorded(enter):
    raw = await enter(plan=Limits(http_requests=2, http_period=0.2))
    body = {"codes": ["US:AAPL"]}
    assert [(await raw.post_any("/depth", body))[0] for _ in range(3)] == [
        200,
        200,
        429,
    ]
    assert len(raw.sim.violations) == 1
    await raw.sim.until(lambda: raw.sim.now > START + 0.25)
    assert (await raw.post_any("/depth", body))[0] == 200


async def test_errors_can_have_status_200(enter):
    raw = await enter(variants=Variants(errors_as_200=True))
    assert (await raw.post_any("/snapshot", {}))[0] == 200
    raw.headers = {}
    status, content = await raw.post_any("/snapshot", {})
    assert status == 200
    assert content["msg"] != "OK"


async def test_symbols_over_the_plan_are_rejected_or_cut_off(enter):
    body = {"codes": ["US:AAPL,TSLA,NVDA"]}
    raw = await enter(plan=Limits(symbols=2))
    status, content = await raw.post_any("/snapshot", body)
    assert status == 400
    assert "limit" in content["msg"]
    raw = await enter(plan=Limits(symbols=2), variants=Variants(too_many_symbols="cut"))
    content = await raw.post("/snapshot", **body)
    assert {row["c"] for row in content["data"]} == {"US:AAPL", "US:TSLA"}
    assert len(raw.sim.violations) == 1


async def test_unknown_symbols_are_left_out_or_rejected(enter):
    body = {"codes": ["US:AAPL,NOPE"]}
    raw = await enter()
    content = await raw.post("/snapshot", **body)
    assert [row["c"] for row in content["data"]] == ["US:AAPL"]
    raw = await enter(variants=Variants(unknown_symbol="refuse"))
    status, content = await raw.post_any("/snapshot", body)
    assert status == 400
    assert "US:NOPE" in content["msg"]


async def test_history_can_ignore_its_end(enter):
    raw = await enter(variants=Variants(history_ignores_end=True))
    item = {"c": "US:AAPL", "e": 1_700_000_000, "co": 1, "a": 0, "kt": 1}
    content = await raw.post("/history", kline_reqs=[item])
    assert content["data"][0]["k"][0]["ts"] == MINUTE


async def test_trades_can_be_newest_first(enter):
    raw = await enter(variants=Variants(trades_newest_first=True))
    content = await raw.post("/trade", codes=["US:AAPL"], count=50)
    stamps = [row["ts"] for row in content["data"]]
    assert stamps == sorted(stamps, reverse=True)
    assert stamps[0] > stamps[-1]


async def test_trades_can_have_json_numbers(enter):
    raw = await enter(variants=Variants(json_numbers=True))
    content = await raw.post("/trade", codes=["US:AAPL", "CF:BTCUSDT"], count=9)
    assert all(isinstance(row["p"], float) for row in content["data"])
    assert {type(row["v"]) for row in content["data"]} == {int, float}


async def test_other_methods_and_paths_are_not_served(raw):
    async with raw.session.get(raw.sim.http_url + "/snapshot") as response:
        assert response.status == 405
    async with raw.session.post(raw.sim.http_url + "/nothing") as response:
        assert response.status == 404


@pytest.mark.parametrize(
    "path", ["instrument-info", "snapshot", "depth", "trade", "kline", "history"]
)
async def test_responses_have_the_shape_of_the_recorded_ones(raw, path):
    request = json.loads((EXAMPLES / f"http-{path}.request.json").read_bytes())
    recorded = json.loads((EXAMPLES / f"http-{path}.response.json").read_bytes())
    content = await raw.post(f"/{path}", **request)
    ours = {row["c"]: shape(row) for row in content["data"]}
    theirs = {row["c"]: shape(row) for row in recorded["data"]}
    added = {"nq", "tt"}  # In the document's table, not in its samples.
    for symbol, recorded_shape in theirs.items():
        shape_of = {
            name: kind for name, kind in ours[symbol].items() if name not in added
        }
        assert shape_of == recorded_shape, symbol
    assert set(ours) == set(theirs)


def shape(value: Any) -> Any:
    """Names and types, and the length of books; one example of each list's items."""
    if isinstance(value, dict):
        return {
            name: (len(item), shape(item)) if name in "ab" else shape(item)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [shape(value[0])]
    return type(value)
