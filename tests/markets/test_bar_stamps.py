"""Bars of trades with timestamps that cannot be right."""

from __future__ import annotations

import itertools
import logging
from typing import Any

import msgspec
import pytest

from qos_async import Dropped, Trade, replay
from qos_async.markets import bars
from tests.support.memory_transport import trade as wire_trade
from tests.support.recording_files import frame, recorded, write

NOON = 1_741_953_600
HOUR = 3600


def fetched(second: Any, price: int = 1, symbol: str = "CF:BTCUSDT") -> Trade[Any]:
    return Trade(symbol=symbol, price=price, size=1, timestamp=second)


def live(second: Any, received: float | None = None, price: int = 1) -> Trade[Any]:
    """Return a trade that was received at ``received``, by default as it was stamped."""
    at = second if received is None else received
    return msgspec.structs.replace(
        fetched(second, price), received_at=int(at * 1e9) + 1
    )


async def built(events: Any, interval: str = "1m", **options: Any) -> list[Any]:
    async def stream() -> Any:
        for event in events:
            yield event

    iterator = bars(stream(), interval, **options)
    found = [bar async for bar in iterator]
    return [*found, iterator.left_out]


def shape(found: list[Any]) -> list[tuple[Any, ...]]:
    return [
        (bar.timestamp - NOON, bar.count, bar.final, bar.complete) for bar in found[:-1]
    ]


