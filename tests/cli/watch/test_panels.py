"""Panels, chart and styled text of the screen, as plain lines without a terminal."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qos_async import (
    Depth,
    Interval,
    PriceLevel,
    Side,
    Snapshot,
)
from qos_async.charts.model import Candle
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
from qos_async.cli.watch.model import Model
from qos_async.cli.watch.panels import (
    arrange,
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
from tests.support.fixed_market import NOW, kline, scene, trade

SCALE = Scale(0.0, 10.0, 5)  # A half row for each price.
MODEL = scene()
TWO = ("CF:BTCUSDT", "US:TSLA")


def up(low, open, close, high):
    return "".join(candle_cells(Candle(open, high, low, close, 0.0), SCALE))


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


def test_equal_prices_still_have_a_scale():
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
        ("-0", "0"),
        ("0.00001", "0.00001"),
        ("0.0123456", "0.0123"),
        ("0.99999", "1"),
        ("1E-9", "1.00e-9"),
        ("-12.3456", "-12.35"),
        ("999.96", "1000"),
        ("1000.5", "1000"),
        ("1230.4", "1230"),
        ("9999.4", "9999"),
        ("9999.6", "10.0k"),
        ("-9999.6", "-10.0k"),
        ("99950", "100k"),
        ("999499", "999k"),
        ("999999", "1.00M"),
        ("999999999", "1.00B"),
        ("1E+15", "1000T"),
        ("1E+30", "1.00e+30"),
        ("1234567", "1.23M"),
        ("165000000", "165M"),
        ("2500000000", "2.50B"),
        ("100", "100"),
        ("100.50", "100.5"),
    ],
)
def test_sizes_are_short(value, text):
    assert format_size(None if value is None else Decimal(value)) == text


_SUFFIXES = {"k": "e3", "M": "e6", "B": "e9", "T": "e12"}
_SIZES = st.builds(
    lambda digits, exponent: Decimal(digits).scaleb(exponent),
    st.integers(-(10**8), 10**8),
    st.integers(-25, 25),
)


@given(_SIZES)
@example(Decimal("9999.5"))
@example(Decimal(999500))
def test_a_shown_size_is_the_size_within_its_rounding(value):
    text = format_size(value)
    shown = Decimal(text[:-1] + _SUFFIXES[text[-1]] if text[-1] in _SUFFIXES else text)
    # Three digits, of which the last is rounded.
    assert abs(shown - value) <= abs(value) / 200
    assert len(text) <= len("-0.0000000123")


def test_bars_and_lines_have_the_given_width():
    assert horizontal_bar(0.5, 4) == "██  "
    assert horizontal_bar(1 / 16, 2) == "▏ "
    assert horizontal_bar(7.0, 3) == "███"
    assert plain_text(pad_or_cut([("苹果", "up"), ("   ", "")], 4)) == "苹果"
    assert pad_or_cut([("ab", "up")], 3, "cursor") == [
        ("ab", "cursor up"),
        (" ", "cursor"),
    ]


@pytest.mark.parametrize(
    ("width", "shown"),
    [(6, "苹果ab"), (5, "苹果…"), (4, "苹 …"), (2, " …"), (1, "…"), (0, "")],
)
def test_what_is_cut_to_the_width_ends_with_an_ellipsis(width, shown):
    line = [("苹", "up"), ("果a", ""), ("b  ", "")]
    assert plain_text(pad_or_cut(line, width)) == shown


def test_red_up_swaps_red_and_green():
    assert style_of("up", red_up=True) == style_of("down")
    assert style_of("flash_up", red_up=True) == style_of("flash_down")
    assert style_of("cursor bold", red_up=True) == style_of("cursor bold")


# The panels


@pytest.mark.parametrize("model", [MODEL, Model(["US:A", "HK:700"], Interval.DAY)])
def test_every_panel_fills_exactly_its_box_at_any_size(model):
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


@pytest.mark.fault("F8")
@pytest.mark.parametrize(
    ("last", "base", "text", "role"),
    [
        ("0", "11.2", "-", ""),
        ("10.01", "-37.63", "▲ +126.60%", "up"),
        ("-19.5", "-18", "▼ -8.33%", "down"),
        ("100000.5", "100000", "0.00%", ""),
    ],
)
def test_the_change_of_unusual_prices_is_right_in_sign_and_colour(
    last, base, text, role
):
    model = Model(["US:A"], Interval.MIN_1)
    one = Snapshot(
        symbol="US:A", last_price=Decimal(last), prev_close=Decimal(base), received_at=1
    )
    model.on_tick(one, NOW)
    styles = dict(draw_top(model, 140, NOW))
    assert styles[f"  {text}"] == f"top {role}".strip()
    cells = [(cell.strip(), style) for cell, style in draw_board(model, 140, 2, NOW)[1]]
    number = text.split()[-1]
    style = next(style for cell, style in cells if cell == number).split()
    assert {"up", "down"} & {*style} == ({role} if role else set())


def test_the_board_scrolls_to_the_selected_symbol():
    model = Model([f"US:A{place}" for place in range(10)], Interval.MIN_1)
    model.select(9)
    assert first_row(model, 5) == 6
    shown = [plain_text(line) for line in draw_board(model, 60, 5, NOW)]
    assert shown[-1].startswith("▌ US:A9")
    assert len(shown) == 5


@pytest.mark.parametrize(
    ("bid", "ask", "points"),
    [
        ("99.5", "100.5", "100 bp"),
        ("-100.5", "-99.5", "100 bp"),
        ("1", "3", "10000 bp"),
        ("100", "100.01", "1 bp"),
        ("99.93", "100.05", "12 bp"),
        ("83172.5", "83172.6", "0.012 bp"),
        ("-1", "1", "-"),
    ],
)
def test_the_spread_in_basis_points_is_of_the_distance_from_zero(bid, ask, points):
    """Prices may be negative, as those of oil were; a mid of 0 has no basis points."""
    model = Model(["US:A"], Interval.MIN_1)
    levels = [(PriceLevel(price=Decimal(p), size=Decimal(1)),) for p in (bid, ask)]
    model.on_tick(Depth(symbol="US:A", bids=levels[0], asks=levels[1]), NOW)
    lines = [plain_text(line) for line in draw_ladder(model, 60, 9)]
    [line] = [line for line in lines if "spread" in line]
    assert line.rstrip().endswith(f"  {points}")


def test_the_best_prices_are_next_to_the_spread():
    rows = [plain_text(line).split() for line in draw_ladder(MODEL, 40, 8)]
    depth = MODEL.quote.depth
    assert depth is not None
    assert rows[3][0] == str(depth.asks[0].price)
    assert rows[4][1] == "mid"
    assert rows[5][0] == str(depth.bids[0].price)
    assert rows[5][1] == rows[5][2]  # The first sum is the first size.


def book(*levels):
    bids, asks = (
        tuple(PriceLevel(price=Decimal(p), size=Decimal(s)) for p, s in side)
        for side in levels
    )
    return Depth(symbol="US:A", bids=bids, asks=asks)


@pytest.mark.parametrize(
    ("bid", "ask", "mid"),
    [
        ("211.4", "211.43", "211.415"),
        ("211.4", "211.6", "211.5"),
        ("98.25", "102.75", "100.50"),
        ("27500", "27501", "27500.5"),
        ("0.00012", "0.00014", "0.00013"),
    ],
)
def test_the_mid_has_its_decimal_point_below_those_of_the_prices(bid, ask, mid):
    model = Model(["US:A"], Interval.MIN_1)
    model.on_tick(book([(bid, "3.500")], [(ask, "12")]), NOW)
    lines = [plain_text(line) for line in draw_ladder(model, 60, 5)]
    [line] = [line for line in lines if "spread" in line]
    assert line.split()[:2] == [mid, "mid"]
    [above] = [line for line in lines if line.split()[1:2] == ["12"]]
    assert "." not in above[:10] or above.index(".") == line.index(".")


@pytest.mark.parametrize(
    ("width", "right"), [(60, "spread 1  47 bp"), (30, "spread 1"), (22, "mid")]
)
def test_the_spread_is_shown_as_far_as_there_is_room(width, right):
    model = Model(["US:A"], Interval.MIN_1)
    model.on_tick(book([("211", "1")], [("212", "1")]), NOW)
    [line] = [
        text for text in map(plain_text, draw_ladder(model, width, 5)) if " mid" in text
    ]
    assert line.rstrip().endswith(right)


def test_a_level_of_size_0_is_no_level():
    model = Model(["US:A"], Interval.MIN_1)
    model.on_tick(
        book([("9", "0"), ("8", "5.50")], [("10", "0.000"), ("12", "2")]), NOW
    )
    text = "\n".join(plain_text(line) for line in draw_ladder(model, 60, 9))
    rows = [line.split()[:3] for line in text.splitlines() if line.strip()]
    assert rows == [
        ["price", "size", "sum"],
        ["12", "2", "2"],
        ["10", "mid", "spread"],
        ["8", "5.5", "5.5"],
    ]


def test_an_empty_side_of_the_book_is_a_message():
    model = Model(["US:A"], Interval.MIN_1)
    assert "no order book yet" in plain_text(draw_ladder(model, 40, 8)[0])
    assert MODEL.quote.depth is not None
    one = type(MODEL.quote.depth)(symbol="US:A", asks=MODEL.quote.depth.asks[:2])
    model.on_tick(one, NOW)
    text = "\n".join(plain_text(line) for line in draw_ladder(model, 40, 8))
    assert "one side is empty" in text


def test_trades_are_marked_by_side_and_as_recovered():
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
    times = re.findall(r"\d\d:\d\d", lines[-1])
    assert all(time.endswith(("0", "5")) for time in times)
    assert len(times) >= 3


@pytest.mark.parametrize(
    ("interval", "label"),
    [
        ("1d", "23 Feb 2026     02 Mar"),
        ("1w", "23 Feb 2026     02 Mar"),
        ("1M", "Mar 2026"),
        ("1y", "2026"),
    ],
)
def test_daily_labels_are_in_the_time_zone_of_the_market(interval, label):
    """A day of Hong Kong begins on the evening before, in UTC."""
    model = Model(["HK:700"], Interval.parse(interval))
    first = int(datetime(2026, 2, 21, 16, tzinfo=UTC).timestamp())
    for day in range(10):
        at = first + 86_400 * day
        model.on_tick(kline(at, symbol="HK:700", interval=model.interval), NOW)
    assert plain_text(draw_chart(model, 60, 12)[-1]).strip() == label


def test_the_title_has_the_time_left_and_the_prices_that_fit():
    assert chart_title(MODEL, 31, NOW) == "CF:BTCUSDT  1m  0:33 left"
    assert "  O 8" in chart_title(MODEL, 100, NOW)
    assert chart_title(Model(["US:A"], Interval.HOUR_4), 99, NOW) == "US:A  4h"
    ahead = scene(TWO)
    ahead.update_stats(Stats(clock_offset=10.0), NOW)
    assert "0:23 left" in chart_title(ahead, 99, NOW)
    assert " left" not in chart_title(ahead, 99, NOW - 120)


def test_a_note_is_shown_in_the_row_of_its_symbol():
    model = scene(TWO)
    model.add_note(["US:TSLA", "US:ELSE"], "rejected: no such symbol")
    assert "rejected: no such symbol" in plain_text(draw_board(model, 80, 9, NOW)[2])
    assert plain_text(draw_board(model, 33, 9, NOW)[2]).endswith("rejected: no such …")


@pytest.mark.parametrize(
    ("width", "has_names"), [(30, False), (60, False), (80, True), (140, True)]
)
def test_names_are_beside_the_codes_where_there_is_room_for_them(width, has_names):
    model = Model(["HK:700", "US:AAPL"], Interval.MIN_1)
    model.names = {"HK:700": "腾讯控股"}
    model.on_tick(trade(1, "522.0", symbol="HK:700"), NOW)
    head, row, _ = (plain_text(line) for line in draw_board(model, width, 3, NOW))
    assert ("name" in head.split()) == ("腾讯控股" in row.split()) == has_names


def test_columns_are_below_their_titles_beside_a_name_of_two_characters():
    model = Model(["US:A"], Interval.MIN_1)
    model.names = {"US:A": "Ag"}
    model.on_tick(trade(1, "522.0"), NOW)
    head, row = (plain_text(line) for line in draw_board(model, 100, 2, NOW))
    assert head.index("name") == row.index("Ag")
    assert head.index("last") + len("last") == row.index("522.0") + len("522.0")


def test_a_name_without_room_for_all_of_it_ends_with_an_ellipsis():
    model = Model(["US:AAPL"], Interval.MIN_1)
    model.names = {"US:AAPL": "Apple Computer Incorporated of California"}
    [_, row] = [plain_text(line) for line in draw_board(model, 140, 2, NOW)]
    assert "US:AAPL     Apple" in row
    assert "…  " in row
