"""Model of the screen: ticks, trades, events and selection."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from qos_async import (
    Interval,
    LinkState,
    Snapshot,
    Stale,
    StateChange,
    Topic,
    Trade,
)
from qos_async.cli.watch.alerts import Alert, parse_alert
from qos_async.cli.watch.board import draw_board
from qos_async.cli.watch.model import INTERVALS, EventLog, Model
from qos_async.cli.watch.panels import (
    draw_events,
    draw_tape,
    draw_top,
)
from qos_async.cli.watch.rows import Quote
from qos_async.cli.watch.text import (
    plain_text,
)
from tests.support.fixed_market import NOW, STATS, gap, kline, scene, trade

TWO = ("CF:BTCUSDT", "US:TSLA")


def test_pushed_ticks_are_newer_than_fetched_ones():
    model = Model(["US:A"], Interval.MIN_1)
    model.on_tick(kline(120, "9"), NOW)
    model.bars.backfill("US:A", [kline(60, "1"), kline(120, "2")])
    assert [str(one.close) for one in model.bars.of("US:A")] == ["1", "9"]
    model.on_tick(trade(100, "9"), NOW)
    model.backfill("US:A", [trade(98, "1"), trade(99, "2"), trade(100, "9")])
    assert [one.timestamp for one in model.trades(9)] == [100, 99, 98]
    model.on_tick(Snapshot(symbol="US:A", last_price=Decimal(9)), NOW)
    model.set_initial(Snapshot(symbol="US:A", last_price=Decimal(1)))
    assert model.quote.snapshot is not None
    assert model.quote.snapshot.last_price == 9


def test_bars_are_in_order_of_time_and_at_most_a_thousand():
    model = Model(["US:A"], Interval.MIN_1)
    for at in (180, 60, 120):
        model.on_tick(kline(at), NOW)
    assert [one.timestamp for one in model.bars.of("US:A")] == [60, 120, 180]
    for at in range(240, 61_000, 60):
        model.on_tick(kline(at), NOW)
    assert len(model.bars.of("US:A")) == 1000
    model.on_tick(
        kline(60_960, interval=Interval.MIN_5), NOW
    )  # In flight during the change.
    assert model.bars.of("US:A")[-1].interval is Interval.MIN_1


def test_a_paused_tape_stands_still_and_counts_unseen_trades():
    model = Model(["US:A"], Interval.MIN_1)
    model.on_tick(trade(1), NOW)
    model.tape.toggle_pause()
    model.on_tick(trade(2), NOW)
    assert [one.timestamp for one in model.trades(9)] == [1]
    assert model.tape.unseen == 1
    model.tape.toggle_pause()
    assert [one.timestamp for one in model.trades(9)] == [2, 1]
    assert model.tape.unseen == 0


def test_the_tape_of_all_symbols_is_in_order_of_time():
    model = Model(["US:A", "US:B"], Interval.MIN_1)
    for at, symbol in ((1, "US:A"), (2, "US:B"), (3, "US:A")):
        model.on_tick(Trade(symbol=symbol, price=Decimal(1), timestamp=at), NOW)
    assert [one.timestamp for one in model.trades(9, all_symbols=True)] == [3, 2, 1]
    assert [one.timestamp for one in model.trades(9)] == [3, 1]
    assert "US:B" in plain_text(draw_tape(model, 60, 5, all_symbols=True)[2])


def test_selection_stops_at_both_ends():
    model = Model(["US:A", "US:B"], Interval.MIN_1)
    model.select(7)
    assert model.symbol == "US:B"
    model.select(-7)
    assert model.symbol == "US:A"
    for _ in INTERVALS:
        model.change_interval(1)
    assert model.interval is Interval.YEAR
    model.change_interval(-99)
    assert model.interval == INTERVALS[0]


def test_a_changed_price_is_highlighted_briefly():
    model = Model(["US:A"], Interval.MIN_1)
    model.on_tick(trade(1, "5"), NOW)
    model.on_tick(trade(2, "6"), NOW)
    roles = {role for _, role in draw_board(model, 60, 3, NOW + 0.1)[1]}
    assert "cursor flash_up" in roles
    later = {role for _, role in draw_board(model, 60, 3, NOW + 1)[1]}
    assert "cursor flash_up" not in later


def test_the_tick_rate_is_of_the_last_seconds():
    model = scene(TWO)
    assert model.tick_rate == 0.0
    model.update_stats(STATS, NOW)
    assert model.tick_rate == pytest.approx(37.0)


def test_the_gaps_of_one_outage_are_one_line():
    news = EventLog()
    for at, status in ((0, "filled"), (1, "filled"), (2, "partial")):
        news.add_gap(gap(Topic("trade", "US:A"), status=status, recovered=4), NOW + at)
    assert news.lines == [
        (
            "15:42:29 gap of 3.4 s: 2 filled, 1 partial; 12 recovered "
            "(the server closed with 1001)"
        )
    ]
    news.add_gap(gap(Topic("trade", "US:A")), NOW + 60)
    assert len(news.lines) == 2


def test_a_lost_link_is_logged_and_the_reconnect_counted_down():
    model = scene(TWO)
    model.on_state(StateChange(LinkState.BACKOFF, "no route", retry_in=8.0), NOW)
    assert "lost, reconnecting in 6 s" in plain_text(draw_top(model, 120, NOW + 2))
    assert "● lost" in plain_text(draw_top(model, 60, NOW + 2))
    assert "link lost: no route" in plain_text(draw_events(model, 120))
    row = draw_board(model, 60, 3, NOW)[2]
    assert plain_text(row).startswith(" ~US:TSLA")  # Not shown as current,
    assert "bold" in {role for _, role in row}  # and yet readable.
    model.on_state(StateChange(LinkState.CONNECTING), NOW + 8)
    assert "connecting" in plain_text(draw_top(model, 120, NOW + 8))


def test_gaps_are_not_denied_while_the_link_is_lost():
    model = Model(TWO, Interval.MIN_1)
    model.on_state(StateChange(LinkState.OPEN), NOW)
    assert "gaps none" in plain_text(draw_events(model, 120))
    model.on_state(StateChange(LinkState.BACKOFF, "no route", retry_in=8.0), NOW)
    assert "gaps" not in plain_text(draw_events(model, 120))


def test_a_row_with_a_stale_topic_is_marked_until_its_next_tick():
    model = Model(["US:A"], Interval.MIN_1)
    since = datetime.fromtimestamp(NOW - 75, UTC)
    topic = Topic("trade", "US:A")
    model.on_stale(Stale(topic=topic, since=since, quiet=75.0, usual=1.5), NOW)
    assert "~US:A" in plain_text(draw_board(model, 60, 2, NOW)[1])
    model.on_tick(trade(1, "5"), NOW)
    assert "~US:A" not in plain_text(draw_board(model, 60, 2, NOW)[1])


def test_a_stale_topic_is_logged():
    model = Model(["US:A"], Interval.MIN_1)
    since = datetime.fromtimestamp(NOW - 75, UTC)
    quiet = Stale(topic=Topic("trade", "US:A"), since=since, quiet=75.0, usual=1.5)
    model.on_stale(quiet, NOW)
    assert model.event_log.newest == (
        "15:42:27 US:A trade: no tick for 75 s although the market is open; "
        "usual: 1.5 s"
    )


def test_a_quote_has_the_newest_price():
    """Of a trade or a snapshot; the change is since yesterday, else since the open."""
    quote = Quote("US:A")
    assert (quote.last, quote.change) == (None, None)
    quote.update(Snapshot(symbol="US:A", last_price=Decimal(99), open=Decimal(100)))
    assert (quote.last, quote.change) == (Decimal(99), Decimal(-1))
    quote.update(trade(1, "211.1"))
    assert quote.last == Decimal("211.1")
    assert quote.price(Decimal("211.05")) == "211.05"
    assert quote.price(quote.last) == "211.10", "as many places as its neighbours"


def three():
    model = Model(["US:C", "US:A", "US:B"], Interval.MIN_1)
    for symbol, last, volume in (("US:A", 99, 7), ("US:B", 105, 3)):
        model.on_tick(
            Snapshot(
                symbol=symbol,
                last_price=Decimal(last),
                prev_close=Decimal(100),
                volume=Decimal(volume),
            ),
            NOW,
        )
    return model


@pytest.mark.parametrize(
    ("sort", "order"),
    [("given", "CAB"), ("symbol", "ABC"), ("change", "BAC"), ("volume", "ABC")],
)
def test_rows_are_sorted_and_the_selected_symbol_stays_selected(sort, order):
    model = three()
    model.rows.sort = sort
    shown = draw_board(model, 60, 4, NOW)[1:]
    assert "".join(plain_text(line)[5] for line in shown) == order
    assert model.symbol == "US:C"
    model.select(1)
    assert model.symbol == f"US:{order[1]}"


def test_a_symbol_is_added_and_removed():
    model = three()
    model.add_symbol("US:D")
    assert (model.symbols, model.symbol) == (("US:C", "US:A", "US:B", "US:D"), "US:D")
    model.on_tick(Trade(symbol="US:D", price=Decimal(1), timestamp=1), NOW)
    assert model.trades(1)
    model.remove_symbol("US:D")
    assert (model.symbols, model.symbol) == (("US:C", "US:A", "US:B"), "US:B")
    late = Trade(symbol="US:D", price=Decimal(1), timestamp=2)
    model.on_tick(late, NOW)  # On its way when it was removed.
    model.backfill("US:D", [late])
    assert model.trades(9, all_symbols=True) == []


@pytest.mark.parametrize(
    ("moves", "reported"),
    [
        (("5", "7"), "▲ 7"),
        (("7", "6"), "▼ 6"),
        (("6", "7"), ""),  # It was there already.
        (("7", "8"), ""),
    ],
)
def test_an_alert_is_reported_once_when_its_price_is_crossed(moves, reported):
    model = Model(["US:A"], Interval.MIN_1)
    model.alerts.add(Alert("US:A", Decimal(6)))
    for at, price in enumerate(moves):
        model.on_tick(trade(at, price), NOW)
    assert model.event_log.newest == (
        f"15:42:27 ALERT US:A 6: {reported}" if reported else ""
    )
    assert model.alerts.count == bool(reported)
    assert len(model.alerts.waiting) == (not reported)
    model.on_tick(trade(3, "5"), NOW)
    model.on_tick(trade(4, "7"), NOW)
    assert model.alerts.count == 1


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("US:A", "not a symbol and a price"),
        ("US:A x", "type a number"),
        ("US:A nan", "type a number"),
        ("AAPL 5", "did you mean US:AAPL"),
    ],
)
def test_a_malformed_alert_is_explained(text, why):
    with pytest.raises(ValueError, match=why):
        parse_alert(text)
    assert str(parse_alert("hk:0700 5.50")) == "HK:700 5.50"
