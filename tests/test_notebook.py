"""HTML tables of results and records."""

from __future__ import annotations

import html
import re
from decimal import Decimal
from typing import Any

import pytest

from qos_async import (
    Depth,
    Instrument,
    Interval,
    Kline,
    PriceLevel,
    Result,
    Snapshot,
    Trade,
)
from tests.support.full_records import AT, BARE, FULL, KINDS, LIVE


def shown(value: Any) -> str:
    text = value._repr_html_()
    assert isinstance(text, str)
    return text


def cells(text: str) -> list[list[str]]:
    """Read the rows of a table."""
    return [
        [html.unescape(cell) for cell in re.findall(r"<t[hd]>(.*?)</t[hd]>", row)]
        for row in re.findall(r"<tr>(.*?)</tr>", text)
    ]


def caption(text: str) -> str:
    [found] = re.findall(r"<caption>(.*?)</caption>", text)
    return html.unescape(found)


def test_a_record_is_a_table_of_its_non_empty_fields():
    text = shown(FULL[Trade])
    assert caption(text) == "Trade"
    assert cells(text) == [
        ["symbol", "US:AAPL"],
        ["timestamp", "2025-06-05 13:30:00 UTC"],
        ["received_at", "2025-06-05 13:30:00.123456 UTC"],
        ["recovered", "yes"],
        ["price", "212.65"],
        ["size", "0.5"],
        ["side", "sell"],
    ]
    assert cells(shown(BARE[Trade])) == [
        ["symbol", "US:AAPL"],
        ["price", "1"],
        ["side", "unknown"],
    ]


def test_a_day_bar_has_its_trading_date_beside_its_time():
    prices: dict[str, Any] = dict.fromkeys(("open", "high", "low", "close"), Decimal(1))
    day = Kline(
        symbol="HK:700", timestamp=1_735_747_200, interval=Interval.DAY, **prices
    )
    rows = dict(cells(shown(day)))
    assert rows["timestamp"] == "2025-01-01 16:00:00 UTC"
    assert rows["date"] == "2025-01-02"
    assert "date" not in dict(cells(shown(FULL[Kline])))


def test_a_book_shows_its_best_levels_and_the_number_of_others():
    levels = tuple(PriceLevel(Decimal(n), Decimal(10 * n)) for n in range(1, 6))
    rows = dict(cells(shown(Depth(symbol="US:A", bids=levels, asks=levels[:1]))))
    assert rows["bids"] == "1 x 10, 2 x 20, 3 x 30, … 2 more"
    assert rows["asks"] == "1 x 10"


def test_the_session_of_a_snapshot_is_truncated_to_a_line():
    rows = dict(cells(shown(FULL[Snapshot])))
    assert rows["pre_market"].startswith("last_price 1.1, prev_close 2, high 3")
    assert len(rows["pre_market"]) == 60
    assert rows["pre_market"].endswith("…")


@pytest.mark.parametrize("kind", KINDS)
def test_every_record_and_a_result_of_it_can_be_shown(kind: Any):
    for record in (FULL[kind], BARE[kind]):
        assert shown(record).startswith("<table><caption>" + kind.__name__)
        assert caption(shown(Result(("X",), {"X": record}))).startswith("1 record of")


def bars(count: int) -> list[Kline[Decimal]]:
    one = Decimal(1)
    return [
        Kline(
            symbol="US:AAPL",
            timestamp=AT + 60 * n,
            interval=FULL[Kline].interval,
            open=one,
            high=one,
            low=one,
            close=Decimal(n),
        )
        for n in range(count)
    ]


def test_a_result_is_a_table_with_its_columns_and_what_is_missing():
    found = Result(("US:AAPL", "US:NO"), {"US:AAPL": bars(2)})
    text = shown(found)
    assert caption(text) == "2 records of Kline, 1 symbol; missing: US:NO"
    heads, *rows = cells(text)
    assert " ".join(heads) == "symbol timestamp interval open high low close"
    start = ["US:AAPL", "2025-06-05 13:30:00 UTC", "1m", "1", "1", "1"]
    assert rows[0] == [*start, "0"]
    assert len(rows) == 2


def test_a_long_result_shows_its_first_and_last_records_only():
    text = shown(Result(("US:AAPL",), {"US:AAPL": bars(5000)}))
    assert caption(text) == "5000 records of Kline, 1 symbol"
    closes = " ".join(row[-1] for row in cells(text))
    assert closes == "close 0 1 2 3 4 ⋮ 4995 4996 4997 4998 4999"


def test_ten_records_are_shown_in_full():
    text = shown(Result(("US:AAPL",), {"US:AAPL": bars(10)}))
    assert [row[-1] for row in cells(text)] == ["close", *"0123456789"]


def test_text_of_the_server_is_escaped():
    evil = Instrument(symbol="US:<b>", name_en='<script>alert("1")</script>')
    for text in (
        shown(evil),
        shown(Result(("US:<b>", "<i>"), {"US:<b>": evil})),
    ):
        assert not re.search("<(b|i|script)>", text)
        assert "&lt;script&gt;alert(&quot;1&quot;)" in text


def test_control_characters_are_shown_and_not_obeyed():
    """A bidi control would turn the text around it, tags beside it included."""
    name = "A\x00\x1b[31m\u202eB\u2066\x85"
    for text in (
        shown(Instrument(symbol="US:A", name_en=name)),
        shown(Result(("US:A", f"US:{name}"), {"US:A": BARE[Instrument]})),
    ):
        assert text.isprintable()
        assert r"A\x00\x1b[31m\u202eB\u2066\x85" in text


def test_tables_are_short_for_any_amount_of_records():
    names = [f"US:{n}" for n in range(10_000)]
    long = Instrument(symbol="US:A", name_en="x" * 10**6)
    text = shown(Result(names, dict.fromkeys(names[:5000], long)))
    assert len(text) < 4000
    assert caption(text).endswith("missing: " + ", ".join(names[5000:5010]) + ", …")


@pytest.mark.parametrize(
    "found", [{"A": 1}, {"A": [1, 2]}, {"A": FULL[Trade], "B": FULL[Kline]}]
)
def test_other_results_are_shown_as_text(found: Any):
    assert Result(tuple(found), found)._repr_html_() is None


def test_an_empty_result_shows_what_is_missing():
    text = shown(Result(("US:NO",), {}, Trade))
    assert caption(text) == "0 records, 0 symbols; missing: US:NO"


def test_the_html_view_adds_no_field_to_a_record():
    record = Trade(price=Decimal(1), **LIVE)
    assert not hasattr(record, "__dict__")
    with pytest.raises(AttributeError):
        record.note = 1  # type: ignore[attr-defined]
