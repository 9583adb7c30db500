"""The simulated market: pure, so tested with plain numbers."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise

import pytest

from qos_async.enums import Interval
from qos_async.periods import bar_end, bar_start
from qos_async.sim import SimulatedMarket
from qos_async.sim.instruments import INSTRUMENTS, Increment
from qos_async.sim.source import Row
from qos_async.symbols import market_of

START = 1_741_958_400.0
LATER = START + 640.5
ALL = sorted(INSTRUMENTS)
SOME = ["US:AAPL", "HK:700", "SH:600519", "SZ:000001", "CF:BTCUSDT", "IX:HSI"]
INTERVALS = [one for one in Interval if one is not Interval.UNKNOWN]


@pytest.fixture(scope="module")
def market():
    """A market for tests that only read, at ``LATER``."""
    return SimulatedMarket(1, START)


def rows(market: SimulatedMarket, symbol: str, now: float = LATER) -> list[Row]:
    return market.trades(symbol, now, market.count(symbol, now))


def add_up(trades: list[Row]) -> dict[str, Decimal]:
    prices = [Decimal(one["p"]) for one in trades]
    return {
        "o": prices[0],
        "h": max(prices),
        "l": min(prices),
        "cl": prices[-1],
        "v": sum((Decimal(one["v"]) for one in trades), Decimal(0)),
    }


def numbers(row: Row, names: str = "o h l cl v") -> dict[str, Decimal]:
    return {name: Decimal(row[name]) for name in names.split()}


@pytest.mark.parametrize("symbol", SOME)
def test_the_same_seed_and_start_make_the_same_trades(symbol):
    once, again = SimulatedMarket(7, START), SimulatedMarket(7, START)
    for now in (START, START + 17, LATER):
        again.tape(symbol, now)  # Looking in between changes nothing.
    assert rows(once, symbol) == rows(again, symbol)
    assert rows(once, symbol) != rows(SimulatedMarket(8, START), symbol)


def test_trades_are_in_order_of_time_some_in_the_same_second():
    stamps = [one["ts"] for one in rows(SimulatedMarket(1, START), "CF:BTCUSDT")]
    assert stamps == sorted(stamps)
    assert len(set(stamps)) < len(stamps)
    assert stamps[0] <= START - 900
    assert stamps[-1] <= LATER


def test_there_is_history_for_fifty_trades_at_the_start():
    market = SimulatedMarket(1, START)
    assert all(len(market.trades(symbol, START, 50)) == 50 for symbol in ALL)


@pytest.mark.parametrize("symbol", ALL)
def test_prices_and_sizes_are_multiples_of_their_increments(market, symbol):
    instrument = INSTRUMENTS[symbol]
    tick = Decimal(instrument.price_increment.step).scaleb(
        -instrument.price_increment.places
    )
    step = Decimal(instrument.size_increment.step).scaleb(
        -instrument.size_increment.places
    )
    for trade in rows(market, symbol):
        assert Decimal(trade["p"]) % tick == 0
        assert Decimal(trade["v"]) % step == 0
        assert Decimal(trade["v"]) > 0
        assert trade["d"] in (1, 2)


@pytest.mark.parametrize(
    ("increment", "units", "text"),
    [
        (Increment(2), 1100, "11"),
        (Increment(2), 1197, "11.97"),
        (Increment(2), 5, "0.05"),
        (Increment(1, 5), 1043, "521.5"),
        (Increment(2, 10, padded=True), 833261, "83326.10"),
        (Increment(3, padded=True), 25, "0.025"),
        (Increment(0, 100), 3, "300"),
    ],
)
def test_numbers_are_formatted_as_recorded(increment, units, text):
    assert increment.format(units) == text


@pytest.mark.parametrize("interval", INTERVALS)
@pytest.mark.parametrize("symbol", ["CF:ETHUSDT", "US:AAPL", "HK:700", "SH:600519"])
def test_klines_over_the_tape_add_up_from_its_trades(market, symbol, interval):
    trades = rows(market, symbol)
    where = market_of(symbol)
    whole = 0
    for bar in market.klines(symbol, interval, 30, LATER):
        end = bar_end(bar["ts"], interval, where)
        inside = [one for one in trades if bar["ts"] <= one["ts"] < end]
        assert bar["ts"] == bar_start(bar["ts"], interval, where)
        assert bar["kt"] == interval
        if bar["ts"] >= trades[0]["ts"]:
            assert numbers(bar) == add_up(inside)
            whole += 1
        elif inside:  # It began before the tape, and so holds more than that.
            assert Decimal(bar["cl"]) == Decimal(inside[-1]["p"])
            assert Decimal(bar["v"]) > sum(Decimal(one["v"]) for one in inside)
    assert whole or interval >= Interval.HOUR_1


@pytest.mark.parametrize("interval", INTERVALS)
def test_longer_klines_add_up_from_minutes_since_the_tape_began(interval):
    early, late = (SimulatedMarket(1, START, history=120) for _ in range(2))
    early.klines("US:AAPL", interval, 1, START)  # Grown trade by trade,
    late.tape("US:AAPL", LATER)  # and from minutes at the end.
    assert early.klines("US:AAPL", interval, 50, LATER) == late.klines(
        "US:AAPL", interval, 50, LATER
    )


@pytest.mark.parametrize("interval", INTERVALS)
@pytest.mark.parametrize("symbol", ["CF:BTCUSDT", "US:TSLA"])
def test_klines_before_the_tape_are_continuous(market, symbol, interval):
    """In a market that never closes without a break, in others from bar to bar."""
    bars = market.klines(symbol, interval, 1000, LATER)
    expected = {Interval.YEAR: 55, Interval.MONTH: 600}.get(interval, 1000)
    assert len(bars) >= expected
    for bar, following in pairwise(bars):
        if following["ts"] < START - 1000:
            if symbol.startswith("CF"):
                end = bar_end(bar["ts"], interval, market_of(symbol))
                assert end == following["ts"]
            assert bar["cl"] == following["o"]
        low, high = Decimal(bar["l"]), Decimal(bar["h"])
        assert 0 < low <= min(Decimal(bar["o"]), Decimal(bar["cl"]))
        assert high >= max(Decimal(bar["o"]), Decimal(bar["cl"]))
        assert Decimal(bar["v"]) > 0


def test_a_kline_before_the_tape_is_the_same_at_every_request(market):
    end = int(START) - 86_400 * 3  # A Tuesday.
    page = market.klines("US:AAPL", Interval.MIN_5, 10, LATER, end=end)
    assert page[-1]["ts"] <= end < page[-1]["ts"] + 300
    older = market.klines("US:AAPL", Interval.MIN_5, 5, LATER, end=page[5]["ts"] - 1)
    assert older == page[:5]


@pytest.mark.parametrize("start", [START - 120, START - 86_400])
def test_a_page_ends_with_the_kline_that_contains_its_end(market, start):
    for end in (start, start + 59):
        page = market.klines("US:AAPL", Interval.MIN_1, 2, LATER, end=end)
        assert [bar["ts"] for bar in page] == [start - 60, start]


def test_history_has_a_first_kline():
    market = SimulatedMarket(1, START, oldest_bars=20)
    bars = market.klines("US:AAPL", Interval.HOUR_1, 1000, LATER)
    assert 20 <= len(bars) <= 25
    first = bars[0]["ts"]
    assert market.klines("US:AAPL", Interval.HOUR_1, 9, LATER, end=first - 1) == []


@pytest.mark.parametrize("symbol", SOME)
def test_the_snapshot_is_the_kline_of_the_day_and_ends_in_the_last_trade(symbol):
    market = SimulatedMarket(1, START)
    for now in (START, START + 300, START + 600):
        row = market.snapshot(symbol, now)
        before, day = market.klines(symbol, Interval.DAY, 2, now)
        last = market.trades(symbol, now, 1)[0]
        assert [row[n] for n in "ohlv"] == [day[n] for n in "ohlv"]
        assert row["lp"] == day["cl"] == last["p"]
        assert row["ts"] == last["ts"]
        if "yp" in row:
            assert row["yp"] == before["cl"]


@pytest.mark.parametrize(
    ("symbol", "lot"), [("SH:600519", 100), ("US:AAPL", 1), ("CF:BTCUSDT", 1)]
)
def test_turnover_is_price_times_size_with_lots_of_a_hundred_in_a_shares(symbol, lot):
    market = SimulatedMarket(1, START)
    first, before = market.snapshot(symbol, START), market.count(symbol, START)
    grown = Decimal(market.snapshot(symbol, LATER)["t"]) - Decimal(first["t"])
    fresh = rows(market, symbol)[before:]
    traded = sum(Decimal(one["p"]) * Decimal(one["v"]) * lot for one in fresh)
    assert abs(grown - traded) < Decimal("0.1")


@pytest.mark.parametrize("symbol", ALL)
def test_the_best_bid_or_ask_is_the_last_price(symbol):
    market = SimulatedMarket(1, START, history=60)
    levels = {"US": 1, "SH": 5, "SZ": 5, "HK": 10, "CF": 20}.get(market_of(symbol), 1)
    for second in range(0, 60, 2):
        now = START + second
        book = market.depth(symbol, now)
        bids, asks = ([Decimal(one["p"]) for one in book[side]] for side in "ba")
        last = Decimal(market.trades(symbol, now, 1)[0]["p"])
        assert last in (bids[0], asks[0])
        assert bids[0] < asks[0]
        assert bids == sorted(set(bids), reverse=True)
        assert asks == sorted(set(asks))
        assert len(bids) == len(asks) == levels
        assert book["ts"] == int(now)


def test_levels_can_be_empty_except_the_best():
    market = SimulatedMarket(1, START)
    books = [market.depth("CF:BTCUSDT", START + n) for n in range(60)]
    sides = [book[side] for book in books for side in "ba"]
    assert all(Decimal(side[0]["v"]) > 0 for side in sides)
    assert any(Decimal(level["v"]) == 0 for side in sides for level in side)


@pytest.mark.parametrize(
    ("hour", "session"),
    # 2025-03-14 in New York is UTC-4: the day's sessions, and the pause at 3:50.
    [(13.4, 2), (14.0, 3), (19.9, 3), (20.1, 4), (24.5, 1), (7.0, 1), (7.9, 0)],
)
def test_the_us_snapshot_names_its_session(hour, session):
    now = 1_741_910_400 + hour * 3600
    market = SimulatedMarket(1, now)
    assert market.snapshot("US:AAPL", now)["tt"] == session


def test_the_us_sessions_add_up_from_the_tape():
    opening = 1_741_944_600 + 4 * 3600  # 9:30 in New York.
    market = SimulatedMarket(1, opening - 600)
    now = opening + 600
    early = [one for one in rows(market, "US:AAPL", now) if one["ts"] < opening]
    block = market.snapshot("US:AAPL", now)["pq"]
    assert block["lp"] == early[-1]["p"]
    assert block["ts"] <= opening
    first = market.klines("US:AAPL", Interval.MIN_1, 1, now, end=opening - 5.5 * 3600)
    assert block["yp"] == first[0]["o"]
    later = market.snapshot("US:AAPL", now + 600)
    assert later["pq"]["v"] == block["v"]
    assert set(later) >= {"pq", "aq", "nq", "tt"}
    assert "pq" not in market.snapshot("US:AAPL", now, session_quotes=False)


def test_an_open_universe_has_every_symbol_and_always_the_same():
    once, again = (SimulatedMarket(1, START, open_universe=True) for _ in range(2))
    for symbol in ("US:ZZZZ", "HK:31337", "CF:NOPEUSDT"):
        assert once.snapshot(symbol, LATER) == again.snapshot(symbol, LATER)
    assert once.snapshot("US:A", LATER)["lp"] != once.snapshot("US:B", LATER)["lp"]
    with pytest.raises(KeyError):
        SimulatedMarket(1, START).snapshot("US:ZZZZ", LATER)


def test_the_rate_can_be_set():
    quick, slow = (
        SimulatedMarket(1, START, rate=8.0),
        SimulatedMarket(1, START, rate=0.01),
    )
    assert quick.count("US:AAPL", LATER) / 1540 == pytest.approx(8, rel=0.1)
    assert slow.count("US:AAPL", LATER) < 150
    assert slow.snapshot("US:AAPL", START)["lp"]  # There always is a last price.
