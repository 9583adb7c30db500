"""Records: properties, dicts, copies and encoding."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from qos_async._core.decoding import RecordDecoder
from qos_async._core.wire import FrameDecoder
from qos_async.enums import Interval, Session, Side, TradingStatus
from qos_async.models import (
    Depth,
    Instrument,
    Kline,
    PriceLevel,
    Product,
    SessionQuote,
    Snapshot,
    Tick,
    Trade,
    TradingDay,
)
from tests.support.factories import flat_kline
from tests.support.full_records import AT, BARE, FULL, KINDS, RECEIVED_AT

D = Decimal
SESSION = {
    "last_price": D("1.1"),
    "prev_close": D(2),
    "high": D(3),
    "low": D(4),
    "volume": D(5),
    "turnover": D(6),
    "timestamp": AT,
}
TICK = {
    "symbol": "US:AAPL",
    "timestamp": AT,
    "received_at": RECEIVED_AT,
    "recovered": True,
}
NUMBERS: list[type[Any]] = [Decimal, float, str]


def book(bids: Any = (), asks: Any = (), numbers: type[Any] = Decimal) -> Any:
    def side(levels: Any) -> tuple[PriceLevel[Any], ...]:
        return tuple(
            PriceLevel(numbers(price), numbers(size)) for price, size in levels
        )

    return Depth(symbol="US:A", bids=side(bids), asks=side(asks))


@pytest.mark.parametrize("numbers", NUMBERS)
def test_the_best_levels_of_a_book_are_the_first(numbers: type[Any]):
    depth = book(
        [("212.62", "110"), ("212.61", "5")],
        [("212.66", "338"), ("212.7", "1")],
        numbers,
    )
    assert depth.best_bid == PriceLevel(numbers("212.62"), numbers("110"))
    assert depth.best_ask == PriceLevel(numbers("212.66"), numbers("338"))
    assert type(depth.mid) is type(depth.spread) is numbers
    assert float(depth.mid) == pytest.approx(212.64)
    assert float(depth.spread) == pytest.approx(0.04)


@pytest.mark.parametrize("numbers", [Decimal, str])
def test_mid_and_spread_are_exact(numbers: type[Any]):
    depth = book([("0.1", "1")], [("0.4", "1")], numbers)
    assert depth.mid == numbers("0.25")
    assert depth.spread == numbers("0.3")


@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize("zero", ["0", "0.0", "0.000"])
def test_levels_of_size_zero_are_not_the_best(numbers: type[Any], zero: str):
    depth = book(
        [("9", zero), ("8", "1")], [("8.5", zero), ("9.5", zero), ("10", "2")], numbers
    )
    assert depth.best_bid.price == numbers("8")
    assert depth.best_ask.price == numbers("10")
    assert float(depth.mid) == 9
    assert float(depth.spread) == 2
    assert len(depth.bids) == 2
    assert len(depth.asks) == 3


@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize(
    ("bids", "asks"),
    [
        ([], []),
        ([("1", "1")], []),
        ([], [("1", "1")]),
        ([("1", "0")], [("2", "1")]),
        ([("1", "1")], [("2", "0")]),
    ],
)
def test_a_one_sided_book_has_no_mid(bids: Any, asks: Any, numbers: type[Any]):
    depth = book(bids, asks, numbers)
    assert depth.mid is None
    assert depth.spread is None
    assert (depth.best_bid is None) or (depth.best_ask is None)


@pytest.mark.parametrize("numbers", NUMBERS)
def test_a_crossed_book_has_a_negative_spread(numbers: type[Any]):
    assert float(book([("10", "1")], [("9", "1")], numbers).spread) == -1


@pytest.mark.parametrize(
    ("symbol", "start", "interval", "end"),
    [
        # New York: the clocks go forward on 2025-03-09, back on 2025-11-02.
        ("US:A", "2025-03-09T05:00", Interval.DAY, "2025-03-10T04:00"),
        ("US:A", "2025-11-02T04:00", Interval.DAY, "2025-11-03T05:00"),
        ("US:A", "2025-03-03T05:00", Interval.WEEK, "2025-03-10T04:00"),
        ("US:A", "2025-03-01T05:00", Interval.MONTH, "2025-04-01T04:00"),
        ("US:A", "2025-01-01T05:00", Interval.YEAR, "2026-01-01T05:00"),
        ("US:A", "2025-03-09T06:59", Interval.MIN_1, "2025-03-09T07:00"),
        ("HK:1", "2025-03-13T16:00", Interval.DAY, "2025-03-14T16:00"),
        ("CF:B", "2024-02-01T00:00", Interval.MONTH, "2024-03-01T00:00"),
        ("CF:B", "2025-03-14T04:00", Interval.HOUR_4, "2025-03-14T08:00"),
    ],
)
def test_a_bar_ends_in_the_time_zone_of_its_market(
    symbol: str, start: str, interval: Interval, end: str
):
    begun = datetime.fromisoformat(start).replace(tzinfo=UTC)
    over = datetime.fromisoformat(end).replace(tzinfo=UTC)
    bar = flat_kline(int(begun.timestamp()), symbol=symbol, interval=interval)
    assert bar.end == over
    assert bar.end.tzinfo is UTC


def test_a_bar_of_an_unknown_interval_has_an_end():
    assert flat_kline(60, interval=Interval.UNKNOWN).end >= datetime.fromtimestamp(
        60, UTC
    )


def test_the_time_of_a_tick_is_aware_and_utc():
    for record in (
        Trade(symbol="US:A", price=D(1), timestamp=1741960243),
        SessionQuote[Decimal](timestamp=1741960243),
    ):
        assert record.time == datetime(2025, 3, 14, 13, 50, 43, tzinfo=UTC)
        assert record.time.tzinfo is UTC


def test_fields_that_a_market_may_omit_default_to_none():
    snapshot: Snapshot[Decimal] = Snapshot(symbol="US:A")
    for name in [
        "last_price",
        "prev_close",
        "open",
        "high",
        "low",
        "volume",
        "turnover",
    ]:
        assert getattr(snapshot, name) is None
    assert snapshot.status is TradingStatus.UNKNOWN
    assert snapshot.session is None
    assert snapshot.pre_market is None
    assert snapshot.post_market is snapshot.overnight is None
    assert (snapshot.timestamp, snapshot.received_at, snapshot.recovered) == (
        0,
        0,
        False,
    )
    trade = Trade(symbol="US:A", price=D(1))
    assert trade.size is None
    assert trade.side is Side.UNKNOWN
    assert flat_kline(0, interval=Interval.DAY).volume is None
    for field in msgspec.structs.fields(Instrument):
        if field.name != "symbol":
            assert getattr(Instrument(symbol="US:A"), field.name) is None


RECORDS: list[Any] = [
    Snapshot(
        symbol="US:A",
        last_price=D(1),
        session=Session.REGULAR,
        pre_market=SessionQuote(),
    ),
    Trade(symbol="US:A", price=D(1), side=Side.BUY, received_at=5),
    book([("1", "2")], [("3", "4")]),
    flat_kline(0, interval=Interval.DAY),
    SessionQuote(last_price=D(1)),
    PriceLevel(D(1), D(2)),
    Instrument(symbol="US:A", eps=D(1)),
    Product(symbol="US:A", name="A"),
    TradingDay(date=date(2025, 6, 6), half_day=True),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_records_are_frozen_and_can_be_keys(record: Any):
    name = record.__struct_fields__[0]
    with pytest.raises(AttributeError):
        setattr(record, name, None)
    assert {record: 1}[copy.copy(record)] == 1


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_records_survive_copying_and_pickling(record: Any):
    for twin in (
        copy.copy(record),
        copy.deepcopy(record),
        pickle.loads(pickle.dumps(record)),
    ):
        assert twin == record
        assert type(twin) is type(record)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
@pytest.mark.parametrize("numbers", NUMBERS)
def test_a_record_is_decoded_from_its_own_encoding(record: Any, numbers: type[Any]):
    kind: Any = type(record)
    if kind not in {Product, TradingDay}:
        kind = kind[numbers]
    written = msgspec.json.encode(record)
    read: Any = RecordDecoder(kind, numbers).decode(written)
    assert type(read) is type(record)
    assert msgspec.json.encode(read) == written or numbers is float


@pytest.mark.parametrize("kind", [Snapshot, Trade, Depth, Kline])
def test_every_live_record_is_a_tick(kind: type[Any]):
    assert issubclass(kind, Tick)


def test_the_wires_letters_are_those_of_the_document():
    def letters(kind: type[Any]) -> dict[str, str]:
        return {f.name: f.encode_name for f in msgspec.structs.fields(kind)}

    common = {"symbol": "c", "timestamp": "ts"}
    own = {name: name for name in ("received_at", "recovered")}
    own["place"] = "qos_async.place"
    quote = {
        "last_price": "lp",
        "prev_close": "yp",
        "high": "h",
        "low": "l",
        "volume": "v",
        "turnover": "t",
    }
    assert letters(SessionQuote) == {**quote, "timestamp": "ts"}
    assert letters(Snapshot) == {
        **common,
        **own,
        **quote,
        "open": "o",
        "status": "s",
        "session": "tt",
        "pre_market": "pq",
        "post_market": "aq",
        "overnight": "nq",
    }
    assert letters(Trade) == {**common, **own, "price": "p", "size": "v", "side": "d"}
    assert letters(Depth) == {**common, **own, "bids": "b", "asks": "a"}
    assert letters(PriceLevel) == {"price": "p", "size": "v"}
    assert letters(Kline) == {
        **common,
        **own,
        "interval": "kt",
        "open": "o",
        "high": "h",
        "low": "l",
        "close": "cl",
        "volume": "v",
    }
    assert letters(Instrument) == {
        "symbol": "c",
        "exchange": "e",
        "currency": "tc",
        "name_zh": "nc",
        "name_en": "ne",
        "lot_size": "ls",
        "total_shares": "ts",
        "circulating_shares": "os",
        "eps": "ep",
        "bps": "na",
        "dividend": "dy",
    }


def fields_without_place(kind):
    return tuple(name for name in kind.__struct_fields__ if name != "place")


def test_only_a_tick_with_a_place_shows_it():
    placed, bare = Trade(symbol="US:A", price=1, place="7.a.0"), BARE[Trade]
    assert placed.to_dict()["place"] == "7.a.0"
    assert "place='7.a.0'" in repr(placed)
    assert "place" not in repr(bare)
    assert bare.place == ""


@pytest.mark.parametrize("numbers", [D, float, str])
def test_a_field_of_the_service_named_place_does_not_set_it(numbers):
    frame = b'{"tp":"T","c":"US:A","p":"1","v":"2","place":"7.a.0"}'
    tick: Any = FrameDecoder(numbers).read(frame)
    assert (tick.symbol, float(tick.price), tick.place) == ("US:A", 1, "")


def test_a_trade_as_a_dict_has_long_names_and_words():
    assert FULL[Trade].to_dict() == {
        **TICK,
        "price": D("212.65"),
        "size": D("0.5"),
        "side": "sell",
    }
    assert tuple(FULL[Trade].to_dict()) == fields_without_place(Trade)
    assert Trade(symbol="US:A", price=1.5).to_dict()["price"] == 1.5


def test_a_kline_as_a_dict_has_the_word_of_its_interval():
    row = FULL[Kline].to_dict()
    assert row["interval"] == "1m"
    assert row["high"] == D("4.5")
    assert tuple(row) == fields_without_place(Kline)


def test_a_snapshot_as_a_dict_has_dicts_of_its_sessions():
    row = FULL[Snapshot].to_dict()
    assert row["pre_market"] == SESSION
    assert row["overnight"] == {**SESSION, "last_price": D("1.3"), "timestamp": 0}
    assert (row["status"], row["session"]) == ("suspended", "pre_market")


def test_a_book_as_a_dict_has_lists_of_levels():
    row = FULL[Depth].to_dict()
    assert row["bids"] == [
        {"price": D("212.6"), "size": D(110)},
        {"price": D("212.5"), "size": D(0)},
    ]
    assert row["asks"] == [{"price": D("212.7"), "size": D(338)}]
    assert BARE[Depth].to_dict()["bids"] == []


def test_a_trading_day_as_a_dict_has_its_date():
    row = FULL[TradingDay].to_dict()
    assert row == {"date": date(2025, 7, 3), "half_day": True}


@pytest.mark.parametrize("kind", KINDS)
def test_a_record_as_a_dict_has_every_field_and_none_for_what_is_missing(kind: Any):
    for record in (FULL[kind], BARE[kind]):
        row = record.to_dict()
        assert tuple(row) == fields_without_place(kind)
        missing = {name for name in row if getattr(record, name) is None}
        assert missing == {name for name in row if row[name] is None}


@pytest.mark.fault("F8")
@pytest.mark.parametrize("numbers", [Decimal, float, str])
def test_a_level_without_a_price_is_not_the_best_one(numbers):
    """In an auction it has the orders at any price, which are first in line."""

    def book(bids, asks):
        sides = [
            tuple(PriceLevel(numbers(price), numbers("5")) for price in side)
            for side in (bids, asks)
        ]
        return Depth(symbol="HK:1", bids=sides[0], asks=sides[1], timestamp=1)

    auction = book(["0", "10"], ["0.000", "11"])
    assert float(auction.mid) == 10.5
    assert float(auction.spread) == 1
    assert book(["0"], ["11"]).best_bid is None
    oil = book(["0", "-0.5"], ["1"])  # Negative prices, of April 2020.
    assert float(oil.best_bid.price) == 0


@pytest.mark.fault("F83")
@pytest.mark.parametrize("sent", ["1e9999999", "abc", ""])
def test_text_that_is_no_number_has_no_middle(sent):
    book = Depth(
        symbol="US:A",
        bids=(PriceLevel(sent, "1"),),
        asks=(PriceLevel("2", "1"),),
        timestamp=1,
    )
    assert (book.mid, book.spread) == (None, None)
    assert Depth(symbol="US:A", bids=(PriceLevel("1", sent),)).best_bid in (
        None,
        PriceLevel("1", sent),
    )
