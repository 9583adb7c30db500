"""The parts of the screen as text, without a terminal."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from qos_async import (
    Depth,
    Interval,
    Kline,
    LinkState,
    PriceLevel,
    Side,
    Snapshot,
    Stale,
    StateChange,
    Topic,
    Trade,
)
from qos_async.cli.charts.model import Candle
from qos_async.cli.watch.board import draw_board, first_row
from qos_async.cli.watch.chart import (
    Scale,
    candle_cells,
    chart_title,
    columns,
    draw_chart,
    nice_step,
    sparkline,
)
from qos_async.cli.watch.model import INTERVALS, EventLog, Model
from qos_async.cli.watch.panels import (
    arrange,
    draw_events,
    draw_ladder,
    draw_tape,
    draw_top,
)
from qos_async.cli.watch.text import (
    format_size,
    horizontal_bar,
    line_width,
    pad_or_cut,
    plain_text,
    style_of,
)
from qos_async.stats import Stats
from tests.support.fixed_market import NOW, STATS, gap, scene

SCALE = Scale(0.0, 10.0, 5)  # A half row for each price.
MODEL = scene()
TWO = ("CF:BTCUSDT", "US:TSLA")


def up(low, open, close, high):
    return "".join(candle_cells(Candle(open, high, low, close, 0.0), SCALE))


def trade(at, price="1", **more):
    return Trade(symbol="US:A", price=Decimal(price), timestamp=at, **more)


def kline(at, close="1", **more):
    one = Decimal(close)
    return Kline(
        **{"symbol": "US:A", "interval": Interval.MIN_1, "timestamp": at, **more},
        open=one,
        high=one,
        low=one,
        close=one,
    )


# Characters


@pytest.mark.parametrize(
    ("prices", "drawn"),
    [
        ((2.0, 2.0, 5.0, 5.0), " ██  "),
        ((2.0, 2.0, 4.0, 4.0), " █▄  "),
        ((3.0, 3.0, 5.0, 5.0), " ▀█  "),
        ((0.0, 2.0, 5.0, 9.0), "│██││"),
        ((1.0, 2.0, 5.0, 8.0), "╵██│╷"),
        ((0.0, 3.0, 4.0, 9.0), "│██││"),  # A wick never hangs in the air.
        ((4.0, 4.0, 4.0, 4.0), "  ━  "),
        ((2.0, 4.0, 4.0, 7.0), " │┿│ "),
        ((4.0, 4.0, 4.0, 7.0), "  ┷│ "),
        ((2.0, 4.0, 4.0, 4.0), " │┯  "),
    ],
)
def test_a_candle_is_drawn_to_half_a_row(prices, drawn):
    assert up(*prices) == drawn


def test_a_slim_candle_has_lines_only():
    cells = candle_cells(Candle(2.0, 9.0, 1.0, 6.0, 0.0), SCALE, slim=True)
    assert "".join(cells) == "╵┃┃╽│"


def test_prices_that_are_all_alike_still_have_a_scale():
    scale = Scale.around([5.0, 5.0], 4)
    assert scale.low < 5.0 < scale.high
    assert 0 <= scale.half(5.0) < 8


def test_volume_and_sparkline_use_eighths():
    assert columns([0.0, 0.001, 8.0, 16.0], 2) == [
        [" ", " "],
        ["▁", " "],
        ["█", " "],
        ["█", "█"],
    ]
    assert sparkline([1.0, 2.0, 3.0], 5) == "  ▁▄█"
    assert sparkline([2.0, 2.0], 2) == "▄▄"
    assert sparkline([], 3) == "   "


@pytest.mark.parametrize(
    ("span", "most", "step"),
    [(10.0, 5, 2.0), (9.0, 4, 2.5), (1000.0, 3, 500.0), (0.007, 4, 0.002), (3, 9, 0.5)],
)
def test_the_axis_has_round_steps(span, most, step):
    assert nice_step(span, most) == pytest.approx(step)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        ("0", "0"),
        ("0.125", "0.125"),
        ("12.3456", "12.35"),
        ("9999", "9999"),
        ("12345", "12.3k"),
        ("999999", "1000k"),
        ("1234567", "1.23M"),
        ("165000000", "165M"),
        ("2500000000", "2.50B"),
        ("100", "100"),
        ("100.50", "100.5"),
    ],
)
def test_amounts_are_short(value, text):
    assert format_size(None if value is None else Decimal(value)) == text


def test_bars_and_lines_are_as_wide_as_they_are_told():
    assert horizontal_bar(0.5, 4) == "██  "
    assert horizontal_bar(1 / 16, 2) == "▏ "
    assert horizontal_bar(7.0, 3) == "███"
    assert plain_text(pad_or_cut([("苹果", "up"), ("abc", "")], 4)) == "苹果"
    assert plain_text(pad_or_cut([("苹果", "")], 3)) == "苹 "
    assert pad_or_cut([("ab", "up")], 3, "cursor") == [
        ("ab", "cursor up"),
        (" ", "cursor"),
    ]


def test_red_rises_where_that_is_the_custom():
    assert style_of("up", red_up=True) == style_of("down")
    assert style_of("flash_up", red_up=True) == style_of("flash_down")
    assert style_of("cursor bold", red_up=True) == style_of("cursor bold")


# The model


def test_what_was_pushed_is_newer_than_what_was_fetched():
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


def test_bars_come_in_order_whenever_they_come_and_are_a_thousand_at_most():
    model = Model(["US:A"], Interval.MIN_1)
    for at in (180, 60, 120):
        model.on_tick(kline(at), NOW)
    assert [one.timestamp for one in model.bars.of("US:A")] == [60, 120, 180]
    for at in range(240, 61_000, 60):
        model.on_tick(kline(at), NOW)
    assert len(model.bars.of("US:A")) == 1000
    model.on_tick(
        kline(60_960, interval=Interval.MIN_5), NOW
    )  # On its way when we changed.
    assert model.bars.of("US:A")[-1].interval is Interval.MIN_1


def test_a_held_tape_stands_still_and_counts_what_it_does_not_show():
    model = Model(["US:A"], Interval.MIN_1)
    model.on_tick(trade(1), NOW)
    model.tape.toggle_pause()
    model.on_tick(trade(2), NOW)
    assert [one.timestamp for one in model.trades(9)] == [1]
    assert model.tape.unseen == 1
    model.tape.toggle_pause()
    assert [one.timestamp for one in model.trades(9)] == [2, 1]
    assert model.tape.unseen == 0


def test_the_tape_of_everything_is_in_order_of_time():
    model = Model(["US:A", "US:B"], Interval.MIN_1)
    for at, symbol in ((1, "US:A"), (2, "US:B"), (3, "US:A")):
        model.on_tick(Trade(symbol=symbol, price=Decimal(1), timestamp=at), NOW)
    assert [one.timestamp for one in model.trades(9, all_symbols=True)] == [3, 2, 1]
    assert [one.timestamp for one in model.trades(9)] == [3, 1]
    assert "US:B" in plain_text(draw_tape(model, 60, 5, all_symbols=True)[2])


def test_choices_stop_at_the_ends():
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


def test_a_price_that_moved_stands_out_for_a_moment():
    model = Model(["US:A"], Interval.MIN_1)
    model.on_tick(trade(1, "5"), NOW)
    model.on_tick(trade(2, "6"), NOW)
    roles = {role for _, role in draw_board(model, 60, 3, NOW + 0.1)[1]}
    assert "cursor flash_up" in roles
    later = {role for _, role in draw_board(model, 60, 3, NOW + 1)[1]}
    assert "cursor flash_up" not in later


def test_the_pace_is_that_of_the_last_seconds():
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


def test_the_loss_of_the_link_is_news_and_its_return_is_counted_down():
    model = scene(TWO)
    model.on_state(StateChange(LinkState.BACKOFF, "no route", retry_in=8.0), NOW)
    assert "lost, reconnecting in 6 s" in plain_text(draw_top(model, 120, NOW + 2))
    assert "link lost: no route" in plain_text(draw_events(model, 120))
    roles = {role for _, role in draw_board(model, 60, 3, NOW)[2]}
    assert roles <= {"dim", ""}  # What is not of now does not look so.
    model.on_state(StateChange(LinkState.CONNECTING), NOW + 8)
    assert "connecting" in plain_text(draw_top(model, 120, NOW + 8))


def test_a_quiet_topic_is_news():
    model = Model(["US:A"], Interval.MIN_1)
    since = datetime.fromtimestamp(NOW - 75, UTC)
    quiet = Stale(topic=Topic("trade", "US:A"), since=since, quiet=75.0, usual=1.5)
    model.on_stale(quiet, NOW)
    assert model.event_log.newest == (
        "15:42:27 US:A trade: no tick for 75 s although the market is open; "
        "usual: 1.5 s"
    )


# The panels


@pytest.mark.parametrize("model", [MODEL, Model(["US:A", "HK:700"], Interval.DAY)])
def test_every_panel_fills_its_place_and_no_more_at_any_size(model):
    for width in (1, 20, 33, 58, 131):
        for height in (1, 3, 8, 21):
            panels = {
                "board": draw_board(model, width, height, NOW),
                "ladder": draw_ladder(model, width, height),
                "tape": draw_tape(model, width, height, all_symbols=width > 50),
                "chart": draw_chart(model, width, height, candle_width=1 + height % 3),
                "top": [draw_top(model, width, NOW)],
            }
            for name, lines in panels.items():
                assert len(lines) <= height, (name, width, height)
                assert {line_width(line) for line in lines} == {width}, (name, width)
                assert all(style_of(role) for line in lines for _, role in line)


def overlap(one, other):
    beside = one.x + one.width <= other.x or other.x + other.width <= one.x
    above = one.y + one.height <= other.y or other.y + other.height <= one.y
    return not (beside or above)


@pytest.mark.parametrize("beside", ["ladder", "tape", "chart"])
def test_panels_neither_overlap_nor_leave_the_screen(beside):
    for width in (1, 60, 72, 95, 96, 159, 160):
        for height in (1, 4, 10, 24, 27, 28, 45):
            layout = arrange(width, height, 10, beside)
            boxes = list(layout.boxes.values())
            for place, box in enumerate(boxes):
                assert box.x + box.width <= width
                assert 1 <= box.y <= box.y + box.height <= max(height - 2, 2)
                assert not any(overlap(box, other) for other in boxes[:place])


def test_small_screens_hide_panels_and_large_ones_show_them_all():
    assert set(arrange(60, 20, 10).boxes) == {"board", "chart"}
    assert set(arrange(60, 20, 10, "tape").boxes) == {"board", "ladder"}
    assert set(arrange(80, 24, 10).boxes) == {"board", "chart", "ladder"}
    assert set(arrange(80, 24, 10, "chart").boxes) == {"board", "chart"}
    assert set(arrange(120, 10, 10).boxes) == {"board"}
    assert len(arrange(120, 36, 10).boxes) == len(arrange(200, 60, 10).boxes) == 4


def test_a_row_has_a_dash_for_what_is_unknown():
    model = Model(["US:A"], Interval.MIN_1)

    def cells():
        return plain_text(draw_board(model, 140, 2, NOW)[1]).split()

    assert cells() == ["▌", "US:A", *["-"] * 8]
    bid = PriceLevel(price=Decimal("211.05"), size=Decimal(3))
    model.on_tick(trade(1, "211.1"), NOW)
    model.on_tick(Depth(symbol="US:A", bids=(bid,)), NOW)
    assert cells()[2:] == ["211.1", "-", "211.05", "-", "-", "-", "-", "00:00:01"]


def test_the_board_scrolls_with_the_chosen_symbol():
    model = Model([f"US:A{place}" for place in range(10)], Interval.MIN_1)
    model.select(9)
    assert first_row(model, 5) == 6
    shown = [plain_text(line) for line in draw_board(model, 60, 5, NOW)]
    assert shown[-1].startswith("▌ US:A9")
    assert len(shown) == 5


def test_the_best_prices_stand_at_the_spread():
    rows = [plain_text(line).split() for line in draw_ladder(MODEL, 40, 8)]
    depth = MODEL.quote.depth
    assert depth is not None
    assert rows[3][0] == str(depth.asks[0].price)
    assert rows[4][1] == "mid"
    assert rows[5][0] == str(depth.bids[0].price)
    assert rows[5][1] == rows[5][2]  # The first sum is the first size.


def test_an_empty_side_of_the_book_is_told():
    model = Model(["US:A"], Interval.MIN_1)
    assert "no order book yet" in plain_text(draw_ladder(model, 40, 8)[0])
    assert MODEL.quote.depth is not None
    one = type(MODEL.quote.depth)(symbol="US:A", asks=MODEL.quote.depth.asks[:2])
    model.on_tick(one, NOW)
    told = "\n".join(plain_text(line) for line in draw_ladder(model, 40, 8))
    assert "one side is empty" in told


def test_trades_are_marked_by_side_and_those_fetched_after_an_outage_too():
    model = Model(["US:A"], Interval.MIN_1)
    model.on_tick(trade(1, side=Side.BUY), NOW)
    model.on_tick(trade(2, side=Side.SELL, recovered=True), NOW)
    model.on_tick(trade(3), NOW)
    unknown, sell, buy = draw_tape(model, 60, 4)[1:]
    assert "· " in plain_text(unknown)
    assert "▼ " in plain_text(sell)
    assert plain_text(sell).rstrip().endswith("↺ recovered")
    assert "▲ " in plain_text(buy)
    assert "recovered" not in plain_text(buy)


def test_the_chart_tags_the_last_price_and_the_times_are_round():
    lines = [plain_text(line) for line in draw_chart(MODEL, 100, 20)]
    close = MODEL.bars.of(MODEL.symbol)[-1].close
    tagged = [line for line in lines if line.rstrip().endswith(f"{close}")]
    assert len(tagged) == 1
    assert all(time.endswith(("0", "5")) for time in lines[-1].split())
    assert len(lines[-1].split()) >= 3


@pytest.mark.parametrize(
    ("interval", "label"),
    [("1d", "25 Feb"), ("1w", "25 Feb 26"), ("1M", "Feb 2026"), ("1y", "2026")],
)
def test_days_are_those_of_their_market(interval, label):
    """A day of Hong Kong begins on the evening before, in UTC."""
    model = Model(["HK:700"], Interval.parse(interval))
    first = int(datetime(2026, 2, 21, 16, tzinfo=UTC).timestamp())
    for day in range(10):
        at = first + 86_400 * day
        model.on_tick(kline(at, symbol="HK:700", interval=model.interval), NOW)
    assert plain_text(draw_chart(model, 60, 12)[-1]).strip() == label


def test_the_title_says_how_long_the_bar_grows_and_what_fits_of_the_rest():
    assert chart_title(MODEL, 31, NOW) == "CF:BTCUSDT  1m  0:33 left"
    assert "  O 8" in chart_title(MODEL, 100, NOW)
    assert chart_title(Model(["US:A"], Interval.HOUR_4), 99, NOW) == "US:A  4h"
    ahead = scene(TWO)
    ahead.update_stats(Stats(clock_offset=10.0), NOW)
    assert "0:23 left" in chart_title(ahead, 99, NOW)
    assert " left" not in chart_title(ahead, 99, NOW - 120)


def test_a_note_says_why_a_row_is_empty():
    model = scene(TWO)
    model.add_note(["US:TSLA", "US:ELSE"], "rejected: no such symbol")
    assert "rejected: no such symbol" in plain_text(draw_board(model, 80, 9, NOW)[2])
