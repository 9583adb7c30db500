"""Time zones and colours of what commands show: ``--tz``, ``--red-up``, configuration."""

from __future__ import annotations

import csv
import json
import re
import time
from argparse import ArgumentTypeError
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from qos_async import Interval, Kline, Side, Trade
from qos_async.cli import main, tables
from qos_async.cli.command_line import parse
from qos_async.cli.display import Display, resolve_display, time_zone
from qos_async.cli.formatting import iso_time, tick_line
from qos_async.cli.settings import SettingsError, read_file
from qos_async.cli.watch.command import _chosen
from qos_async.cli.watch.model import Model
from qos_async.cli.watch.panels import draw_top
from qos_async.cli.watch.text import plain_text
from tests.support.cli_process import run_on_terminal
from tests.support.memory_transport import kline
from tests.support.recording_files import event, fetched, frame, recorded, write

AT = 1_735_787_000  # 2025-01-02 03:03:20 in UTC.


@pytest.fixture
def in_berlin(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def trade(symbol="HK:700"):
    return Trade(symbol=symbol, price=Decimal(1), timestamp=AT, received_at=AT * 10**9)


@pytest.mark.parametrize(
    ("tz", "shown"),
    [
        ("UTC", "2025-01-02T03:03:20.000Z"),
        ("utc", "2025-01-02T03:03:20.000Z"),
        ("market", "2025-01-02T11:03:20.000+08:00"),
        ("America/New_York", "2025-01-01T22:03:20.000-05:00"),
        ("local", "2025-01-02T04:03:20.000+01:00"),
    ],
)
def test_each_zone_of_a_tick(tz, shown, in_berlin):
    assert tick_line(trade(), Display(tz)).startswith(shown)


def test_the_market_of_a_message_without_a_symbol_is_utc():
    now = datetime.fromtimestamp(AT, UTC)
    assert iso_time(now, Display("market").zone()).endswith("Z")


def test_tables_name_the_zone_of_their_times():
    [table] = tables.trades({"HK:700": [trade()]}, Display("market"))
    assert table.columns[0].title == "Hong Kong"
    assert table.rows[0][0].text == "2025-01-02 11:03:20"


def test_a_day_bar_has_its_own_date_in_any_zone():
    midnight = 1_735_747_200
    prices: Any = dict.fromkeys(("open", "high", "low", "close"), Decimal(1))
    bar = Kline(symbol="HK:700", timestamp=midnight, interval=Interval.DAY, **prices)
    for tz in ("UTC", "America/New_York"):
        [table] = tables.klines({"HK:700": [bar]}, Display(tz))
        assert table.rows[0][0].text == "2025-01-02"
        assert "1d 2025-01-02" in tick_line(bar, Display(tz))


def test_the_hours_of_a_calendar_are_in_the_zone(live, qos):
    assert "09:30-12:00, 13:00-16:00" in qos("calendar", "HK", "--tz", "market").out
    assert "01:30-04:00, 05:00-08:00" in qos("calendar", "HK").out


def test_json_and_csv_are_in_utc_unless_a_zone_is_typed(live, qos, home):
    home.write_text(f'tz = "Asia/Tokyo"\n{home.read_text()}')
    words = ("trades", "HK:700", "--count", "1", "--json")
    assert json.loads(qos(*words).out)["time"].endswith("Z")
    [row] = [json.loads(qos(*words, "--tz", "market").out)]
    assert row["time"].endswith("+08:00")
    assert datetime.fromisoformat(row["time"]).timestamp() == row["timestamp"]


def test_the_configuration_chooses_the_zone_and_the_option_another(live, qos, home):
    home.write_text(f'tz = "Asia/Tokyo"\n{home.read_text()}')
    assert "Tokyo" in qos("trades", "HK:700").out
    assert "UTC" in qos("trades", "HK:700", "--tz", "UTC").out


@pytest.mark.parametrize(
    "command", ["snapshot", "stream", "watch", "chart", "replay", "info"]
)
def test_an_unknown_zone_is_a_usage_error(command, qos):
    ran = qos(command, "HK:700", "--tz", "Asia/Nowhere")
    assert ran.code == 2
    assert "'Asia/Nowhere' is not a time zone: take local, market, UTC or" in ran.err


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("Shanghai", "Asia/Shanghai"),
        ("HKT", "Asia/Hong_Kong"),
        ("hong kong", "Asia/Hong_Kong"),
        ("new_york", "America/New_York"),
        ("Asia/Shangai", "Asia/Shanghai"),
        ("Beijing", "Asia/Shanghai"),
        ("UTC+8", "Asia/Shanghai, Asia/Hong_Kong"),
        ("CST", "Asia/Shanghai, America/Chicago"),
    ],
)
def test_the_zone_that_is_probably_meant_is_suggested(typed, meant):
    with pytest.raises(ArgumentTypeError, match=f"did you mean {re.escape(meant)}\\?$"):
        time_zone(typed)


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ('tz = "Mars"', "tz: 'Mars' is not a time zone: take local"),
        ('red_up = "yes"', "red_up: Expected `bool`"),
        ('[watch]\nsymbols = ["AAPL"]', "watch.symbols: malformed symbol 'AAPL'"),
        ('[watch]\ninterval = "7m"', "watch.interval: '7m' is not an interval"),
        ("[watch]\ncolour = 1", "watch.colour: unknown; allowed: symbols, interval"),
    ],
)
def test_an_invalid_entry_names_itself(entry, says, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(entry)
    with pytest.raises(SettingsError) as caught:
        read_file(path)
    assert says in str(caught.value)


@pytest.mark.parametrize("symbols", ['["HK:00700", "US:AAPL"]', '"HK:700"'])
def test_watch_takes_symbols_and_interval_of_the_configuration(home, symbols):
    home.write_text(f'[watch]\nsymbols = {symbols}\ninterval = "5m"\n')
    found, interval = _chosen(parse(["watch"]))
    assert (found[0], interval) == ("HK:700", Interval.MIN_5)
    typed = _chosen(parse(["watch", "US:TSLA", "--interval", "1d"]))
    assert typed == (("US:TSLA",), Interval.DAY)


def test_watch_has_defaults_without_a_configuration(home):
    found, interval = _chosen(parse(["watch"]))
    assert (len(found), interval) == (10, Interval.MIN_1)


def test_red_up_swaps_the_colours_and_the_option_overrides_the_configuration(home):
    home.write_text("red_up = true\n")
    words = ["snapshot", "US:AAPL"]
    assert resolve_display(parse(words)).style("green") == "red"
    assert resolve_display(parse([*words, "--no-red-up"])).style("green") == "green"
    home.write_text("")
    assert resolve_display(parse(words)).style("red") == "red"
    assert resolve_display(parse([*words, "--red-up"])).style("red") == "green"


def test_a_sale_is_green_on_a_terminal_with_red_up(monkeypatch, capsys):
    row: Any = Trade(symbol="US:AAPL", price=1, side=Side.SELL)
    made: list[Any] = []
    monkeypatch.setattr(tables, "is_terminal", lambda *_: True)
    monkeypatch.setattr(tables, "_printer", lambda: made.append)
    tables.show(tables.trades({"US:AAPL": [row]}), Display(red_up=True))
    assert ("sell", "green") in [tuple(cell) for line in made for cell in line]


def test_a_terminal_has_local_times_and_a_pipe_utc(qos):
    words = ("trades", "--sim", "HK:700", "--count", "1")
    assert "UTC" in qos(*words).out
    ran = run_on_terminal(*words, TZ="Asia/Kathmandu")
    assert "+0545" in ran.out


def test_watch_shows_the_zone():
    model = Model(["HK:700"], Interval.MIN_1, Display("market"))
    shown = plain_text(draw_top(model, 120, AT))
    assert shown.rstrip().endswith("11:03:20 Hong Kong")
    model.event_log.add("cut", AT)
    assert Model(["US:A"], Interval.DAY).event_log.newest == ""
    assert model.event_log.newest.startswith("03:03:20 ")  # Of no symbol: UTC.


def test_the_start_of_a_replay_is_in_the_zone():
    start = datetime.fromtimestamp(AT, UTC)
    shown = iso_time(start, Display("Asia/Hong_Kong").zone())
    assert datetime.fromisoformat(shown) - start == timedelta()
    assert main(["replay", "/nonexistent", "--tz", "Asia/Hong_Kong"]) == 1


def test_info_shows_times_in_the_zone(tmp_path, qos):
    outage = event(2, "lost", reason="cut"), event(4, "opened"), fetched(6, until=4)
    write(tmp_path / "in", recorded(*outage, gaps=True))
    out = qos("info", tmp_path / "in", "--tz", "Asia/Hong_Kong").out
    assert "recorded    2023-11-15 06:13:20 to " in out
    assert " Hong Kong (" in out
    assert "2023-11-15 06:13:21 trade US:AAPL" in out
    assert " UTC (" in qos("info", tmp_path / "in", "--tz", "market").out


@pytest.mark.fault("Y1")
def test_convert_writes_the_zone_and_the_trading_date_to_csv(tmp_path, qos):
    midnight = 1_735_747_200
    day, minute = (kline(midnight, symbol="HK:700", kt=kt) for kt in (1001, 1))
    topics = "kline HK:700 1d", "kline HK:700 1m"
    write(tmp_path / "in", recorded(frame(1, day, minute), topics=topics))
    words = "convert", tmp_path / "in", "-o", tmp_path / "out"
    assert qos(*words, "--csv", "--tz", "market").code == 0
    [file] = (tmp_path / "out").rglob("*.csv")
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert [row["trading_date"] for row in rows] == ["2025-01-02", ""]
    assert rows[0]["time"] == "2025-01-02T00:00:00+08:00"
    assert "date" not in rows[0]
    ran = qos(*words, "--tz", "market")
    assert (ran.code, "--tz is for --csv" in ran.err) == (2, True)


def test_record_prints_times_in_the_zone(live, qos, tmp_path):
    words = (
        "record",
        "US:NONE",
        "-o",
        tmp_path / "in",
        "--seconds",
        "0.5",
        "--tz",
        "Asia/Tokyo",
    )
    assert "+09:00 no ticks of US:NONE" in qos(*words).err
