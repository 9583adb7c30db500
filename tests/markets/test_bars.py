"""Bars built from trades: alignment, end, and outages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from qos_async import (
    Dropped,
    Gap,
    Interval,
    Kline,
    Market,
    RequestTimeoutError,
    Session,
    Stale,
    Topic,
    Trade,
    TradingDay,
)
from qos_async.markets import Bar, bars
from qos_async.sim.market import SimulatedMarket
from qos_async.testing.virtual import WALL, simulate
from tests.support.factories import gap as make_gap
from tests.support.memory_transport import Frame, Network, Peer, opened, trade

ZONES = {
    "US": "America/New_York",
    "HK": "Asia/Hong_Kong",
    "SH": "Asia/Shanghai",
    "CF": "UTC",
    "FX": "America/New_York",
    "IX": "UTC",
}
NOON = 1_741_953_600  # 2025-03-14 12:00 UTC.


def at(clock: str, market: str = "US", day: int = 14) -> int:
    """Read the time of a day in March 2025."""
    hour, minute, second = (int(part) for part in f"{clock}:00:00".split(":")[:3])
    zone = ZoneInfo(ZONES[market])
    return int(datetime(2025, 3, day, hour, minute, second, tzinfo=zone).timestamp())


def tick(
    second: int, price: Any = 1, symbol: str = "CF:BTCUSDT", size: Any = 1
) -> Trade[Any]:
    return Trade(symbol=symbol, price=price, size=size, timestamp=second)


def pushed(second: int) -> Trade[Any]:
    """Make a trade that arrived in the second of its stamp."""
    return msgspec.structs.replace(tick(second), received_at=second * 10**9 + 1)


def gap(since: int, until: int, status: Any = "unfilled", **more: Any) -> Gap:
    topic = more.pop("topic", Topic("trade", "CF:BTCUSDT"))
    return make_gap(topic, since, until, reason="a test", status=status, **more)


async def stream(events: Iterable[Any]) -> AsyncIterator[Any]:
    for event in events:
        yield event


async def built(events: Iterable[Any], interval: str, **options: Any) -> list[Bar[Any]]:
    return [bar async for bar in bars(stream(events), interval, **options)]


def lie(found: list[Bar[Any]], market: str) -> list[str]:
    zone = ZoneInfo(ZONES[market])
    return [
        f"{bar.time.astimezone(zone):%H:%M}-{bar.end.astimezone(zone):%H:%M}"
        for bar in found
    ]


# What is in a bar


async def test_a_bar_adds_up_its_trades():
    prices = ["5", "9.5", "2", "3"]
    events = [tick(NOON + n, Decimal(p), size=Decimal(2)) for n, p in enumerate(prices)]
    bar, _ = await built([*events, tick(NOON + 60, Decimal(8), size=Decimal(1))], "1m")
    assert bar == Bar(
        symbol="CF:BTCUSDT",
        interval=Interval.MIN_1,
        timestamp=NOON,
        end_timestamp=NOON + 60,
        open=Decimal(5),
        high=Decimal("9.5"),
        low=Decimal(2),
        close=Decimal(3),
        volume=Decimal(8),
        turnover=Decimal(39),
        count=4,
        session=Session.REGULAR,
        final=True,
        complete=False,
    )
    assert bar.vwap == Decimal("4.875")
    assert (bar.time, bar.end) == (
        datetime(2025, 3, 14, 12, tzinfo=UTC),
        datetime(2025, 3, 14, 12, 1, tzinfo=UTC),
    )


@pytest.mark.parametrize("kind", [Decimal, float, str])
async def test_the_numbers_of_a_bar_are_of_the_type_of_the_trades(kind):
    events = [tick(NOON + n, kind(p), size=kind("10")) for n, p in enumerate("9", 1)]
    events += [tick(NOON + 5, kind("10"), size=kind("0.5"))]
    (bar,) = await built(events, "1m")
    assert bar.high == kind("10")  # As text, "9" would be more.
    assert bar.low == kind("9")
    assert bar.volume == kind("10.5")
    assert Decimal(str(bar.turnover)) == 95
    for value in (bar.open, bar.close, bar.volume, bar.turnover, bar.vwap):
        assert type(value) is kind


async def test_the_turnover_of_an_a_share_counts_lots_of_100():
    first = tick(at("10:00", "SH"), 20.0, "SH:600519", 3.0)
    (bar,) = await built([first], "1m")
    assert (bar.volume, bar.turnover, bar.vwap) == (3.0, 6000.0, 20.0)


async def test_trades_without_a_size_have_prices_and_no_volume():
    (bar,) = await built([tick(NOON, 1, size=None), tick(NOON, 3, size=None)], "1m")
    assert (bar.high, bar.count) == (3, 2)
    assert bar.volume is bar.turnover is bar.vwap is None
    (bar,) = await built([tick(NOON, 1, size=0)], "1m")
    assert bar.vwap is None


async def test_symbols_do_not_mix():
    events = [
        tick(NOON, 1),
        tick(NOON, 100, "CF:ETHUSDT"),
        tick(NOON + 60, 2),
        tick(NOON + 61, 200, "CF:ETHUSDT"),
    ]
    found = await built(events, "1m")
    assert [(bar.symbol[3:6], bar.close, bar.final) for bar in found] == [
        ("BTC", 1, True),
        ("ETH", 100, True),
        ("BTC", 2, False),
        ("ETH", 200, False),
    ]


async def test_batches_are_rejected_with_what_to_pass_instead():
    async def batches():
        yield [tick(NOON)]

    with pytest.raises(ValueError, match="single trades: pass the subscription"):
        [bar async for bar in bars(batches(), "1m")]


async def test_ticks_of_other_channels_are_skipped():
    kline = Kline[Any](
        symbol="CF:BTCUSDT", interval=Interval.MIN_1, open=7, high=7, low=7, close=7
    )
    topic = Topic("trade", "CF:BTCUSDT")
    quiet = Stale(topic=topic, since=datetime.now(UTC), quiet=1.0, usual=1.0)
    (bar,) = await built([kline, tick(NOON, 1), quiet, kline], "1m")
    assert (bar.count, bar.high) == (1, 1)


# Where a bar lies


@pytest.mark.parametrize(
    ("symbol", "interval", "clocks", "expected"),
    [
        (
            "US:AAPL",
            "1h",
            ["9:29:59", "9:30", "10:29:59", "10:30", "15:59", "16:00", "19:59"],
            [
                "09:00-09:30",
                "09:30-10:30",
                "10:30-11:30",
                "15:30-16:00",
                "16:00-17:00",
                "19:00-20:00",
            ],
        ),
        (
            "HK:700",
            "1h",
            ["9:20", "9:30", "10:30", "11:30", "12:00", "13:00", "15:59", "16:08:28"],
            ["09:30-10:30", "10:30-11:30", "11:30-12:00", "13:00-14:00", "15:00-16:00"],
        ),
        ("SH:600519", "2h", ["9:25", "11:30", "13:00"], ["09:30-11:30", "13:00-15:00"]),
        ("SH:600519", "4h", ["9:25", "11:30", "15:00"], ["09:30-11:30", "13:00-15:00"]),
        ("SH:600519", "1m", ["9:25", "9:30", "15:00"], ["09:30-09:31", "14:59-15:00"]),
        ("HK:700", "4h", ["8:30", "9:00"], ["08:00-09:00", "09:30-12:00"]),
        ("HK:700", "1m", ["16:10:59", "16:11"], ["15:59-16:00", "16:11-16:12"]),
        ("CF:BTCUSDT", "4h", ["3:59", "4:00"], ["00:00-04:00", "04:00-08:00"]),
        ("FX:EURUSD", "4h", ["8:59", "9:00", "16:59"], ["05:00-09:00", "09:00-13:00", "13:00-17:00"]),
        ("IX:HSI", "2h", ["9:30", "10:00"], ["08:00-10:00", "10:00-12:00"]),
    ],
)  # fmt: skip
async def test_bars_are_aligned_to_sessions(symbol, interval, clocks, expected):
    market = symbol[:2]
    events = [tick(at(clock, market), symbol=symbol) for clock in clocks]
    assert lie(await built(events, interval), market) == expected


async def test_extended_hours_have_bars_of_their_own():
    clocks = ["3:49", "3:55", "4:00", "9:30", "16:00", "20:00"]
    days = [13] * 5 + [13]
    events = [
        tick(at(clock, "US", day), symbol="US:AAPL")
        for clock, day in zip(clocks, days, strict=True)
    ]
    found = await built(events, "4h")
    assert [bar.session and bar.session.name for bar in found] == [
        "OVERNIGHT",
        None,
        "PRE_MARKET",
        "REGULAR",
        "POST_MARKET",
        "OVERNIGHT",
    ]
    assert lie(found, "US")[:3] == ["00:00-03:50", "03:50-04:00", "04:00-08:00"]


async def test_a_half_day_clips_its_last_bar():
    calendar = {Market.US: [TradingDay(date=date(2025, 3, 14), half_day=True)]}
    event = tick(at("12:45"), symbol="US:AAPL")
    assert lie(await built([event], "1h", calendar=calendar), "US") == ["12:30-13:00"]
    assert lie(await built([event], "1h"), "US") == ["12:30-13:30"]


async def test_trades_in_a_closed_market_have_bars():
    saturday = [tick(at(clock, "US", 15), symbol="US:AAPL") for clock in ("9:31", "10")]
    found = await built(saturday, "1h")
    assert lie(found, "US") == ["09:00-10:00", "10:00-11:00"]
    assert [bar.session for bar in found] == [None, None]
    (bar,) = await built(saturday, "1d")
    assert bar.count == 2


async def test_a_day_bar_of_the_us_has_regular_hours_only():
    # As in the service's own: recorded on 2025-03-14, ten minutes after the opening.
    clocks = {"3:00": 1, "9:29": 2, "9:30": 10, "16:00:00": 12, "16:00:01": 99}
    events = [
        tick(at(clock), price, "US:AAPL") for clock, price in (*clocks.items(),)
    ] + [
        tick(at("20:01", day=13), 50, "US:AAPL"),
        tick(at("9:30", day=17), 7, "US:AAPL"),
    ]
    friday, monday = await built(events, "1d")
    assert (friday.open, friday.high, friday.low, friday.close) == (10, 12, 10, 12)
    assert (friday.count, friday.final, monday.final) == (2, True, False)
    assert friday.timestamp == 1741924800 == at("0:00")  # Recorded.
    assert friday.session is None


async def test_a_day_bar_of_hong_kong_has_its_auctions_and_both_sessions():
    clocks = ["9:20", "11:59", "12:00", "13:00", "16:08:28"]
    events = [tick(at(clock, "HK"), n, "HK:700") for n, clock in enumerate(clocks)]
    (bar,) = await built(events, "1d")
    assert (bar.count, bar.open, bar.close) == (5, 0, 4)
    assert bar.timestamp == 1741881600  # Recorded.
    assert bar.end - bar.time == timedelta(days=1)


@pytest.mark.parametrize(
    ("symbol", "opens", "hours", "intervals"),
    [
        ("US:AAPL", at("9:30"), 6.5, ["1m", "5m", "15m", "30m"]),
        ("HK:700", at("9:30", "HK"), 2.5, ["1m", "5m", "15m", "30m"]),
        ("SH:600519", at("13:00", "SH"), 2, ["1m", "30m", "1h", "1d"]),
        ("CF:BTCUSDT", at("0:00", "CF"), 26, ["1m", "1h", "2h", "4h", "1d", "1w"]),
        ("IX:HSI", at("0:00", "IX"), 5, ["1m", "4h"]),
    ],
)
async def test_bars_are_the_klines_of_the_simulated_market(
    symbol, opens, hours, intervals
):
    market = SimulatedMarket(3, opens, history=0.0, rate=0.05)
    now = opens + hours * 3600 - 1
    count = market.count(symbol, now)
    rows = market.trades(symbol, now, count)
    trades = [msgspec.convert(row | {"tp": "T"}, Trade[Decimal]) for row in rows]
    for interval in intervals:
        found = await built(trades, interval)
        wire = market.klines(symbol, Interval.parse(interval), len(found), now)
        mine = [(b.timestamp, b.open, b.high, b.low, b.close, b.volume) for b in found]
        if found[0].timestamp >= opens:  # Else it began before there were any trades.
            assert mine == [
                (r["ts"], *(Decimal(r[k]) for k in ("o", "h", "l", "cl", "v")))
                for r in wire
            ]
        assert found[-1].timestamp == wire[-1]["ts"]
        assert sum(bar.count for bar in found) == count
        assert [bar.final for bar in found] == [True] * (len(found) - 1) + [False]
        assert all(bar.complete for bar in found[1:])


# When a bar is over


async def test_a_bar_is_yielded_once_with_the_first_later_trade():
    taken = 0

    async def trades() -> AsyncIterator[Any]:
        nonlocal taken
        for second, price in ((0, 1), (59, 2), (180, 3)):
            taken += 1
            yield tick(NOON + second, price)

    found = aiter(bars(trades(), "1m"))
    bar = await anext(found)
    assert (bar.close, bar.final, taken) == (2, True, 3)
    last = await anext(found)
    assert (last.timestamp, last.final) == (NOON + 180, False)  # No empty bars between.
    for _ in range(2):
        with pytest.raises(StopAsyncIteration):
            await anext(found)


async def test_growing_bars_are_yielded_after_each_trade():
    events = [tick(NOON, 1), tick(NOON + 1, 2), tick(NOON + 60, 3)]
    found = await built(events, "1m", growing=True)
    assert [(bar.close, bar.count, bar.final) for bar in found] == [
        (1, 1, False),
        (2, 2, False),
        (2, 2, True),
        (3, 1, False),
    ]


async def test_a_late_trade_is_left_out():
    events = [tick(NOON), tick(NOON + 60, 2), tick(NOON + 59, 9), tick(NOON + 120, 3)]
    found = await built(events, "1m")
    assert [(bar.close, bar.count) for bar in found] == [(1, 1), (2, 1), (3, 1)]


# What an outage does


@pytest.mark.parametrize("status", ["partial", "unverified", "unfilled"])
async def test_a_gap_marks_the_bars_that_it_overlaps_incomplete(status):
    events: list[Any] = [pushed(NOON + 60 * n) for n in range(3)]
    events += [gap(NOON + 130, NOON + 250, status)]
    events += [pushed(NOON + 60 * n) for n in range(3, 7)]
    found = await built(events, "1m")
    complete = [bar.complete for bar in found]
    assert complete == [False, True, False, False, False, True, True]


async def test_a_filled_gap_has_no_effect():
    events = [tick(NOON), tick(NOON + 60), gap(NOON + 65, NOON + 100, "filled")]
    events += [tick(NOON + 70), tick(NOON + 130)]
    found = await built(events, "1m")
    assert [(bar.count, bar.complete) for bar in found] == [
        (1, False),
        (2, True),
        (1, True),
    ]


async def test_a_gap_affects_the_trades_of_its_symbol_only():
    kline = gap(NOON + 65, NOON + 80, topic=Topic("kline", "CF:BTCUSDT", "1m"))
    other = gap(NOON + 65, NOON + 80, topic=Topic("trade", "CF:ETHUSDT"))
    found = await built([tick(NOON), tick(NOON + 60), kline, other], "1m")
    assert found[1].complete


async def test_a_quiet_bar_before_a_gap_is_complete():
    events = [pushed(NOON), pushed(NOON + 60), gap(NOON + 300, NOON + 310)]
    found = await built([*events, pushed(NOON + 400)], "1m")
    assert [bar.complete for bar in found] == [False, True, True]


async def test_with_disagreeing_clocks_a_gap_extends_from_trade_to_trade():
    # This machine's clock is an hour ahead: it determines the gap, but not the trades.
    late = [
        msgspec.structs.replace(tick(NOON + n), received_at=(NOON + n + 3600) * 10**9)
        for n in (0, 60, 240, 300)
    ]
    fetched = msgspec.structs.replace(tick(NOON + 120), recovered=True)
    hour = NOON + 3600
    events = [*late[:2], gap(hour + 70, hour + 90, "partial"), fetched, *late[2:]]
    found = await built(events, "1m")
    assert [bar.complete for bar in found] == [False, False, False, False, True]


async def test_dropped_ticks_mark_the_bars_on_both_sides_incomplete():
    events = [
        tick(NOON),
        tick(NOON + 60),
        Dropped(3),
        tick(NOON + 300),
        tick(NOON + 360),
    ]
    found = await built(events, "1m")
    assert [bar.complete for bar in found] == [False, False, False, True]


# From a live subscription


def live(second: float, price: int = 1) -> Any:
    """Push a trade that is stamped so many seconds after the test's beginning."""
    return trade(price, "CF:BTCUSDT", ts=int(WALL) + int(second))