def minutes(count: int, *, each: int = 3) -> list[int]:
    """Return timestamps: so many a minute."""
    return [NOON + n * 60 // each for n in range(count * each)]


IMPOSSIBLE = [
    0,
    None,
    -1,
    -NOON,
    5,
    NOON // 1000,
    NOON * 1000,
    NOON * 10**9,
    7_258_118_400,  # 2200.
    10**30,
    float("nan"),
    float("inf"),
    "1741953600",
]


@pytest.mark.fault("F17")
@pytest.mark.parametrize("wrong", IMPOSSIBLE)
@pytest.mark.parametrize("make", [fetched, live])
async def test_an_impossible_timestamp_before_all_others_makes_no_bar(wrong, make):
    found = await built([fetched(wrong), make(NOON), make(NOON + 60), make(NOON + 120)])
    assert shape(found) == [
        (0, 1, True, False),
        (60, 1, True, True),
        (120, 1, False, True),
    ]
    assert found[-1] == 1


@pytest.mark.fault("F17")
@pytest.mark.parametrize("wrong", IMPOSSIBLE)
@pytest.mark.parametrize("make", [fetched, live])
async def test_an_impossible_timestamp_among_others_costs_its_trade_only(wrong, make):
    stamps = minutes(4)
    events = [make(second) for second in stamps]
    events.insert(5, fetched(wrong))
    found = await built(events)
    assert shape(found) == [
        (0, 3, True, False),
        (60, 3, True, False),
        (120, 3, True, True),
        (180, 3, False, True),
    ]
    assert found[-1] == 1


async def test_trades_with_impossible_timestamps_only_make_no_bar():
    assert await built([fetched(0), fetched(None)]) == [2]


# One trade among others


@pytest.mark.fault("F25")
@pytest.mark.parametrize("place", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("step", [301, HOUR, 5 * HOUR, 86_400, -32, -HOUR, -86_400])
@pytest.mark.parametrize("make", [fetched, live])
async def test_one_wrong_timestamp_costs_at_most_its_trade(place, step, make):
    stamps = minutes(4)
    events = [make(second) for second in stamps]
    right = stamps[place] + 1
    wrong = right + step
    odd = fetched(wrong) if make is fetched else live(wrong, right)
    events.insert(place + 1, odd)
    found = await built(events)
    counts, spoilt = {0: 3, 60: 3, 120: 3, 180: 3}, {0}
    before, after = (stamps[one] // 60 * 60 - NOON for one in (place, place + 1))
    if wrong // 60 * 60 - NOON == before:
        counts[before] += 1  # It is of this bar in any case.
    else:
        spoilt |= {before, after}
    assert shape(found) == [
        (start, count, start < 180, start not in spoilt)
        for start, count in counts.items()
    ]


@pytest.mark.fault("F25")
@pytest.mark.parametrize("ahead", [6, 61, 90, 299])
async def test_a_live_trade_is_compared_with_its_time_of_receipt(ahead):
    stamps = minutes(4)
    events = [live(second) for second in stamps]
    events.insert(3, live(stamps[2] + 19 + ahead, stamps[2] + 19))
    found = await built(events)
    assert [one[1:3] for one in shape(found)] == [(3, True)] * 3 + [(3, False)]
    assert found[-1] == 1


@pytest.mark.fault("F25")
@pytest.mark.parametrize("ahead", [61, 90, 200, 299])
async def test_a_fetched_trade_a_little_ahead_is_taken_back(ahead):
    stamps = [NOON + n * 5 for n in range(120)]
    events = [fetched(second) for second in stamps]
    events.insert(21, fetched(stamps[20] + ahead))
    found = await built(events)
    last = {bar.timestamp: bar.count for bar in found[:-1]}  # One is yielded twice.
    assert list(last.values()) == [12] * 10
    again = [bar for bar in found[:-1] if bar.timestamp == NOON + 60]
    assert [bar.complete for bar in again] == [True, False]
    assert found[-1] == 1


async def test_a_wrong_timestamp_of_one_symbol_does_not_affect_another():
    ether = [fetched(second, symbol="CF:ETHUSDT") for second in minutes(3)]
    bitcoin = [fetched(second) for second in minutes(3)]
    bitcoin.insert(4, fetched(NOON + HOUR))
    events = [one for pair in itertools.zip_longest(bitcoin, ether) for one in pair]
    found = await built([event for event in events if event is not None])
    ethers = [bar for bar in found[:-1] if bar.symbol == "CF:ETHUSDT"]
    assert [bar.complete for bar in ethers] == [False, True, True]


# Several trades among others


def real_bars(found: list[Any], stamps: list[int]) -> dict[int, Any]:
    """Return the last state of the bars that begin with a minute of ``stamps``."""
    starts = {second // 60 * 60 for second in stamps}
    return {bar.timestamp: bar for bar in found[:-1] if bar.timestamp in starts}


@pytest.mark.fault("F25")
@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("step", [120, 290, HOUR, 86_400, 2_348_000_000])
@pytest.mark.parametrize("place", [4, 5, 6])
@pytest.mark.parametrize("lag", [None, 0, -900])
async def test_two_good_trades_behind_a_burst_go_on(count, step, place, lag):
    """Nothing is lost after it, and the bars beside it are incomplete."""
    stamps = [NOON + n * 20 for n in range(210)]

    def make(second: int, now: int) -> Trade[Any]:
        return fetched(second) if lag is None else live(second, now - lag)

    events = [make(second, second) for second in stamps]
    now = stamps[place - 1] + 1
    events[place:place] = [make(now + step + n, now + n) for n in range(count)]
    found = await built(events)
    real = real_bars(found, stamps)
    assert len(real) == 70
    assert all(bar.count >= 3 for bar in real.values())
    for second in (stamps[place - 1], stamps[place]):
        assert not real[second // 60 * 60].complete
    assert sum(bar.complete for bar in real.values()) >= 64
    assert found[-1] == 0


@pytest.mark.fault("F25")
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("step", [HOUR, 86_400])
async def test_a_burst_at_the_very_start_does_not_hide_the_bars_after_it(count, step):
    stamps = minutes(5)
    events = [fetched(NOON + step + n) for n in range(count)]
    found = await built(events + [fetched(second) for second in stamps])
    real = real_bars(found, stamps)
    assert [(bar.count, bar.complete) for bar in real.values()] == [
        (3, False),
        *[(3, True)] * 4,
    ]


@pytest.mark.fault("F25")
@pytest.mark.parametrize("make", [fetched, live])
async def test_a_bar_before_the_newest_is_incomplete_without_a_trade_of_it(make):
    """It was yielded as complete, so it is yielded again."""
    if make is fetched:  # The only trade after a burst an hour ahead.
        events = [fetched(second) for second in [*minutes(2), NOON + 120]]
        events += [fetched(NOON + HOUR), fetched(NOON + HOUR + 1), fetched(NOON + 121)]
        spoilt = 120
    else:
        events = [live(second) for second in [*minutes(2), NOON + 130]]
        events += [live(NOON + 90, NOON + 131), live(NOON + 140)]
        spoilt = 60
    found = await built(events)
    states = [bar.complete for bar in found[:-1] if bar.timestamp == NOON + spoilt]
    assert states == [True, False]
    assert found[-1] == 1


@pytest.mark.fault("F25")
async def test_a_bar_goes_on_where_two_late_trades_interrupted_it():
    stamps = [NOON + second for second in (0, 20, 40, 60, 80, 100, 115)]
    late = [NOON + 41, NOON + 42]
    after = [NOON + 116, NOON + 117, NOON + 121]
    found = await built([fetched(second) for second in stamps + late + after])
    real = real_bars(found, stamps)
    assert [(bar.count, bar.complete) for bar in real.values()] == [
        (5, False),
        (6, False),
    ]


@pytest.mark.fault("F25")
@pytest.mark.parametrize("each", [1, 3])
@pytest.mark.parametrize("step", [-200, -HOUR, -86_400])
async def test_two_fetched_trades_behind_cost_no_other_trade(each, step):
    stamps = minutes(20, each=each)
    events = [fetched(second) for second in stamps]
    events[10:10] = [fetched(stamps[9] + step + n) for n in range(2)]
    found = await built(events)
    real = real_bars(found, stamps)
    counts = [bar.count for bar in real.values()]
    assert counts == [each] * 20 or (step == -200 and min(counts) == each)
    assert not real[stamps[9] // 60 * 60].complete
    assert found[-1] == 0


@pytest.mark.fault("F25")
@pytest.mark.parametrize(("count", "lost"), [(2, 2), (9, 9), (45, 9)])
async def test_live_trades_behind_are_left_out_until_so_many_mean_a_clock_set_back(
    count, lost
):
    events = [
        live(second - HOUR if 30 <= n < 30 + count else second, second)
        for n, second in enumerate(minutes(30))
    ]
    found = await built(events)
    assert found[-1] == lost
    behind = [bar.count for bar in found[:-1] if bar.timestamp < NOON]
    assert sum(behind) == count - lost
    assert (
        sum(bar.count for bar in real_bars(found, minutes(30)).values()) == 90 - count
    )


@pytest.mark.fault("F17")
@pytest.mark.parametrize("wrong", [NOON - HOUR, NOON - 120, NOON - 31, 930_000_000])
async def test_a_first_live_trade_behind_its_receipt_makes_no_bar(wrong):
    events = [live(wrong, NOON)] + [live(NOON + 1 + 10 * n) for n in range(12)]
    found = await built(events)
    assert shape(found) == [(0, 6, True, False), (60, 6, False, True)]
    assert found[-1] == 1


@pytest.mark.fault("F17")
async def test_a_first_fetched_trade_of_another_year_makes_no_bar():
    events = [fetched(930_000_000)] + [fetched(NOON + 1 + 10 * n) for n in range(12)]
    found = await built(events)
    assert shape(found) == [(0, 6, True, False), (60, 6, False, True)]
    assert found[-1] == 1


@pytest.mark.fault("F25")
@pytest.mark.parametrize("behind", [31, 120, HOUR])
async def test_a_live_trade_of_a_quiet_symbol_far_behind_its_receipt_is_left_out(
    behind,
):
    events = [live(NOON - 2 * HOUR), live(NOON - behind, NOON)]
    found = await built([*events, live(NOON + 5), live(NOON + 65), live(NOON + 125)])
    assert shape(found) == [
        (-2 * HOUR, 1, True, False),
        (0, 1, True, False),
        (60, 1, True, True),
        (120, 1, False, True),
    ]
    assert found[-1] == 1


# What is no wrong timestamp


@pytest.mark.fault("F25")
@pytest.mark.parametrize("lag", [31, 900])
async def test_a_connection_that_stalls_and_delayed_data_lose_no_trade(lag):
    """Both are behind their receipt, and those next to each other agree."""
    stalled = [live(second, max(second, NOON + 100)) for second in minutes(3)]
    delayed = [live(second, second + lag) for second in minutes(3)]
    later = [
        live(second, second + lag * (n > 4)) for n, second in enumerate(minutes(3))
    ]
    for events in (stalled, delayed, later):
        found = await built(events)
        assert [one[1] for one in shape(found)] == [3, 3, 3]
        assert found[-1] == 0


@pytest.mark.parametrize("late", [1, 2, 30])
async def test_a_trade_that_is_reported_late_marks_nothing_incomplete(late):
    events = [live(NOON), live(NOON + 60), live(NOON + 60 - late, NOON + 60)]
    found = await built([*events, live(NOON + 120)])
    assert [one[3] for one in shape(found)] == [False, True, True]
    assert found[-1] == 0


async def test_a_late_trade_of_the_same_bar_counts_however_late_it_is():
    events = [live(NOON + second) for second in (0, 600, 1200, 1300, HOUR)]
    events.insert(3, live(NOON + 300, NOON + 1250))
    found = await built(events, "1h")
    assert [one[1] for one in shape(found)] == [5, 1]
    assert found[-1] == 0


async def test_a_quiet_symbol_has_bars_hours_apart():
    stamps = [NOON, NOON + 5 * HOUR, NOON + 70 * HOUR, NOON + 71 * HOUR]
    for make in (fetched, live):
        found = await built(map(make, stamps))
        assert [one[:3] for one in shape(found)] == [
            (0, 1, True),
            (5 * HOUR, 1, True),
            (70 * HOUR, 1, True),
            (71 * HOUR, 1, False),
        ]
        assert found[-1] == 0


@pytest.mark.parametrize("wrong", [-HOUR, -900, 120, HOUR])
async def test_a_server_with_another_clock_has_bars_by_its_clock(wrong):
    stamps = minutes(3)
    found = await built([live(second, second - wrong) for second in stamps])
    assert shape(found) == [
        (0, 3, True, False),
        (60, 3, True, True),
        (120, 3, False, True),
    ]
    assert found[-1] == 0


@pytest.mark.fault("F25")
async def test_the_clock_of_a_server_may_be_set_ahead_and_back():
    """All of a burst an hour ahead: it is the clock, and no trade is lost."""
    stamps = minutes(9)
    burst = range(9, 18)
    events = [
        live(second + HOUR if n in burst else second, second)
        for n, second in enumerate(stamps)
    ]
    found = await built(events)
    assert [one[:3] for one in shape(found)] == [
        *[(60 * n, 3, True) for n in range(3)],
        *[(HOUR + 60 * n, 3, True) for n in range(3, 6)],
        *[(60 * n, 3, True) for n in range(6, 8)],
        (480, 3, False),
    ]
    assert found[-1] == 0


async def test_a_fast_market_loses_no_trade():
    stamps = [NOON + 10 * n for n in range(60)]
    found = await built([live(second, NOON + n / 5) for n, second in enumerate(stamps)])
    assert [one[1] for one in shape(found)] == [6] * 10
    assert found[-1] == 0


async def test_trades_before_dropped_ticks_do_not_wait_for_the_next():
    events = [fetched(NOON), fetched(NOON + HOUR), Dropped(1)]
    events += [fetched(NOON + HOUR + 60 * n) for n in range(1, 4)]
    found = await built(events)
    assert [one[::3] for one in shape(found)] == [
        (0, False),
        (HOUR, False),
        (HOUR + 60, False),
        (HOUR + 120, True),
        (HOUR + 180, True),
    ]


# The log


async def test_what_is_left_out_is_logged_once_for_each_symbol(caplog):
    with caplog.at_level(logging.WARNING, "qos_async.bars"):
        wrong = [fetched(0), fetched(None), fetched(0, symbol="CF:ETHUSDT")]
        found = await built([*wrong, fetched(NOON)])
    assert found[-1] == 3
    assert [record.getMessage()[:45] for record in caplog.records] == [
        "CF:BTCUSDT: a trade with the timestamp 0 is l",
        "CF:ETHUSDT: a trade with the timestamp 0 is l",
    ]


@pytest.mark.fault("F40")
@pytest.mark.parametrize("silence", [100, 400])
async def test_trades_after_the_clock_was_set_back_make_bars_between_gaps(
    tmp_path, silence
):
    """Receipts that go back show that the receiver's clock was set, not the stamps."""
    times = [10, 20, 20 + silence, 20 + 2 * silence]
    parts = [
        frame(
            at if at <= 20 else at - 3600,
            wire_trade(1, ts=1_700_000_000 + at),
            up=at,
        )
        for at in times
    ]
    last = times[-1] + 1
    write(tmp_path, recorded(*parts, end=last - 3600, up=last))
    async with replay(tmp_path, None) as client:
        iterator = bars(client.watch_trades("US:AAPL"), "1m")
        found = [bar async for bar in iterator]
    assert [bar.count for bar in found] == [2, 1, 1]
    assert iterator.left_out == 0


@pytest.mark.fault("F40")
async def test_a_stamp_in_the_future_is_left_out_after_the_clock_was_set_back():
    back = NOON - 3600
    found = await built(
        [
            live(NOON),
            live(NOON + 10),
            live(NOON + 86_400, back + 20, price=9),
            live(NOON + 30, back + 30),
            live(NOON + 70, back + 70),
        ]
    )
    assert found[-1] == 1
    assert 9 not in [bar.close for bar in found[:-1]]
