"""Recovery cases of one topic, without a link."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from qos_async._core.recovery import Outage
from qos_async._core.recovery.cases import (
    RecoveryCase,
    RecoveryResult,
    bars_since,
    make_case,
)
from qos_async.config import TRADES_MAX
from qos_async.enums import Interval
from qos_async.models import Kline, Snapshot
from qos_async.topics import Topic
from tests.support.factories import flat_kline, trade_at

TRADE = Topic("trade", "US:A")
KLINE = Topic("kline", "US:A", "1m")
SNAPSHOT = Topic("snapshot", "US:A")
OUTAGE = Outage(100.0, "cut")


def bar(start: int, close: int = 1) -> Kline[Any]:
    return flat_kline(start, Decimal(close), volume=Decimal(1))


def opened(topic: Topic, *tail: Any, acked_at: int | None = None) -> RecoveryCase[Any]:
    case = make_case(topic, OUTAGE, tail, now=110.0)
    case.acked_at = acked_at
    return case


def seconds(ticks: Any) -> list[int]:
    return [tick.timestamp for tick in ticks]


def test_trades_are_settled_when_reply_and_pushes_are_consistent():
    tail = [trade_at(second) for second in range(1, 6)]
    case = opened(TRADE, *tail, acked_at=8)
    assert case.on_reply([trade_at(second) for second in range(1, 10)]) is None
    healing = case.hold(trade_at(9))
    assert isinstance(healing, RecoveryResult)
    assert healing.status == "filled"
    assert seconds(healing.recovered) == [6, 7, 8]
    assert seconds(healing.held) == [9]


def test_no_request_is_repeated_while_one_is_pending():
    tail = [trade_at(second) for second in range(1, 6)]
    case = opened(TRADE, *tail, acked_at=8)
    case.request_sent()  # The first request.
    case.on_reply(tail)  # Its window lags.
    case.hold(trade_at(9))
    assert case.wants_request
    case.request_sent()  # The second request.
    case.hold(trade_at(9, 2))
    assert not case.wants_request


def test_no_request_is_repeated_before_a_new_push():
    tail = [trade_at(second) for second in range(1, 6)]
    case = opened(TRADE, *tail, acked_at=8)
    case.hold(trade_at(9))
    case.on_reply(tail)
    assert case.wants_request
    case.request_sent()
    case.on_reply(tail)
    assert not case.wants_request


def test_trades_pushed_on_an_earlier_link_are_delivered_once():
    tail = [trade_at(second) for second in range(1, 6)]
    case = opened(TRADE, *tail, acked_at=8)
    case.hold(trade_at(9))
    case.restart()
    case.live, case.acked_at = True, 12
    case.hold(trade_at(13))
    healing = case.on_reply([trade_at(second) for second in range(1, 14)])
    assert healing is not None
    assert healing.status == "filled"
    assert seconds(healing.recovered) == [6, 7, 8, 9, 10, 11, 12]


def test_trades_of_an_earlier_link_that_the_reply_lacks_are_not_filled():
    tail = [trade_at(second) for second in range(1, 6)]
    case = opened(TRADE, *tail, acked_at=8)
    case.hold(trade_at(9, 77))
    case.restart()
    case.live, case.acked_at = True, 12
    case.hold(trade_at(13))
    healing = (
        case.on_reply([trade_at(second) for second in range(1, 14)]) or case.result()
    )
    assert trade_at(9, 77) in healing.recovered
    assert healing.status == "unverified"


@pytest.mark.fault("I9")
@pytest.mark.parametrize("answered", [False, True])
def test_trades_of_an_earlier_link_keep_their_order_within_a_second(answered):
    case = opened(TRADE, *(trade_at(second) for second in range(1, 6)), acked_at=8)
    brought = [trade_at(9, 2), trade_at(9, 3), trade_at(9, 2)]
    for one in brought:
        case.hold(one)
    case.restart()
    case.live, case.acked_at = True, 12
    # The reply may begin within that second.
    late = [trade_at(9, 2), *(trade_at(second) for second in range(10, 14))]
    case.on_reply(late if answered else None)
    recovered = [tick for tick in case.result().recovered if tick.timestamp == 9]
    assert [id(tick) for tick in recovered] == [id(tick) for tick in brought]


@pytest.mark.fault("I9")
@pytest.mark.parametrize("begins", range(1, 10))
@pytest.mark.parametrize("ends", [9, 10])
def test_trades_of_two_links_and_fetched_ones_between_are_in_order(begins, ends):
    tail = [trade_at(second, 100) for second in range(1, 6)]
    tape = [trade_at(9, price) for price in range(1, 11)]
    case = opened(TRADE, *tail, acked_at=8)
    for brought in (tape[2:4], tape[7:9]):
        for one in brought:
            case.hold(one)
        case.restart()
        case.live = True
    case.acked_at = 12
    case.on_reply([*tape[begins:ends], trade_at(13), trade_at(14)])
    case.hold(trade_at(13))
    recovered = [
        int(tick.price) for tick in case.result().recovered if tick.timestamp == 9
    ]
    assert recovered == sorted(recovered)
    assert {3, 4, 8, 9} <= set(recovered)


@pytest.mark.fault("I9")
def test_trades_of_an_earlier_link_precede_newer_fetched_ones():
    case = opened(TRADE, *(trade_at(second) for second in range(1, 6)), acked_at=8)
    case.hold(trade_at(8, 77))  # The reply lacks it and all earlier ones.
    case.restart()
    case.live, case.acked_at = True, 12
    case.hold(trade_at(13))
    case.on_reply([trade_at(10), trade_at(11), trade_at(13), trade_at(14)])
    recovered = case.result().recovered
    assert [(tick.timestamp, tick.price) for tick in recovered][:2] == [
        (8, trade_at(8, 77).price),
        (10, trade_at(10).price),
    ]


@pytest.mark.parametrize("links", [1, 3])
def test_held_ticks_are_bounded_over_all_links(links):
    case = opened(TRADE, trade_at(1))
    decided = None
    for _ in range(links):
        for _ in range(9_000 if links > 1 else 10_000):
            decided = decided or case.hold(trade_at(2))
        if decided is None:
            case.restart()
            case.live = True
    assert decided is not None
    assert len(decided.held) + len(decided.recovered) <= 10_000


def test_an_older_state_of_the_last_bar_is_not_delivered():
    live = bar(60, 5)
    case = opened(KLINE, live)
    stale = Kline(
        symbol="US:A",
        timestamp=60,
        interval=Interval.MIN_1,
        open=live.open,
        high=live.high,
        low=live.low,
        close=Decimal(4),
        volume=Decimal("0.5"),
    )
    healing = case.on_reply([stale])
    assert healing is not None
    assert healing.recovered == ()


def test_klines_without_a_bar_from_before_are_unverified():
    healing = opened(KLINE).on_reply([bar(60), bar(120)])
    assert healing is not None
    assert healing.status == "unverified"


def test_klines_that_do_not_reach_back_are_partial():
    healing = opened(KLINE, bar(60), acked_at=299).on_reply([bar(180), bar(240)])
    assert healing is not None
    assert (healing.status, seconds(healing.recovered)) == ("partial", [180, 240])


def test_a_push_settles_a_snapshot_before_the_reply():
    push = Snapshot(symbol="US:A", timestamp=5)
    healing = opened(SNAPSHOT).hold(push)
    assert healing is not None
    assert (healing.status, healing.recovered, healing.held) == ("filled", (), (push,))


@pytest.mark.parametrize("topic", [TRADE, KLINE, SNAPSHOT], ids=str)
def test_without_a_reply_the_gap_is_unfilled(topic):
    healing = opened(topic).on_reply(None)
    assert healing == RecoveryResult(topic, OUTAGE, 110.0, "unfilled")


@pytest.mark.parametrize("status", ["held", "stash"])
def test_every_status_delivers_received_ticks_once(status):
    tail = [trade_at(second) for second in range(1, 6)]
    for rows in (None, [], tail, [trade_at(s) for s in range(3, 14)], [trade_at(50)]):
        case = opened(TRADE, *tail, acked_at=8)
        case.hold(trade_at(9))
        if status == "stash":
            case.restart()
            case.live = True
        healing = case.on_reply(rows) or case.result()
        recovered = [*healing.recovered, *healing.held]
        assert recovered.count(trade_at(9)) == 1


@pytest.mark.parametrize(
    ("interval", "lasting", "bars"),
    [("1m", 0.1, 3), ("1m", 60, 3), ("1m", 61, 4), ("1d", 10, 3), ("1y", 10, 3)],
)
def test_the_bars_of_an_outage_and_two_more_are_requested(interval, lasting, bars):
    found = bars_since(Outage(0.0, "cut"), Interval.parse(interval), lasting)
    assert found == bars


def test_as_many_trades_are_requested_as_the_server_returns():
    assert TRADES_MAX == 50


def grown(start: int, volume: object) -> Kline[Any]:
    return replace(bar(start), volume=volume)


def states(ticks: Any) -> list[tuple[int, int]]:
    return [(tick.timestamp, int(tick.volume)) for tick in ticks]


def bars_of(case: RecoveryCase[Any], rows: Any) -> RecoveryResult:
    healing = case.on_reply(rows)
    assert healing is not None
    return healing


def test_klines_that_end_before_the_first_push_are_unverified():
    case = opened(KLINE, bar(60), acked_at=310)
    case.hold(bar(300))
    assert bars_of(case, [bar(60), bar(120)]).status == "unverified"


@pytest.mark.parametrize("acked_at", [None, 180, 500])
def test_klines_that_do_not_reach_the_present_are_unverified(acked_at):
    case = opened(KLINE, bar(60), acked_at=acked_at)
    assert bars_of(case, [bar(0), bar(60), bar(120)]).status == "unverified"


@pytest.mark.parametrize("acked_at", [120, 179])
def test_klines_that_reach_the_bar_of_the_acknowledgement_are_filled(acked_at):
    case = opened(KLINE, bar(60), acked_at=acked_at)
    assert bars_of(case, [bar(0), bar(60), bar(120)]).status == "filled"


def test_a_late_push_of_an_old_bar_does_not_prove_that_klines_reach_the_present():
    case = opened(KLINE, grown(60, 7), acked_at=250)
    case.hold(grown(60, 60))
    assert bars_of(case, [bar(0), grown(60, 60)]).status == "unverified"


@pytest.mark.parametrize("volume", ["9", Decimal(9), 9.0])
def test_klines_with_an_older_state_of_the_last_bar_are_unverified(volume):
    more = type(volume)("10")
    case = opened(KLINE, grown(60, more), acked_at=130)
    assert bars_of(case, [grown(60, volume), bar(120)]).status == "unverified"
    case = opened(KLINE, grown(60, volume), acked_at=130)
    healing = bars_of(case, [grown(60, more), bar(120)])
    assert (healing.status, seconds(healing.recovered)) == ("filled", [60, 120])


def test_klines_without_the_last_bar_are_unverified():
    case = opened(KLINE, bar(60), acked_at=130)
    assert bars_of(case, [bar(0), bar(120)]).status == "unverified"


def test_klines_with_an_older_state_than_an_earlier_link_are_unverified():
    case = opened(KLINE, bar(60), acked_at=130)
    case.hold(grown(120, 5))
    case.restart()
    case.live, case.acked_at = True, 170
    healing = bars_of(case, [bar(60), grown(120, 3)])
    assert (healing.status, states(healing.recovered)) == ("unverified", [(120, 5)])


def test_a_late_push_of_an_old_bar_hides_no_newer_bars():
    case = opened(KLINE, grown(60, 7), acked_at=250)
    for push in (grown(60, 60), grown(240, 1), grown(240, 2)):
        case.hold(push)
    rows = [bar(0), *(grown(start, 60) for start in (60, 120, 180)), grown(240, 1)]
    healing = bars_of(case, rows)
    assert healing.status == "filled"
    assert states(healing.recovered) == [(60, 60), (120, 60), (180, 60)]
    assert states(healing.held) == [(240, 1), (240, 2)]


def test_the_last_state_of_a_bar_is_taken_from_the_reply_if_not_pushed():
    case = opened(KLINE, grown(60, 7), acked_at=250)
    for push in (grown(60, 50), grown(240, 1)):
        case.hold(push)
    rows = [grown(start, 60) for start in (60, 120, 180)]
    healing = bars_of(case, [*rows, grown(240, 1)])
    recovered = states([*healing.recovered, *healing.held])
    assert recovered == [(60, 50), (60, 60), (120, 60), (180, 60), (240, 1)]


def test_a_reply_from_before_another_outage_is_discarded():
    case = opened(KLINE, bar(60), acked_at=130)
    bars_of(case, [bar(60), bar(120)])
    case.restart()
    healing = case.result()
    assert (healing.status, healing.recovered) == ("unfilled", ())