# The wall shows 13:20:30 in the beginning: bars end at 30, 90, 150 …
def test_gaps_of_a_subscription_are_taken_into_account():
    async def main() -> list[bool]:
        net = Network()
        async with opened(net) as client, client.watch_trades("CF:BTCUSDT") as trades:
            found = bars(trades, "1m")
            net.peers[0].push(live(0))
            await asyncio.sleep(31)
            net.peers[0].push(live(31))
            await asyncio.sleep(9)
            net.peers[0].end()
            peer = await net.link(1)
            await peer.next_frame("T")
            for second in (100, 160):
                await asyncio.sleep(60)
                peer.push(live(second))
            return [(await anext(found)).complete for _ in range(3)]

    assert simulate(main) == [False, False, True]


def test_the_clock_closes_a_quiet_bar_with_close_after():
    async def main() -> None:
        net, loop = Network(), asyncio.get_running_loop()
        async with opened(net) as client, client.watch_trades("CF:BTCUSDT") as trades:
            found = bars(trades, "1m", close_after=2.0)
            net.peers[0].push(live(0), live(1, 5))
            bar = await anext(found)
            assert (int(bar.close), bar.final) == (5, True)
            assert 32 <= loop.time() < 33.5
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(200):  # And only once.
                    await anext(found)
            net.peers[0].push(live(233, 7))
            bar = await anext(found)
            assert (int(bar.close), bar.count, bar.complete) == (7, 1, True)

    simulate(main)


