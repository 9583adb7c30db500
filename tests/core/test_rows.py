"""Replies of many rows: an unreadable value does not cost the other rows."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qos_async._core.queries import Queries
from qos_async._core.rows import RowsDecoder, Unread
from qos_async.enums import Market
from qos_async.errors import DecodeError
from qos_async.models import Trade

SYMBOLS = [f"US:S{n}" for n in range(10)]
QUOTE = {"lp": "1", "yp": "1", "h": "2", "l": "1", "v": "5", "t": "6", "ts": 7}
LEVEL = {"p": "1", "v": "2"}
BAR = {
    "c": "US:S3",
    "o": "1",
    "cl": "1",
    "h": "1",
    "l": "1",
    "v": "1",
    "ts": 1_700_000_000,
    "kt": 1,
}
ROWS: dict[str, dict[str, Any]] = {
    "instruments": {"ls": 100, "ts": 5, "os": 4, "ep": "1", "na": "2", "dy": "3"},
    "snapshots": {
        **dict.fromkeys(("lp", "yp", "o", "h", "l", "v", "t"), "1"),
        "ts": 1_700_000_000,
        "s": 0,
        "pq": QUOTE,
    },
    "depths": {"b": [LEVEL], "a": [LEVEL, LEVEL], "ts": 1_700_000_000},
    "trades": {"p": "1", "v": "2", "ts": 1_700_000_000, "d": 1},
    "klines": {"k": [BAR, {**BAR, "ts": 1_700_000_060}]},
}
JUNK = [
    "-",
    "NaN",
    "1,200",
    "--",
    "N/A",
    "1 200",
    "0x10",
    [],
    {},
    True,
    "inf",
    "1e9999999",
]
MILLISECONDS = 1_700_000_000_000

NUMBERS: list[Any] = [Decimal, float]
TYPES: list[Any] = [*NUMBERS, str]


def one_query(verb: str, numbers: Any = Decimal) -> Any:
    options: dict[str, Any] = {"interval": "1m"} if verb == "klines" else {}
    [query] = getattr(Queries(numbers, chunk=10), verb)(SYMBOLS, **options)
    return query


def reply(verb: str, **changed: Any) -> bytes:
    """Return ten rows, of which the fourth is changed."""
    rows = [{"c": symbol, **ROWS[verb]} for symbol in SYMBOLS]
    rows[3] |= changed
    return json.dumps(rows).encode()


def read(verb: str, data: bytes, numbers: Any = Decimal) -> Any:
    unread: list[Unread] = []
    return one_query(verb, numbers).read(data, unread), unread


OPTIONAL = [
    *[
        ("instruments", name, long)
        for name, long in [("ls", "lot_size"), ("ep", "eps")]
    ],
    ("snapshots", "lp", "last_price"),
    ("snapshots", "v", "volume"),
    ("trades", "v", "size"),
]


@pytest.mark.fault("F22")
@pytest.mark.parametrize("numbers", TYPES)
@pytest.mark.parametrize("junk", JUNK, ids=repr)
@pytest.mark.parametrize(("verb", "name", "attribute"), OPTIONAL)
def test_an_unreadable_field_costs_no_other_value(
    verb: str, name: str, attribute: str, junk: Any, numbers: Any
):
    found, unread = read(verb, reply(verb, **{name: junk}), numbers)
    assert list(found) == SYMBOLS
    rows = [row[0] if isinstance(row, list) else row for row in found.values()]
    values = [getattr(row, attribute) for row in rows]
    assert [value is None for value in values] == [n == 3 for n in range(10)]
    if junk != {}:
        assert unread == [Unread("US:S3", name, junk, lost=False)]


@pytest.mark.fault("F22")
@pytest.mark.parametrize("numbers", [Decimal, str])
@pytest.mark.parametrize("sent", ["-1E+100", "1e-9999999", "0e400"])
def test_a_number_that_would_fill_memory_as_text_is_unreadable(sent: str, numbers: Any):
    """Nothing has such a price; to format it takes as many digits as its exponent says."""
    found, unread = read("snapshots", reply("snapshots", lp=sent), numbers)
    assert found["US:S3"].last_price is None
    assert found["US:S4"].last_price is not None
    assert unread == [Unread("US:S3", "lp", sent, lost=False)]


REQUIRED: list[tuple[str, dict[str, Any], str]] = [
    ("trades", {"p": "-"}, "p"),
    ("trades", {"ts": MILLISECONDS}, "ts"),
    ("depths", {"b": [LEVEL, {"p": "-", "v": "1"}]}, "b"),
    ("depths", {"a": [{"p": "1"}]}, "a"),
    ("depths", {"a": "-"}, "a"),
    ("klines", {"k": [{**BAR, "o": "-"}]}, "o"),
    ("klines", {"k": [{**BAR, "ts": MILLISECONDS}]}, "ts"),
    ("klines", {"k": [{**BAR, "kt": "-"}]}, "kt"),
]


@pytest.mark.fault("F22")
@pytest.mark.parametrize("numbers", TYPES)
@pytest.mark.parametrize(("verb", "changed", "name"), REQUIRED)
def test_a_row_without_a_required_field_is_missing_and_all_else_is_given(
    verb: str, changed: dict[str, Any], name: str, numbers: Any
):
    found, unread = read(verb, reply(verb, **changed), numbers)
    assert list(found) == [symbol for symbol in SYMBOLS if symbol != "US:S3"]
    assert ("US:S3", name, True) in {(one.name, one.field, one.lost) for one in unread}


@pytest.mark.fault("F22")
@pytest.mark.parametrize("verb", ["snapshots", "depths"])
def test_a_time_in_milliseconds_counts_as_not_sent(verb: str):
    found, unread = read(verb, reply(verb, ts=MILLISECONDS))
    assert [row.timestamp for row in found.values()].count(0) == 1
    assert found["US:S3"].timestamp == 0
    assert unread == [Unread("US:S3", "ts", MILLISECONDS, lost=False)]


@pytest.mark.fault("F22")
def test_of_a_us_session_only_the_unreadable_field_is_left_out():
    found, unread = read("snapshots", reply("snapshots", pq={**QUOTE, "lp": "-"}))
    quote = found["US:S3"].pre_market
    assert (quote.last_price, quote.high, quote.timestamp) == (None, Decimal(2), 7)
    assert unread == [Unread("US:S3", "lp", "-", lost=False)]


@pytest.mark.fault("F22")
def test_of_the_klines_of_a_symbol_only_the_unreadable_one_is_left_out():
    bars = [BAR, {**BAR, "ts": 1_700_000_060, "h": "-"}, {**BAR, "ts": 1_700_000_120}]
    found, unread = read("klines", reply("klines", k=bars))
    assert list(found) == SYMBOLS
    starts = [bar.timestamp for bar in found["US:S3"]]
    assert starts == [1_700_000_000, 1_700_000_120]
    assert unread == [Unread("US:S3", "h", "-", lost=True)]


UNREADABLE_BARS = [
    [{**BAR, "cl": "-"}, {**BAR, "cl": "-", "ts": 1_700_000_060}],
    [{**BAR, "ts": MILLISECONDS}],
    [7],
    "-",
    {},
]


@pytest.mark.fault("F22")
@pytest.mark.parametrize("numbers", TYPES)
@pytest.mark.parametrize("bars", UNREADABLE_BARS, ids=str)
def test_a_symbol_of_which_no_bar_can_be_read_is_missing(bars: Any, numbers: Any):
    found, unread = read("klines", reply("klines", k=bars), numbers)
    assert list(found) == [symbol for symbol in SYMBOLS if symbol != "US:S3"]
    assert all(one.lost and one.name == "US:S3" for one in unread)
    assert len({one.field for one in unread}) == 1


@pytest.mark.fault("F22")
@pytest.mark.parametrize("numbers", TYPES)
@pytest.mark.parametrize("bars", UNREADABLE_BARS, ids=str)
def test_klines_of_which_no_bar_can_be_read_are_a_decode_error(bars: Any, numbers: Any):
    data = json.dumps([{"c": "US:S3", "k": bars}])
    with pytest.raises(DecodeError):
        read("klines", data.encode(), numbers)


@pytest.mark.fault("F22")
@pytest.mark.parametrize(
    "row", [None, 7, "x", [], {}, {"c": 5}, {"c": "US:X", "tp": 1}]
)
def test_a_row_that_is_no_record_is_left_out(row: Any):
    rows = [*json.loads(reply("trades")), row]
    found, unread = read("trades", json.dumps(rows).encode())
    assert list(found) == SYMBOLS
    assert unread[0].lost


@pytest.mark.fault("F22")
@pytest.mark.parametrize(
    "data",
    [b"7", b"[7]", b'{"c":"US:S1"}', b'[{"c":"US:S1","p":"-"}]', b"[{}]", b"[", b'"x"'],
)
def test_a_reply_without_a_readable_row_is_a_decode_error(data: bytes):
    with pytest.raises(DecodeError):
        read("trades", data)


@pytest.mark.fault("F22")
def test_an_unreadable_row_costs_no_other_product_or_market():
    query = Queries(Decimal, chunk=10).products(["HK", "US", "CF"])
    unread: list[Unread] = []
    rows = [
        {"code": "HK:00700", "name": "x"},
        {"name": "y"},
        {"code": "HK:5", "name": 7},
    ]
    data = {"HK": rows, "US": "-", "CF": []}
    found = query.read(json.dumps(data).encode(), unread)
    assert {market: [one.symbol for one in rows] for market, rows in found.items()} == {
        Market.HK: ["HK:700", "HK:5"],
        Market.CF: [],
    }
    assert found[Market.HK][1].name == ""
    assert [(one.name, one.field) for one in unread] == [
        ("HK", "code"),
        ("HK:5", "name"),
        ("US", ""),
    ]


@pytest.mark.fault("F22")
@pytest.mark.parametrize(
    "days", [["20250606,F", "-"], ["20250606,F", 5], "-", 5, {"a": 1}]
)
def test_a_market_with_an_unreadable_day_is_left_out(days: Any):
    """Without that day, the list would say that the market is closed on it."""
    query = Queries(Decimal, chunk=10).calendar(["HK", "US"])
    unread: list[Unread] = []
    data = {"HK": days, "US": ["20250606,F"]}
    assert list(query.read(json.dumps(data).encode(), unread)) == [Market.US]
    assert [one.name for one in unread] == ["HK"]


@pytest.mark.fault("F22")
@pytest.mark.parametrize("sent", ["5", "-0.50", "+1.", ".5", "1e-7", "1E+3", "007"])
def test_text_of_a_number_is_kept_as_it_was_sent(sent: str):
    found, unread = read("snapshots", reply("snapshots", lp=sent, v=5), str)
    assert (found["US:S3"].last_price, unread) == (sent, [])
    found, unread = read("snapshots", reply("snapshots", lp=[], v=5.50), str)
    assert (found["US:S3"].last_price, found["US:S3"].volume) == (None, "5.5")


VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=8),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner)
    ),
    max_leaves=5,
)


@pytest.mark.fault("F22")
@given(value=VALUES, name=st.sampled_from(["c", "p", "v", "ts", "d", "tp"]))
def test_any_value_in_a_row_leaves_the_other_rows_as_they_are(value: Any, name: str):
    decoder: RowsDecoder[Trade[Any]] = RowsDecoder(Trade, Decimal)
    rows = [{"c": f"US:S{n}", **ROWS["trades"]} for n in range(3)]
    rows[1][name] = value
    found = decoder.decode(json.dumps(rows).encode(), []) or []
    others = [trade for trade in found if trade.symbol in ("US:S0", "US:S2")]
    assert len(others) >= 2
    assert all(trade.price.is_finite() for trade in found)
    assert [trade.price for trade in others[:1]] == [Decimal(1)]
