"""Lines of ticks and messages on a terminal."""

from __future__ import annotations

import io
import re
import sys
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from qos_async import Channel, Depth, Interval, Kline, PriceLevel, Side, Snapshot, Trade
from qos_async.cli.display import Display
from qos_async.cli.tick_lines import TickLines
from qos_async.cli.timed_lines import timed_lines
from tests.support.cli_process import run_on_terminal

AT = 1_735_787_000  # 2025-01-02 11:03:20 in Hong Kong.
MARKET = Display("market")


@dataclass
class Terminal:
    """The width of a terminal that lines are for."""

    columns: int = 80
    colours: bool = False
    display: Display = MARKET

    def line(self, tick, *channels):
        channels = channels or (tick.channel,)
        lines = TickLines(
            self.display,
            channels,
            colours=self.colours,
            columns=lambda: self.columns,
        )
        return lines.line(tick)


def a_trade(side=Side.BUY, **more):
    received = (AT + 5) * 10**9
    fields: Any = {"timestamp": AT, "received_at": received, **more}
    price, size = Decimal("522.5"), Decimal(900)
    return Trade(symbol="HK:700", price=price, size=size, side=side, **fields)


def a_kline(**more):
    prices: Any = dict.fromkeys(("open", "high", "low", "close"), Decimal("83083.80"))
    start: Any = {
        "timestamp": AT - 20,
        "received_at": AT * 10**9,
        "volume": Decimal(12),
    }
    return Kline(symbol="HK:700", interval=Interval.MIN_1, **prices, **start, **more)


@pytest.mark.fault("Y5")
def test_the_time_of_a_line_is_that_of_the_tick():
    assert Terminal().line(a_trade()).split() == (
        ["11:03:20", "HK:700", "522.5", "buy", "900"]
    )


def test_a_tick_without_a_time_has_that_of_receipt():
    assert Terminal().line(a_trade(timestamp=0)).startswith("11:03:25")


def test_a_kline_has_the_time_of_receipt_and_the_start_of_its_bar():
    line = Terminal().line(a_kline())
    assert line.startswith("11:03:20")
    assert "1m 11:03" in line


@pytest.mark.fault("Y5")
@pytest.mark.parametrize("columns", [80, 60, 30])
def test_lines_fit_the_terminal(columns):
    levels = (PriceLevel(price=Decimal("83083.10"), size=Decimal("0.2560")),)
    book = Depth(symbol="CF:BTCUSDT", timestamp=AT, bids=levels, asks=levels)
    prices: Any = dict.fromkeys(
        ("open", "high", "low", "last_price"), Decimal("83083.80")
    )
    quote = Snapshot(symbol="CF:BTCUSDT", timestamp=AT, volume=Decimal(10**9), **prices)
    for tick in (book, quote, a_trade(), a_kline()):
        line = Terminal(columns).line(tick, *Channel)
        assert len(line) <= columns
        assert "HK:700" in line or "CF:BTCUSDT" in line
    line = Terminal(60).line(book, *Channel)
    assert line.count(" x 0.256") == 2
    assert "0.2560" not in line


def test_only_several_channels_are_named():
    assert "trade" in Terminal().line(a_trade(), Channel.TRADE, Channel.DEPTH)
    assert "trade" not in Terminal().line(a_trade(), Channel.TRADE, Channel.TRADE)


@pytest.mark.parametrize(("side", "code"), [(Side.BUY, "32"), (Side.SELL, "31")])
def test_the_side_has_a_colour_which_red_up_swaps(side, code):
    colours = Terminal(colours=True)
    assert f"\x1b[{code}m" in colours.line(a_trade(side))
    swapped = Terminal(colours=True, display=Display("market", red_up=True))
    assert f"\x1b[{code}m" not in swapped.line(a_trade(side))


def test_recovered_ticks_are_marked():
    assert Terminal().line(a_trade(recovered=True)).endswith("recovered")


def test_what_a_terminal_would_obey_is_escaped():
    tick = a_trade()
    hostile = Trade(symbol="US:\x1b[2J", price=tick.price, timestamp=AT)
    assert "\x1b" not in Terminal().line(hostile)


def test_a_stream_on_a_terminal_has_short_coloured_lines():
    words = "stream", "--sim", "CF:BTCUSDT", "--seconds", "3"
    ran = run_on_terminal(*words, "--tz", "UTC", size=(20, 60))
    assert "\x1b[1m CF:BTCUSDT" in ran.out
    assert "\x1b[" not in run_on_terminal(*words, NO_COLOR="1").out


class TerminalStream(io.StringIO):
    def isatty(self):
        return True


def test_messages_on_a_terminal_are_short_and_fit(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", TerminalStream())
    lines = timed_lines("the server has not acknowledged all topics", Display("UTC"))
    assert re.match(r"\d\d:\d\d:\d\d the server", lines[0])
    assert lines[1] == "         all topics"
    assert max(map(len, lines)) <= 40


def test_messages_in_a_log_have_the_date(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    [line] = timed_lines("link lost", Display("UTC"))
    assert datetime.fromisoformat(line.split()[0]).tzinfo is not None
    assert line.endswith("Z link lost")