@pytest.mark.fault("F2")
@pytest.mark.parametrize("wrong", [-900, -30, 3600])
def test_delayed_trades_are_closed_by_their_own_time(wrong):
    async def main() -> None:
        net, loop = Network(), asyncio.get_running_loop()
        async with opened(net) as client, client.watch_trades("CF:BTCUSDT") as trades:

            async def push() -> None:
                for second in range(0, 80, 2):
                    net.peers[0].push(live(second + wrong))
                    await asyncio.sleep(2)

            pushing = asyncio.create_task(push())
            found = bars(trades, "1m", close_after=2.0)
            bar, again = await anext(found), await anext(found)
            await pushing
            assert (bar.final, again.final) == (True, True)
            assert again.timestamp == bar.timestamp + 60
            assert abs(loop.time() + int(WALL) + wrong - again.end_timestamp - 2) < 3

    simulate(main)


@pytest.mark.parametrize(("hidden", "complete"), [([40, 60], True), ([], False)])
def test_recovered_trades_correct_a_bar_that_the_clock_had_closed(hidden, complete):
    def telling_time(peer: Peer, frame: Frame) -> None:
        second = int(WALL + asyncio.get_running_loop().time())
        peer.answer(frame, time=second)

    async def main() -> None:
        net, loop = (
            Network(None, 70.0, respond=telling_time),
            asyncio.get_running_loop(),
        )
        net.data = [live(second) for second in (0, 31, *hidden)]
        async with opened(net) as client, client.watch_trades("CF:BTCUSDT") as trades:
            found = bars(trades, "1m", close_after=1.0)
            net.peers[0].push(live(0))
            await asyncio.sleep(31)
            net.peers[0].push(live(31))
            assert (await anext(found)).complete is False
            net.peers[0].end()
            early = await anext(found)  # By the clock, amid the outage.
            assert (early.count, early.complete) == (1, True)
            assert 91 <= loop.time() < 93
            net.data += [live(104)] if hidden else []
            peer = await net.link(1)
            await peer.next_frame("RT")
            peer.push(live(104))
            again = await anext(found)
            assert (again.timestamp, again.final) == (early.timestamp, True)
            assert (again.count, again.complete) == (1 + len(hidden), complete)
            net.peers[1].push(live(160))
            assert (await anext(found)).timestamp == early.timestamp + 60

    simulate(main)


