"""Tests of ``qos_async.cli.tables``, with plain records."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from qos_async import (
    Depth,
    Instrument,
    Interval,
    PriceLevel,
    Session,
    Side,
    Snapshot,
    Trade,
    TradingStatus,
)
from qos_async.cli import tables
from qos_async.cli.tables import Cell, Table, TableColumn, render, show
from tests.support.factories import flat_kline

TABLE = Table(
    "Title",
    (
        TableColumn("Name", left=True),
        TableColumn("Price"),
        TableColumn("More", 2),
        TableColumn("Most", 1),
    ),
    [
        (Cell("腾讯"), Cell("515.0"), Cell("a"), Cell("b")),
        (Cell("AAPL"), Cell("83.25"), Cell("a"), Cell("b")),
    ],
)
SNAPSHOT = Snapshot(
    symbol="US:AAPL",
    last_price=Decimal("211.1"),
    prev_close=Decimal("210.21"),
    open=Decimal(210),
    high=Decimal("212.25"),
    volume=Decimal(3695321),
    turnover=Decimal("778443046.12"),
    session=Session.PRE_MARKET,
    timestamp=1,
)


def written(table, width=None):
    return [
        "".join(cell.text for cell in line).rstrip() for line in render(table, width)
    ]


def cells(tables):
    return [[cell.text for cell in row] for table in tables for row in table.rows]


def test_columns_with_chinese_text_are_aligned():
    """A character takes two columns; numbers are right-aligned, names left-aligned."""
    assert written(TABLE) == [
        "Title",
        "Name  Price  More  Most",
        "腾讯  515.0     a     b",
        "AAPL  83.25     a     b",
    ]


@pytest.mark.parametrize(
    ("width", "head"),
    [
        (23, "Name  Price  More  Most"),
        (22, "Name  Price  More"),
        (16, "Name  Price"),
        (3, "Name  Price"),
    ],
)
def test_columns_are_dropped_to_fit_the_width(width, head):
    """In the order of ``Column.drop``; columns without one stay."""
    assert written(TABLE, width)[1] == head


def test_a_snapshot_fits_into_80_columns():
    rows = {f"CF:BTC{n}USDT": SNAPSHOT for n in range(3)}
    [table] = tables.snapshots(rows)
    assert max(map(len, written(table, 80))) <= 80
    assert "Turnover" in written(table)[0]


def test_the_cells_of_a_snapshot():
    """All prices have equal decimal places; a missing value is a dash."""
    [row] = cells(tables.snapshots({"US:AAPL": SNAPSHOT}))
    prices = ["211.10", "+0.42%", "210.00", "212.25", "-"]
    rest = ["3,695,321", "778.4M", "pre_market", "1970-01-01"]
    assert row == ["US:AAPL", *prices, *rest]


def test_a_time_of_today_is_shown_without_its_date():
    now = datetime.now(UTC)
    today = Snapshot(symbol="US:AAPL", timestamp=int(now.timestamp()))
    assert cells(tables.snapshots({"": today}))[0][-1] == f"{now:%H:%M:%S}"


def test_a_change_has_a_colour():
    def style(last):
        snapshot = Snapshot(symbol="A:B", last_price=Decimal(last), open=Decimal(2))
        [table] = tables.snapshots({"A:B": snapshot})
        return table.rows[0][2].style

    assert [style(last) for last in (1, 2, 3)] == ["red", "", "green"]


@pytest.mark.fault("F8")
@pytest.mark.parametrize(
    ("last", "base", "text", "style"),
    [
        ("0", "11.2", "-", "dim"),
        ("10.01", "-37.63", "+126.60%", "green"),
        ("-19.5", "-18", "-8.33%", "red"),
        ("100000.5", "100000", "0.00%", ""),
    ],
)
def test_a_change_of_unusual_prices_is_right_in_sign_and_colour(
    last, base, text, style
):
    last, base = Decimal(last), Decimal(base)
    one = Snapshot(symbol="A:B", last_price=last, prev_close=base)
    [table] = tables.snapshots({"A:B": one})
    assert table.rows[0][2] == Cell(text, style)
    bars = [flat_kline(0, base), flat_kline(1, last)]
    [table] = tables.klines({"A:B": bars})
    assert table.rows[1][5] == Cell(text, style)


def test_a_suspended_symbol_is_marked():
    stopped = Snapshot(symbol="HK:700", status=TradingStatus.SUSPENDED)
    [row] = cells(tables.snapshots({"HK:700": stopped}))
    assert row[1:] == ["-"] * 7 + ["suspended", "-"]


def test_the_cells_of_trades():
    trades = [
        Trade(symbol="A:B", price=Decimal("1.5"), side=Side.BUY, timestamp=60),
        Trade(symbol="A:B", price=Decimal("1.25"), size=Decimal(3)),
    ]
    assert cells(tables.trades({"A:B": trades})) == [
        ["1970-01-01 00:01:00", "1.50", "-", "buy"],
        ["-", "1.25", "3", "-"],
    ]


def test_tiny_prices_are_not_in_scientific_notation():
    """Not as 1E-8, and with all decimal places."""
    tiny = [Trade(symbol="A:B", price=Decimal("0.00000001"), size=Decimal("1E+3"))]
    assert cells(tables.trades({"A:B": tiny}))[0][1:3] == ["0.00000001", "1000"]


def test_a_ladder_may_have_uneven_sides():
    def level(price):
        return PriceLevel(price=Decimal(price), size=Decimal(1))

    book = Depth(symbol="A:B", bids=(level("2.5"), level(2)), asks=(level(3),))
    [table] = tables.depth({"A:B": book})
    assert table.title == "A:B  mid 2.75  spread 0.5"
    assert cells([table]) == [["1", "1", "2.5", "3", "1"], ["2", "1", "2.0", "", ""]]
    [empty] = tables.depth({"A:B": Depth(symbol="A:B")})
    assert empty.title == "A:B  one side is empty"


def test_a_level_of_size_0_is_not_in_the_ladder():
    def level(price, size):
        return PriceLevel(price=Decimal(price), size=Decimal(size))

    book = Depth(
        symbol="A:B",
        bids=(level(2, "0.0"), level(1, 5)),
        asks=(level(3, 4), level(4, 0)),
    )
    [table] = tables.depth({"A:B": book})
    assert table.title == "A:B  mid 2  spread 2"
    assert cells([table]) == [["1", "5", "1", "3", "4"]]


def test_the_change_of_a_kline_is_relative_to_the_one_before():
    """For the first one, to its own open; days have the date of their market."""
    midnight = 1751472000  # 2025-07-03 in Hong Kong.
    bars = [
        flat_kline(midnight, Decimal(2), "HK:700", Interval.DAY),
        flat_kline(midnight + 86400, Decimal("2.5"), "HK:700", Interval.DAY),
    ]
    assert cells(tables.klines({"HK:700": bars})) == [
        ["2025-07-03", "2.0", "2.0", "2.0", "2.0", "0.00%", "-"],
        ["2025-07-04", "2.5", "2.5", "2.5", "2.5", "+25.00%", "-"],
    ]
    [minute] = cells(tables.klines({"": [flat_kline(midnight, Decimal(2), "HK:700")]}))
    assert minute[0] == "2025-07-02 16:00"


def test_long_names_are_cut():
    one = Instrument(symbol="A:B", name_en="n" * 40, eps=Decimal("6.2398844687"))
    [row] = cells(tables.instruments({"A:B": one}))
    assert row[1] == "n" * 30 + "..."
    assert row[8] == "6.240"
    assert row[5:8] == ["-"] * 3


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr(tables, "is_terminal", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_a_terminal_gets_colours_and_lines_that_fit(terminal, capsys):
    show(tables.snapshots({"US:AAPL": SNAPSHOT}))
    out = capsys.readouterr().out
    assert "\x1b[32m+0.42%\x1b[0m" in out
    assert max(map(len, re.sub(r"\x1b\[[\d;]*m", "", out).splitlines())) <= 40


def test_no_color_turns_colours_off(terminal, monkeypatch, capsys):
    monkeypatch.setenv("NO_COLOR", "1")
    show(tables.snapshots({"US:AAPL": SNAPSHOT}))
    assert not re.search(r"\x1b\[3\d", capsys.readouterr().out)


def test_without_rich_a_terminal_gets_the_same_without_colours(
    terminal, monkeypatch, capsys
):
    for name in ("rich", "rich.console", "rich.text"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    show([TABLE, TABLE])
    assert capsys.readouterr().out.splitlines() == [
        *written(TABLE),
        "",
        *written(TABLE),
    ]


def test_a_dumb_terminal_does_not_count_as_a_terminal(monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "dumb")
    assert not tables.is_terminal()
