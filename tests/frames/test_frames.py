"""Values and types in frames, which are exact."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qos_async import Depth, Instrument, Kline, PriceLevel, Snapshot, Trade
from qos_async.enums import Interval, Session, Side, TradingStatus
from qos_async.frames import columns, schema, to_arrow, to_pandas, to_polars
from qos_async.markets import Bar
from tests.support.full_records import AT, BARE, FULL, KINDS, RECEIVED_AT, TIME, D

pa: Any = pytest.importorskip("pyarrow")
pl: Any = pytest.importorskip("polars")

NUMBERS: list[Any] = [float, Decimal, str]
SHAPES = [*((kind, False) for kind in KINDS), (Depth, True), (Bar, False)]


def rows(frame: Any) -> Any:
    """Take any frame apart, with None for every kind of null."""
    if isinstance(frame, pl.DataFrame):
        return frame.to_dicts()
    if isinstance(frame, pa.Table):
        return frame.to_pylist()
    found = frame.astype(object).where(frame.notna(), None)
    return found.to_dict("records")


def both(make: Any, kind: Any, **options: Any) -> Any:
    return rows(make([FULL[kind], BARE[kind]], **options))


MAKERS = pytest.mark.parametrize("make", [to_polars, to_pandas, to_arrow])


# Values


@MAKERS
def test_a_trade_is_a_row_and_what_is_missing_is_null(make: Any):
    full, bare = both(make, Trade)
    full.pop("received_at")
    assert full == {
        "symbol": "US:AAPL",
        "time": TIME,
        "price": 212.65,
        "size": 0.5,
        "side": "sell",
        "recovered": True,
    }
    assert bare == {
        "symbol": "US:AAPL",
        "time": None,
        "price": 1.0,
        "size": None,
        "side": "unknown",
        "received_at": None,
        "recovered": False,
    }


@MAKERS
def test_received_at_keeps_its_nanoseconds(make: Any):
    frame = make([FULL[Trade]])
    if make is to_polars:
        assert frame["received_at"].cast(pl.Int64).to_list() == [RECEIVED_AT]
    elif make is to_arrow:
        assert frame["received_at"].cast(pa.int64()).to_pylist() == [RECEIVED_AT]
    else:
        assert frame["received_at"][0].value == RECEIVED_AT


@MAKERS
def test_a_kline_is_a_row(make: Any):
    full, bare = both(make, Kline)
    full.pop("received_at")
    assert full == {
        "symbol": "US:AAPL",
        "time": TIME,
        "interval": "1m",
        "open": 1.0,
        "high": 4.5,
        "low": 0.5,
        "close": 2.0,
        "volume": 100.0,
        "recovered": True,
    }
    assert (bare["interval"], bare["volume"]) == ("unknown", None)


@MAKERS
def test_the_sessions_of_a_snapshot_are_in_the_same_row(make: Any):
    full, bare = both(make, Snapshot)
    assert (full["status"], full["session"]) == ("suspended", "pre_market")
    assert full["turnover"] == 212650.5
    assert [full[f"pre_market_{name}"] for name in ("last_price", "time")] == [
        1.1,
        TIME,
    ]
    assert [full[f"post_market_{name}"] for name in ("last_price", "low")] == [1.2, 4.0]
    assert [full[f"overnight_{name}"] for name in ("last_price", "time")] == [1.3, None]
    filled = {name: value for name, value in bare.items() if value is not None}
    assert filled == {"symbol": "US:AAPL", "status": "unknown", "recovered": False}


@MAKERS
def test_an_instrument_keeps_whole_numbers_and_names(make: Any):
    full, bare = both(make, Instrument)
    assert (full["name_zh"], full["lot_size"]) == ("腾讯控股", 100)
    assert (full["total_shares"], full["eps"]) == (9_000_000_000, 20.9)
    assert [name for name, value in bare.items() if value is not None] == ["symbol"]


@MAKERS
def test_the_levels_of_a_book_are_lists(make: Any):
    full, bare = both(make, Depth)
    assert full["bids"] == [
        {"price": 212.6, "size": 110.0},
        {"price": 212.5, "size": 0.0},
    ]
    assert full["asks"] == [{"price": 212.7, "size": 338.0}]
    assert bare["bids"] == bare["asks"] == []


@MAKERS
def test_an_empty_book_does_not_shift_the_levels_of_others(make: Any):
    books = [BARE[Depth], FULL[Depth], BARE[Depth], FULL[Depth]]
    assert [len(row["bids"]) for row in rows(make(books))] == [0, 2, 0, 2]
    assert [len(row["asks"]) for row in rows(make(books))] == [0, 1, 0, 1]


@MAKERS
def test_an_exploded_book_is_a_row_for_each_level_bids_first(make: Any):
    other = Depth(symbol="HK:700", asks=(PriceLevel(D(9), D(8)),))
    found = rows(make([FULL[Depth], BARE[Depth], other], explode=True))
    names = ("symbol", "side", "level", "price", "size", "recovered")
    assert [tuple(row[name] for name in names) for row in found] == [
        ("US:AAPL", "bid", 1, 212.6, 110.0, True),
        ("US:AAPL", "bid", 2, 212.5, 0.0, True),
        ("US:AAPL", "ask", 1, 212.7, 338.0, True),
        ("HK:700", "ask", 1, 9.0, 8.0, False),
    ]
    assert [row["time"] for row in found] == [TIME, TIME, TIME, None]


@pytest.mark.parametrize(
    ("field", "members"),
    [("side", Side), ("status", TradingStatus), ("session", Session)],
)
def test_every_member_of_an_enumeration_has_its_word(field: str, members: Any):
    made: Any = {
        "side": lambda one: Trade(symbol="US:A", price=1.0, side=one),
        "status": lambda one: Snapshot(symbol="US:A", status=one),
        "session": lambda one: Snapshot(symbol="US:A", session=one),
    }[field]
    found = to_polars([made(one) for one in members])[field].to_list()
    assert found == [one.name.lower() for one in members]


def test_every_interval_has_its_short_name():
    bars = [
        Kline(symbol="US:A", interval=one, open=1.0, high=1.0, low=1.0, close=1.0)
        for one in Interval
    ]
    assert to_arrow(bars)["interval"].to_pylist() == [one.short for one in Interval]


# Types


@MAKERS
@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize(("kind", "explode"), SHAPES)
def test_types_do_not_depend_on_values(
    make: Any, numbers: Any, kind: Any, explode: Any
):
    options: dict[str, Any] = {"numbers": numbers, "explode": explode, "kind": kind}
    empty = make([], **options)
    if make is to_arrow:
        assert empty.schema == schema(kind, numbers=numbers, explode=explode)
    names = empty.column_names if make is to_arrow else list(empty.columns)
    assert tuple(names) == columns(kind, explode=explode)
    for records in ([FULL.get(kind)], [BARE.get(kind)]):
        if kind is Bar:
            continue
        frame = make(records, **options)
        if make is to_pandas:
            assert frame.dtypes.to_dict() == empty.dtypes.to_dict()
        else:
            assert frame.schema == empty.schema


EXACT = {float: "double", Decimal: "decimal128(38, 18)", str: "string"}


@pytest.mark.parametrize("numbers", NUMBERS)
def test_the_types_of_arrow(numbers: Any):
    number = EXACT[numbers]
    rung = f"list<item: struct<price: {number}, size: {number}>>"
    types = {field.name: str(field.type) for field in schema(Depth, numbers=numbers)}
    assert types == {
        "symbol": "string",
        "time": "timestamp[us, tz=UTC]",
        "bids": rung,
        "asks": rung,
        "received_at": "timestamp[ns, tz=UTC]",
        "recovered": "bool",
    }
    words = "dictionary<values=string, indices=int8, ordered=0>"
    assert str(schema(Trade).field("side").type) == words


@pytest.mark.parametrize("numbers", NUMBERS)
def test_the_types_of_polars(numbers: Any):
    exact: Any = {float: pl.Float64, Decimal: pl.Decimal(38, 18), str: pl.String}
    number = exact[numbers]
    rungs = pl.List(pl.Struct({"price": number, "size": number}))
    assert dict(to_polars([], numbers=numbers, kind=Depth).schema) == {
        "symbol": pl.String,
        "time": pl.Datetime("us", "UTC"),
        "bids": rungs,
        "asks": rungs,
        "received_at": pl.Datetime("ns", "UTC"),
        "recovered": pl.Boolean,
    }
    sides = to_polars([], kind=Trade).schema["side"]
    assert sides == pl.Enum(["unknown", "buy", "sell"])


@pytest.mark.parametrize("numbers", NUMBERS)
def test_the_types_of_pandas(numbers: Any):
    found = to_pandas([], numbers=numbers, kind=Trade).dtypes
    number = {float: "float64", Decimal: "object", str: "str"}[numbers]
    assert {name: str(dtype) for name, dtype in found.items()} == {
        "symbol": "str",
        "time": "datetime64[us, UTC]",
        "price": number,
        "size": number,
        "side": "category",
        "received_at": "datetime64[ns, UTC]",
        "recovered": "bool",
    }
    assert list(found["side"].categories) == ["unknown", "buy", "sell"]
    assert str(to_pandas([], kind=Instrument).dtypes["lot_size"]) == "Int64"


def test_times_far_in_the_future_and_before_1970_are_kept():
    far = [
        Trade(symbol="US:A", price=1.0, timestamp=at) for at in (-AT, 99_999_999_999)
    ]
    times = [one.time for one in far]
    for make in (to_polars, to_pandas, to_arrow):
        assert [row["time"] for row in rows(make(far))] == times


# Numbers

FITTING = st.builds(
    lambda digits, scale: Decimal(digits).scaleb(-scale),
    st.integers(-(10**20 - 1), 10**20 - 1),
    st.integers(0, 18),
)


@settings(max_examples=25, deadline=None)  # The first call imports pandas.
@given(st.lists(st.tuples(FITTING, st.none() | FITTING), min_size=1, max_size=5))
def test_decimals_are_exact_for_every_type_of_numbers_of_the_client(pairs: Any):
    trades = [Trade(symbol="US:A", price=p, size=s) for p, s in pairs]
    texts = [
        Trade(symbol="US:A", price=str(p), size=None if s is None else str(s))
        for p, s in pairs
    ]
    prices, sizes = ([pair[side] for pair in pairs] for side in (0, 1))
    for make in (to_polars, to_pandas, to_arrow):
        for records in (trades, texts):
            frame = make(records, numbers=Decimal)
            for name, values in (("price", prices), ("size", sizes)):
                assert [row[name] for row in rows(frame)] == values


@settings(max_examples=25)
@given(st.lists(st.tuples(FITTING, FITTING), max_size=4), st.booleans())
def test_decimals_are_exact_in_the_levels_of_a_book(pairs: Any, explode: Any):
    book = Depth(symbol="US:A", bids=tuple(PriceLevel(p, s) for p, s in pairs))
    for make in (to_polars, to_arrow):
        found = rows(make([book], numbers=Decimal, explode=explode))
        rungs = found if explode else found[0]["bids"]
        assert [(rung["price"], rung["size"]) for rung in rungs] == pairs


@settings(max_examples=50)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_are_unchanged(value: float):
    for given_as in (value, Decimal(value), repr(value)):
        [price] = to_polars([Trade(symbol="US:A", price=given_as)])["price"]
        assert price == value


def test_a_float_as_a_decimal_is_the_number_on_the_wire():
    [price] = to_polars([Trade(symbol="US:A", price=0.1)], numbers=Decimal)["price"]
    assert price == D("0.1")


@MAKERS
def test_numbers_as_strings_are_those_of_the_record(make: Any):
    trades = [Trade(symbol="US:A", price=D("1.50"), size=None), FULL[Trade]]
    found = rows(make(trades, numbers=str))
    assert [(row["price"], row["size"]) for row in found] == [
        ("1.50", None),
        ("212.65", "0.5"),
    ]


@pytest.mark.parametrize("make", [to_polars, to_arrow])
@pytest.mark.parametrize("value", ["1E-19", "1E+20", "-100000000000000000000", "NaN"])
def test_a_number_that_does_not_fit_raises_and_is_not_rounded(make: Any, value: str):
    trades = [FULL[Trade], Trade(symbol="US:A", price=D(1), size=D(value))]
    message = r"column size: .* does not fit into Decimal\(38, 18\).*numbers=str keeps"
    with pytest.raises(ValueError, match=message):
        make(trades, numbers=Decimal)
    book = Depth(symbol="US:A", bids=(PriceLevel(D(1), D(value)),))
    with pytest.raises(ValueError, match=r"column bids\.size: "):
        make([book], numbers=Decimal)


def test_pandas_holds_every_decimal():
    values = [D("1E-19"), D("123456789012345678901234567890.5"), D("1E+300")]
    trades = [Trade(symbol="US:A", price=value) for value in values]
    assert to_pandas(trades, numbers=Decimal)["price"].tolist() == values


@MAKERS
@pytest.mark.parametrize("numbers", [float, Decimal])
def test_a_string_that_is_not_a_number_raises_with_its_column(make: Any, numbers: Any):
    trades: Any = [Trade(symbol="US:A", price="1"), Trade(symbol="US:A", price="n/a")]
    with pytest.raises(ValueError, match="column price: 'n/a' is not a number"):
        make(trades, numbers=numbers)
    assert [row["price"] for row in rows(make(trades, numbers=str))] == ["1", "n/a"]


@MAKERS
def test_more_shares_than_64_bits_raise_with_their_column(make: Any):
    with pytest.raises(ValueError, match="column total_shares: 9223372036854775808 "):
        make([Instrument(symbol="US:A", total_shares=2**63)])


def test_dates_are_dates():
    [day] = to_arrow([FULL[KINDS[-1]]])["date"].to_pylist()
    assert day == dt.date(2025, 7, 3)
    assert to_pandas([FULL[KINDS[-1]]])["date"][0] == dt.datetime(2025, 7, 3)  # noqa: DTZ001 - a day


@MAKERS
def test_strings_of_tiny_and_huge_decimals_are_as_on_the_wire(make: Any):
    tiny = Trade(symbol="US:A", price=D("0.00000001"), size=D("0.00000000"))
    [row] = rows(make([tiny], numbers=str))
    assert (row["price"], row["size"]) == ("0.00000001", "0.00000000")