async def test_an_error_of_the_stream_does_not_end_a_bar():
    class Failing:
        def events(self) -> AsyncIterator[Any]:
            return self._events()

        async def _events(self) -> AsyncIterator[Any]:
            yield tick(NOON)
            raise RequestTimeoutError("no answer")

    with pytest.raises(RequestTimeoutError):
        await anext(bars(Failing(), "1m", close_after=1e9))


def test_invalid_options_are_named():
    source = stream([])
    with pytest.raises(ValueError, match="unknown interval '7m'"):
        bars(source, "7m")
    with pytest.raises(
        ValueError, match=r"needs a live subscription.*not async_generator"
    ):
        bars(source, "1m", close_after=1.0)
    wrong: Any
    for wrong in (-1.0, float("nan"), float("inf"), 10**400, "1", True):
        with pytest.raises(
            ValueError, match="close_after must be a number of seconds from 0"
        ):
            bars(source, "1m", close_after=wrong)
    for wrong in ("trades", None):
        with pytest.raises(ValueError, match="trades must be a subscription, such as"):
            bars(wrong, "1m")
    calendar: Any = "XNYS"
    with pytest.raises(
        ValueError,
        match="calendar must be trading days by market, from fetch_calendar or",
    ):
        bars(source, "1m", calendar=calendar)


async def test_a_bar_that_a_trade_has_ended_is_not_yielded_again():
    early = tick(at("05", day=12), symbol="US:AAPL")  # It counts to no day.
    days = [tick(at("10", day=day), symbol="US:AAPL") for day in (10, 11, 12)]
    found = await built([*days[:2], early, Dropped(count=3), days[2]], "1d")
    assert [bar.complete for bar in found] == [False, True, False]


async def test_tiny_numbers_are_written_as_on_the_wire():
    [bar] = await built([tick(NOON, "0.00000001", size="2.00")], "1m")
    assert (bar.volume, bar.turnover) == ("2.00", "0.0000000200")
