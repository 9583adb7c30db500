"""Queries and their results, against every sample of the document."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qos_async._core.queries import Queries, epoch, merge
from qos_async.enums import Adjustment, Interval, Market, Side
from qos_async.errors import DecodeError
from qos_async.results import Result

SAMPLES = Path(__file__).parent.parent / "samples"
DAY = Interval.DAY


def sample(name: str) -> Any:
    return json.loads((SAMPLES / f"{name}.json").read_text())


def payload(name: str) -> bytes:
    return json.dumps(sample(name)["data"]).encode()


@pytest.fixture
def queries():
    return Queries(Decimal, chunk=10)


ROWS = {
    "http-instrument-info": ("instruments", {}),
    "http-snapshot": ("snapshots", {}),
    "http-depth": ("depths", {}),
    "http-trade": ("trades", {"count": 1}),
    "http-kline": ("klines", {"interval": DAY, "count": 1}),
    "http-history": ("history", {"interval": DAY, "count": 1, "end": 1741959608}),
    "ws-RI-instrument-info": ("instruments", {}),
    "ws-RS-snapshot": ("snapshots", {}),
    "ws-RD-depth": ("depths", {}),
    "ws-RT-trade": ("trades", {"count": 1}),
    "ws-RK-kline": ("klines", {"interval": DAY, "count": 2}),
    "ws-RH-history": ("history", {"interval": DAY, "count": 2, "end": 1742047133}),
}
PATHS = {
    "instruments": ("/instrument-info", "RI"),
    "snapshots": ("/snapshot", "RS"),
    "depths": ("/depth", "RD"),
    "trades": ("/trade", "RT"),
    "klines": ("/kline", "RK"),
    "history": ("/history", "RH"),
}


@pytest.mark.parametrize("numbers", [Decimal, float, str])
@pytest.mark.parametrize("name", ROWS)
def test_the_samples_of_the_document_are_encoded_and_decoded(name, numbers):
    verb, options = ROWS[name]
    requested = sample(f"{name}.request")
    operation = requested.pop("type", None)
    requested.pop("reqid", None)
    entries = requested.get("codes") or [one["c"] for one in requested["kline_reqs"]]
    [query] = getattr(Queries(numbers, chunk=10), verb)(entries, **options)
    assert query.body == requested
    assert (query.path, query.operation) == PATHS[verb]
    assert operation in (None, query.operation)
    found = query.read(payload(f"{name}.response"))
    rows = sample(f"{name}.response")["data"]
    assert set(found) == {row["c"] for row in rows} <= set(query.symbols)
    for row in rows:
        record = found[row["c"]]
        for one in record if isinstance(record, list) else [record]:
            assert one.symbol == row["c"]


def test_prices_are_of_the_requested_type():
    data = payload("http-snapshot.response")
    for numbers in (Decimal, float, str):
        [query] = Queries(numbers, chunk=10).snapshots(["US:AAPL"])
        price = query.read(data)["US:AAPL"].last_price
        assert type(price) is numbers
        assert price == numbers("211.103")


def test_many_symbols_are_requested_in_chunks_and_merged_in_order():
    names = [f"{market}:{n}" for n in range(1, 14) for market in ("US", "CF")]
    parts = Queries(Decimal, chunk=10).snapshots(names)
    assert [len(part.symbols) for part in parts] == [10, 10, 6]
    answers = []
    for part in parts:
        rows = [{"c": name, "lp": "1"} for name in reversed(part.symbols)]
        answers.append(part.read(json.dumps(rows[1:]).encode()))
    result = merge(parts, answers)
    assert isinstance(result, Result)
    assert result.missing == (names[9], names[19], names[25])
    assert list(result) == [name for name in names if name not in result.missing]


def test_a_chunk_groups_its_symbols_by_market(queries):
    [query] = queries.klines(["US:A", "HK:00700", "US:B"], interval="1d", count=3)
    terms = {"co": 3, "a": 0, "kt": 1001}
    assert query.body == {
        "kline_reqs": [{"c": "US:A,B", **terms}, {"c": "HK:700", **terms}]
    }


@pytest.mark.fault("P11")
def test_symbols_are_returned_in_canonical_form(queries):
    rows = (
        b'[{"c":"HK:00700","lp":"1"},{"c":"SZ:000001","lp":"2"},{"c":"odd","lp":"3"}]'
    )
    [query] = queries.snapshots(["HK:700", "SZ:000001"])
    found = query.read(rows)
    assert {name: row.symbol for name, row in found.items()} == {
        "HK:700": "HK:700",
        "SZ:000001": "SZ:000001",
        "odd": "odd",
    }


def test_klines_and_trades_carry_canonical_symbols(queries):
    bar = {"c": "HK:00700", "o": 1, "h": 1, "l": 1, "cl": 1, "kt": 1, "ts": 60}
    [query] = queries.klines(["HK:700"], interval="1m")
    found = query.read(json.dumps([{"c": "HK:00700", "k": [bar]}]).encode())
    assert [one.symbol for one in found["HK:700"]] == ["HK:700"]
    [query] = queries.trades(["HK:700"])
    found = query.read(
        b'[{"c":"HK:00700","p":"1","ts":1},{"c":"HK:700","p":"2","ts":2}]'
    )
    assert [one.symbol for one in found["HK:700"]] == ["HK:700", "HK:700"]


@pytest.mark.parametrize("data", [b"null", b"", b"[]"])
def test_a_response_without_data_is_an_empty_result(queries, data):
    [query] = queries.snapshots(["US:AAPL"])
    assert query.read(data) == {}
    assert merge([query], [{}]).missing == ("US:AAPL",)
    [bars] = queries.klines(["US:AAPL"], interval="1d")
    assert bars.read(data) == {}


@pytest.mark.fault("P11")
@pytest.mark.parametrize("bars", ["null", "[]"])
def test_a_symbol_without_klines_counts_as_missing(queries, bars):
    [query] = queries.klines(["US:AAPL"], interval="1d")
    assert query.read(f'[{{"c":"US:AAPL","k":{bars}}}]'.encode()) == {}


def trades_of(
    queries: Queries[Decimal], *rows: tuple[str, int, int]
) -> dict[str, list[int]]:
    [query] = queries.trades(["US:A", "US:B"], count=50)
    data = [
        {"c": name, "ts": ts, "p": str(p), "v": "1", "d": 1} for name, ts, p in rows
    ]
    found = query.read(json.dumps(data).encode())
    return {name: [int(row.price) for row in group] for name, group in found.items()}


def test_trades_are_oldest_first_in_either_order_of_the_response(queries):
    up = [
        ("US:A", 1, 1),
        ("US:A", 2, 2),
        ("US:A", 2, 3),
        ("US:B", 2, 9),
        ("US:A", 3, 4),
    ]
    expected = {"US:A": [1, 2, 3, 4], "US:B": [9]}
    assert trades_of(queries, *up) == expected
    assert trades_of(queries, *reversed(up)) == expected


def test_trades_of_one_second_keep_the_order_of_the_response(queries):
    rows = [("US:A", 5, 3), ("US:A", 5, 1), ("US:A", 5, 2)]
    assert trades_of(queries, *rows) == {"US:A": [3, 1, 2]}


def test_trades_of_one_second_are_reversed_with_a_response_that_is_newest_first(
    queries,
):
    rows = [("US:A", 5, 3), ("US:A", 5, 1), ("US:B", 5, 9), ("US:B", 4, 8)]
    assert trades_of(queries, *rows) == {"US:A": [1, 3], "US:B": [8, 9]}


def test_klines_are_oldest_first(queries):
    [query] = queries.klines(["US:A"], interval="1m", count=3)
    bar = {"c": "US:A", "o": 1, "h": 1, "l": 1, "cl": 1, "kt": 1}
    rows = [{"c": "US:A", "k": [{**bar, "ts": ts} for ts in (180, 120, 60)]}]
    found = query.read(json.dumps(rows).encode())["US:A"]
    assert [one.timestamp for one in found] == [60, 120, 180]


def test_trades_sent_as_numbers_lose_no_digit(queries):
    [query] = queries.trades(["CF:X"])
    [trade] = query.read(b'[{"c":"CF:X","p":83429.70,"v":0.025,"ts":1,"d":9}]')["CF:X"]
    assert (str(trade.price), trade.side) == ("83429.70", Side.UNKNOWN)


def test_the_calendar_has_whole_and_half_days(queries):
    query = queries.calendar(["HK", "US", "SH", "SZ"])
    assert query.body == sample("http-market-calendar.request")
    assert (query.path, query.operation) == ("/market-calendar", "")
    found = query.read(payload("http-market-calendar.response"))
    assert list(found) == [Market.HK, Market.US, Market.SH, Market.SZ]
    half = [day.date for day in found[Market.US] if day.half_day]
    assert half == [date(2025, 7, 3)]
    assert not any(day.half_day for day in found[Market.HK])


def test_products_of_a_query_have_canonical_symbols(queries):
    query = queries.products(["HK", "US", "CM"])
    assert query.body == sample("http-product-list.request")
    assert (query.path, query.operation) == ("/product-list", "")
    found = query.read(payload("http-product-list.response"))
    assert [one.symbol for one in found[Market.HK]] == ["HK:1810", "HK:700"]
    assert found[Market.CM][0].name == "黄金"


def test_a_market_without_data_is_left_out_or_empty(queries):
    assert queries.products(["HK", "XX"]).read(b'{"HK":null}') == {Market.HK: []}
    assert queries.calendar(["HK"]).read(b"null") == {}


@pytest.mark.parametrize("text", ["2025-13-99,F", "", "soon,F"])
def test_an_unreadable_day_is_a_decode_error(queries, text):
    with pytest.raises(DecodeError, match="trading day") as caught:
        queries.calendar(["HK"]).read(json.dumps({"HK": [text]}).encode())
    assert caught.value.__context__ is None


def test_a_response_of_another_shape_raises_decode_error(queries):
    [query] = queries.snapshots(["US:A"])
    with pytest.raises(DecodeError):
        query.read(b'{"c":"US:A"}')


@pytest.mark.parametrize("count", [0, 51, -1, True, 1.0, "5", None])
def test_a_wrong_count_of_trades_raises(queries, count):
    with pytest.raises(ValueError, match="from 1 to 50") as caught:
        queries.trades(["US:A"], count=count)
    assert repr(count) in str(caught.value)


@pytest.mark.parametrize("count", [0, 1001, True, 1.5])
def test_a_wrong_count_of_klines_raises(queries, count):
    with pytest.raises(ValueError, match="from 1 to 1000"):
        queries.klines(["US:A"], interval="1d", count=count)
    with pytest.raises(ValueError, match="from 1 to 1000"):
        queries.history(["US:A"], interval="1d", end=0, count=count)


def test_the_largest_counts_are_allowed(queries):
    assert queries.trades(["US:A"], count=50)[0].body["count"] == 50
    [query] = queries.klines(["US:A"], interval="1d", count=1000)
    assert query.body["kline_reqs"][0]["co"] == 1000


def test_an_unknown_interval_raises(queries):
    with pytest.raises(ValueError, match="'3m'"):
        queries.klines(["US:A"], interval="3m")


@pytest.mark.parametrize("adjust", [2, True, "forward", None, 1.0])
def test_an_unknown_adjustment_raises(queries, adjust):
    with pytest.raises(ValueError, match=f"{adjust!r}"):
        queries.klines(["US:A"], interval="1d", adjust=adjust)


@pytest.mark.parametrize("adjust", [1, Adjustment.FORWARD], ids=["int", "member"])
def test_an_adjustment_is_sent_as_its_number(queries, adjust):
    [query] = queries.klines(["US:A"], interval="1d", adjust=adjust)
    assert json.dumps(query.body["kline_reqs"][0]["a"]) == "1"


@pytest.mark.parametrize("market", ["", "H1", "港股", None, 5, "HK:700"])
def test_a_malformed_market_raises(queries, market):
    with pytest.raises(ValueError, match="malformed market"):
        queries.calendar([market])


def test_any_market_is_accepted_and_requested_once(queries):
    assert queries.products(["hk", "HK", "zz"]).body == {"market": ["HK", "ZZ"]}
    assert queries.products("HK").body == {"market": ["HK"]}
    with pytest.raises(ValueError, match="at least one market"):
        queries.products([])


def test_times_are_rounded_down_to_epoch_seconds():
    assert epoch(1741959608) == epoch(1741959608.9) == 1741959608
    moment = datetime(2025, 3, 14, tzinfo=UTC)
    east = moment.astimezone(timezone(timedelta(hours=8)))
    assert epoch(moment) == epoch(east) == 1741910400
    assert epoch(-1.5) == -2


def test_a_naive_datetime_raises_with_the_remedy():
    with pytest.raises(ValueError, match=r"no time zone.*UTC"):
        epoch(datetime(2025, 3, 14))  # noqa: DTZ001


@pytest.mark.parametrize("value", [True, None, "2025", float("nan"), float("inf")])
def test_a_value_that_is_not_a_time_raises(value):
    with pytest.raises(ValueError, match="is not a time"):
        epoch(value)


def test_milliseconds_raise():
    with pytest.raises(ValueError, match="not milliseconds"):
        epoch(1741959608000)


@pytest.mark.fault("P12", "P18", "P19")
@given(st.binary(max_size=60))
def test_any_bytes_decode_or_raise_decode_error(data):
    queries = Queries(Decimal, chunk=10)
    every: list[Any] = [
        *queries.snapshots(["US:A"]),
        *queries.trades(["US:A"]),
        *queries.klines(["US:A"], interval="1d"),
        queries.calendar(["US"]),
        queries.products(["US"]),
    ]
    for query in every:
        with contextlib.suppress(DecodeError):
            query.read(data)


MANY = [f"CF:S{n:05d}" for n in range(10_000)]


@pytest.mark.parametrize(
    ("verb", "options", "size"),
    [
        ("klines", {"interval": DAY, "count": 1000}, 20),
        ("history", {"interval": DAY, "count": 1000, "end": 1741959608}, 20),
        ("klines", {"interval": DAY, "count": 3}, 6_666),
        ("trades", {"count": 50}, 400),
        ("snapshots", {}, 5_000),
        ("instruments", {}, 5_000),
        ("depths", {}, 2_000),
    ],
)
def test_no_query_has_a_response_too_large_for_a_frame(verb, options, size):
    parts = getattr(Queries(Decimal, chunk=10_000), verb)(MANY, **options)
    assert [symbol for part in parts for symbol in part.symbols] == MANY
    assert {len(part.symbols) for part in parts[:-1]} == {size}
    assert len(parts[-1].symbols) <= size


@pytest.mark.parametrize(
    ("verb", "options"),
    [
        ("klines", {"interval": DAY, "count": 1000}),
        ("trades", {"count": 50}),
        ("snapshots", {}),
        ("depths", {}),
    ],
)
def test_ten_symbols_are_one_query_of_any_kind(queries, verb, options):
    [part] = getattr(queries, verb)(MANY[:10], **options)
    assert len(part.symbols) == 10
