"""The parts of the demo, with plain numbers: no sockets, no clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from qos_async import (
    Depth,
    Gap,
    Interval,
    Kline,
    Limits,
    LinkState,
    PriceLevel,
    Side,
    Snapshot,
    StateChange,
    Timing,
    Topic,
    Trade,
)
from qos_async.cli import summary
from qos_async.cli.columns import fitting
from qos_async.cli.formatting import gaps_line, percent, percent_change, tick_line
from qos_async.cli.plain import PlainView
from qos_async.cli.quotes import Quote, Quotes
from qos_async.cli.script import SYMBOLS, Script
from qos_async.cli.stderr_report import JsonView
from qos_async.cli.tally import Tally
from qos_async.sim import Market as SimulatedMarket

TRADE = Trade(symbol="US:AAPL", price=Decimal("211.1"), size=Decimal(40), side=Side.BUY)
DEPTH = Depth(
    symbol="US:AAPL", bids=(PriceLevel(price=Decimal("211.05"), size=Decimal(3)),)
)
KLINE = Kline(
    symbol="US:AAPL",
    interval=Interval.MIN_1,
    open=Decimal(200),
    high=Decimal(212),
    low=Decimal(199),
    close=Decimal(210),
)
TOPICS = (Topic("trade", "US:AAPL"), Topic("kline", "US:AAPL", "1m"))
OPEN = StateChange(LinkState.OPEN)
LOST = StateChange(LinkState.BACKOFF, "the wire was cut", 1, 0.25)
NOON = datetime(2025, 7, 3, 12, tzinfo=UTC)


def gap(topic, seconds=2.5):
    until = NOON + timedelta(seconds=seconds)
    return Gap(topic=topic, since=NOON, until=until, reason="cut")


def test_the_script_fits_the_free_plan():
    """Ten symbols of eight markets, all of which the simulator has."""
    market = SimulatedMarket(1, 1_750_000_000.0)
    assert len(SYMBOLS) == Limits().symbols
    assert len({symbol.partition(":")[0] for symbol in SYMBOLS}) == 8
    assert all(market.instrument(symbol) for symbol in SYMBOLS)
    assert len(set(Script().topics)) == 40


@pytest.mark.parametrize("seconds", [12.0, 15.0, 60.0])
def test_a_run_with_time_enough_keeps_the_free_plan(seconds):
    """And leaves at least seven seconds to heal."""
    script = Script(seconds=seconds)
    assert script.limits == Limits()
    assert script.timing == Timing()
    assert script.cut_at > 4.5
    assert seconds - script.cut_at > 7


def test_a_short_run_hurries():
    """Everything in proportion."""
    script = Script(seconds=3.0)
    assert script.limits.command_interval == 0.125
    assert script.timing.backoff_initial == 0.0625
    assert script.cut_at == pytest.approx(1.2)


def test_the_tally_follows_an_outage():
    """Lost, back, healed when the last topic that had been live is live again."""
    tally = Tally(TOPICS)
    tally.move(OPEN, 1.0)
    tally.tick(TRADE, 2.0)
    tally.tick(KLINE, 2.0)
    assert tally.progress == "open, 2 of 2 topics live"
    tally.move(LOST, 3.0)
    assert tally.progress == "lost"
    tally.tick(TRADE, 3.1)  # It had been waiting in the buffer.
    assert not tally.live
    tally.move(OPEN, 3.5)
    tally.gap(gap(TOPICS[0]), 4.0)
    (outage,) = tally.outages
    assert (outage.back_at, outage.healed_at) == (3.5, None)
    assert "1 topics not live before the end" in str(list(summary.rows(tally, 5.0)))
    tally.tick(KLINE, 4.5)
    assert outage.healed_at == 4.5
    rows = list(summary.rows(tally, 5.0))
    assert ("", "link back after 0.5 s, all live again after 1.5 s") in rows
    assert ("gaps", "1 unfilled; 0 ticks recovered") in rows


def test_a_link_that_does_not_come_back_is_told():
    """However often it was dialled: it is one outage."""
    tally = Tally(TOPICS)
    tally.move(StateChange(LinkState.BACKOFF, "refused"), 0.5)
    assert not tally.outages, "what was never there cannot be lost"
    tally.move(OPEN, 1.0)
    tally.move(LOST, 2.0)
    tally.move(StateChange(LinkState.CONNECTING), 2.5)
    tally.move(LOST, 3.0)
    tally.drop(7)
    tally.breaches = ["too fast"]
    rows = list(summary.rows(tally, 5.0))
    assert ("outages", "1") in rows
    assert ("", "the link was not back before the end") in rows
    assert ("dropped", "7 ticks: this program was too slow for them") in rows
    assert rows[-2:] == [
        ("sent", "0 frames, 1 breach of the protocol"),
        ("", "too fast"),
    ]


def test_quotes_show_the_newest():
    """The price of whatever came last; the change since yesterday, else the open."""
    quotes = Quotes(["US:AAPL"])
    (quote,) = quotes.rows
    assert (quote.last, quote.change) == (None, None)
    quotes.put(Snapshot(symbol="US:AAPL", last_price=Decimal(99), open=Decimal(100)))
    assert (quote.last, quote.change) == (Decimal(99), Decimal(-1))
    for tick in (TRADE, DEPTH, KLINE):
        quotes.put(tick)
    assert quote.last == Decimal("211.1")
    assert quote.price(Decimal("211.05")) == "211.05"
    assert quote.price(quote.last) == "211.10", "as many places as its neighbours"


@pytest.mark.parametrize("width", [20, 40, 56, 64, 76, 80, 92, 100, 122, 200])
def test_columns_fit(width):
    """With what is usual in them, they are not wider than the terminal."""
    columns = fitting(width)
    assert [column.title for column in columns][:2] == ["Symbol", "Last"]
    if width >= 40:
        assert sum(max(c.width, len(c.title)) + 1 for c in columns) <= width


def test_every_cell_has_something_to_say():
    """With and without ticks."""
    full = Quote("US:AAPL", 2, None, TRADE, DEPTH, KLINE)
    cells = {column.title: column.cell(full).plain for column in fitting(200)}
    assert cells["Bid"] == "211.05"
    assert cells["Ask"] == "-"
    assert cells["Last trade"] == "40 buy "
    assert cells["1m"] == "+5.00%"
    empty = [column.cell(Quote("US:AAPL")).plain for column in fitting(200)]
    assert empty == ["US:AAPL", *["-"] * (len(empty) - 1)]


def test_words():
    """Signs, missing numbers and plurals."""
    assert percent(Decimal("-0.001")) == "+0.00%"
    assert percent(None) == "-"
    assert percent_change(Decimal(1), Decimal(0)) is None
    assert tick_line(DEPTH).endswith("211.05 x 3  /  -")
    assert "1m 00:00" in tick_line(KLINE)
    assert gaps_line([gap(TOPICS[0], 1), gap(TOPICS[0], 2)]) == (
        "trade of 2 symbols may have missed 2.0 s, unfilled, 0 ticks recovered"
    )


def test_json_takes_records_apart():
    """Our names, words for enumerations; Decimals are left to the encoder."""
    assert TRADE.to_dict()["side"] == "buy"
    assert KLINE.to_dict()["interval"] == "1m"
    assert DEPTH.to_dict()["bids"] == [{"price": Decimal("211.05"), "size": 3}]


@pytest.mark.parametrize("view", [PlainView, JsonView])
def test_dropped_ticks_are_told(view, capsys):
    """By every view."""
    with view(Tally(TOPICS)) as shown:
        shown.drop(7)
        shown.gap(gap(TOPICS[0]))
    told = "".join(capsys.readouterr())
    assert "dropped" in told
    assert "7" in told
    assert "gap" in told
