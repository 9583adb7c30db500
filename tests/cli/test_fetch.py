"""Tests of ``qos_async.cli.fetch``, against a simulator."""

from __future__ import annotations

import copy
import csv
import io
import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest

from qos_async import Snapshot
from qos_async.cli import main
from qos_async.cli.serialize import fields
from qos_async.sim.requests import RequestHandler

COMMANDS = {
    "snapshot": ["US:AAPL", "CF:BTCUSDT"],
    "depth": ["US:AAPL", "CF:BTCUSDT"],
    "trades": ["US:AAPL", "CF:BTCUSDT", "--count", "3"],
    "klines": ["US:AAPL", "CF:BTCUSDT", "--count", "3"],
    "instruments": ["US:AAPL", "CF:BTCUSDT"],
    "products": ["US", "CF"],
    "calendar": ["US", "HK"],
}
ABOUT_SYMBOLS = [name for name in COMMANDS if name not in ("products", "calendar")]


def objects(ran):
    return [json.loads(line) for line in ran.lines]


def table(ran):
    return list(csv.DictReader(io.StringIO(ran.out)))


@pytest.mark.parametrize("name", COMMANDS)
def test_the_default_output_is_a_table(name, live, qos):
    ran = qos(name, *COMMANDS[name])
    assert (ran.code, ran.err) == (0, "")
    assert COMMANDS[name][1] in ran.out
    assert "\x1b" not in ran.out, "stdout is not a terminal"
    assert not any(line != line.rstrip() for line in ran.lines)


@pytest.mark.parametrize("name", COMMANDS)
def test_json_and_csv_have_the_same_fields(name, live, qos):
    """In the order of the record; CSV has a row for each level of a book."""
    rows, flat = (qos(name, *COMMANDS[name], shape) for shape in ("--json", "--csv"))
    assert (rows.code, flat.code) == (0, 0)
    found, cells = objects(rows), table(flat)
    key = "symbol" if name in ABOUT_SYMBOLS else "market"
    requested = COMMANDS[name][:2]
    assert list(dict.fromkeys(row[key] for row in found)) == requested
    assert list(dict.fromkeys(row[key] for row in cells)) == requested
    if name != "depth":
        assert len(found) == len(cells)
        plain = [k for k, v in found[0].items() if not isinstance(v, dict)]
        assert [column for column in cells[0] if column in plain] == plain


def test_json_numbers_are_text_as_sent(live, qos):
    """With trailing zeros; times are ISO 8601 and epoch seconds."""
    [trade] = objects(qos("trades", "CF:BTCUSDT", "--count", "1", "--json"))
    assert list(trade) == ["symbol", "timestamp", "time", "price", "size", "side"]
    moment = datetime.fromtimestamp(trade["timestamp"], UTC)
    assert datetime.fromisoformat(trade["time"]) == moment
    tape = live.ask(lambda: live.sim.tape("CF:BTCUSDT"))
    sent = {(row["ts"], row["p"], row["v"]) for row in tape}
    assert (trade["timestamp"], trade["price"], trade["size"]) in sent


@pytest.mark.parametrize(
    "words", [("instruments", "HK:700"), ("products", "HK"), ("search", "700")]
)
def test_csv_with_names_has_a_byte_order_mark_only_if_asked_for(words, live, qos):
    """Excel needs it; Python, awk and head would take it for a part of the first name."""
    plain, marked = (qos(*words, shape).out for shape in ("--csv", "--csv-bom"))
    assert marked == f"\ufeff{plain}"
    assert plain.startswith(("symbol,", "market,"))
    assert qos(*words, "--csv", "--csv-bom").code == 2


@pytest.mark.parametrize("shape", ["--json", "--csv"])
def test_a_tiny_price_is_as_it_was_sent(shape, live, qos, monkeypatch):
    """Not as 1.0E-7, which is the same number."""
    row = live.ask(lambda: live.sim.tape("CF:BTCUSDT"))[-1]
    tiny = [{**row, "p": "0.00000010"}]
    monkeypatch.setattr(live.sim.market, "trades", lambda *_: tiny)
    assert "0.00000010" in qos("trades", "CF:BTCUSDT", shape).out


def test_a_missing_value_is_null_in_json_and_empty_in_csv(live, qos):
    [row] = objects(qos("snapshot", "CF:BTCUSDT", "--json"))
    assert row["prev_close"] is row["session"] is row["pre_market"] is None
    [cells] = table(qos("snapshot", "CF:BTCUSDT", "--csv"))
    assert cells["prev_close"] == cells["pre_market_last_price"] == ""


def test_the_sessions_of_a_us_stock_are_csv_columns(live, qos):
    [row] = objects(qos("snapshot", "US:AAPL", "--json"))
    [cells] = table(qos("snapshot", "US:AAPL", "--csv"))
    assert set(row["pre_market"]) >= {"last_price", "volume", "time"}
    # An open session changes between the two requests.
    exact, shown = Decimal(row["pre_market"]["high"]), Decimal(cells["pre_market_high"])
    assert abs(exact - shown) < exact / 20
    told_at, shown_at = row["overnight"]["time"], cells["overnight_time"]
    apart = datetime.fromisoformat(shown_at) - datetime.fromisoformat(told_at)
    assert abs(apart) < timedelta(minutes=10)


def test_csv_has_a_row_for_each_level_of_a_book(live, qos):
    cells = table(qos("depth", "HK:700", "--csv"))
    assert [row["side"] for row in cells] == ["bid"] * 10 + ["ask"] * 10
    assert [row["level"] for row in cells] == [str(n) for n in range(1, 11)] * 2
    bids = [Decimal(row["price"]) for row in cells if row["side"] == "bid"]
    assert bids == sorted(bids, reverse=True)


def test_klines_follow_their_options(live, qos):
    words = ("CF:BTCUSDT", "--interval", "1h", "--count", "5", "--adjust", "--json")
    bars = objects(qos("klines", *words))
    assert [bar["interval"] for bar in bars] == ["1h"] * 5
    times = [bar["timestamp"] for bar in bars]
    assert {later - one for one, later in pairwise(times)} == {3600}
    requested = [one.body for one in live.sim.requests if one.path == "/kline"][-1]
    assert requested["kline_reqs"][0]["a"] == 1


@pytest.mark.fault("Y1")
def test_a_day_bar_has_the_date_in_the_zone_of_its_market(live, qos):
    """Midnight in Hong Kong is the day before in UTC."""
    words = ("HK:700", "--count", "1")
    [bar] = objects(qos("klines", *words, "--json"))
    day = datetime.fromtimestamp(bar["timestamp"] + 8 * 3600, UTC).date()
    assert qos("klines", *words).lines[-1].startswith(f"{day} ")
    assert bar["date"] == day.isoformat()
    [row] = table(qos("klines", *words, "--csv"))
    assert row["date"] == day.isoformat()


def test_an_intraday_bar_has_no_date(live, qos):
    words = ("HK:700", "--interval", "1h", "--count", "1")
    assert "date" not in objects(qos("klines", *words, "--json"))[0]
    assert "date" not in table(qos("klines", *words, "--csv"))[0]


def test_trading_days_are_dates(live, qos):
    days = objects(qos("calendar", "US", "--json"))
    assert all(date.fromisoformat(day["date"]) for day in days)
    assert {day["half_day"] for day in days} <= {True, False}
    assert {row["half_day"] for row in table(qos("calendar", "US", "--csv"))} <= {
        "true",
        "false",
    }


@pytest.mark.parametrize("shape", [[], ["--json"], ["--csv"]])
def test_missing_symbols_are_listed_on_stderr(shape, live, qos):
    """Other symbols were returned, so that is not a failure."""
    ran = qos("snapshot", "US:NOSUCH,AAPL", *shape)
    assert ran.code == 0
    assert ran.err.startswith("qos: nothing about US:NOSUCH: ")
    assert "US:AAPL" in ran.out


def test_a_missing_symbol_that_may_be_misspelt_has_a_suggestion(live, qos):
    """Codes are as the server has them, so small letters are not corrected."""
    ran = qos("snapshot", "US:aapl", "NASDAQ:TSLA", "US:NOSUCH")
    assert ran.err == (
        "qos: nothing about US:aapl, NASDAQ:TSLA, US:NOSUCH: the server does not know "
        "them, or has no data; did you mean US:AAPL, US:TSLA?\n"
    )


@pytest.mark.parametrize("name", ABOUT_SYMBOLS)
def test_an_empty_response_is_a_failure(name, live, qos):
    ran = qos(name, "US:NOSUCH", "US:NEITHER")
    assert (ran.code, ran.out) == (1, "")
    assert "nothing about US:NOSUCH, US:NEITHER: the server does not" in ran.err


def test_a_market_of_another_service_has_a_suggestion(live, qos):
    ran = qos("snapshot", "SSE:600519", "US:NOSUCH")
    assert ran.code == 1
    assert ran.err.endswith("did you mean SH:600519?\n")


def test_an_unknown_market_is_listed_on_stderr(live, qos):
    assert qos("products", "XX").code == 1
    ran = qos("products", "XX", "cf")
    assert ran.code == 0
    assert "nothing about XX" in ran.err


def test_an_empty_list_counts_as_missing(live, qos, monkeypatch):
    monkeypatch.setattr(live.sim.market, "calendar", lambda *_: [])
    ran = qos("calendar", "US")
    assert (ran.code, ran.out) == (1, "")
    assert "nothing about US" in ran.err


def test_a_missing_time_is_null():
    """Not 1970."""
    row = fields(Snapshot(symbol="US:AAPL"))
    assert row["timestamp"] is row["time"] is None


def test_more_symbols_than_the_plan_allows_take_several_requests(live, qos, home):
    before = len(live.sim.requests)
    ran = qos("snapshot", "US:AAPL,TSLA", "HK:700", "--symbols-limit", "2", "--json")
    assert [row["symbol"] for row in objects(ran)] == ["US:AAPL", "US:TSLA", "HK:700"]
    assert len(live.sim.requests) - before == 2


def test_a_rejected_request_is_one_line_on_stderr(live, qos):
    live.sim.reject("Not today.", "/snapshot")
    ran = qos("snapshot", "US:AAPL")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "qos: /snapshot US:AAPL: Not today.\n"


@pytest.mark.parametrize(
    ("words", "count", "says"),
    [
        (
            "Too many requests.",
            4,
            "; wait a minute; if your plan allows more HTTP requests a minute, add --requests-limit N",
        ),
        ("Too many symbols.", 1, "; if your plan allows more, add --symbols-limit N"),
    ],
)
def test_a_limit_error_names_the_option_for_it(words, count, says, live, qos):
    live.sim.reject(words, "/snapshot", count=count)
    ran = qos("snapshot", "US:AAPL")
    assert ran.code == 1
    assert ran.err.startswith(f"qos: /snapshot US:AAPL: {words}{says}")


def test_a_missing_key_is_reported_with_what_to_do(qos):
    ran = qos("snapshot", "US:AAPL")
    assert (ran.code, ran.out) == (3, "")
    assert "set QOS_API_KEY" in ran.err
    assert "config.toml; --sim needs none" in ran.err


def test_a_rejected_key_is_reported_with_its_origin(live, qos, monkeypatch):
    """And not shown."""
    monkeypatch.setenv("QOS_API_KEY", "a-wrong-key")
    ran = qos("snapshot", "US:AAPL")
    assert (ran.code, ran.out) == (3, "")
    assert "rejected the API key" in ran.err
    assert "the key came from QOS_API_KEY" in ran.err
    assert "a-wrong-key" not in ran.err


def test_a_key_on_the_command_line_works_with_a_warning(live, qos, monkeypatch):
    monkeypatch.delenv("QOS_API_KEY")
    ran = qos("snapshot", "US:AAPL", "--key", live.sim.key)
    assert ran.code == 0
    assert "qos: warning: --key shows the API key" in ran.err
    assert live.sim.key not in ran.err


def test_a_world_readable_key_file_works_with_a_warning(live, qos, monkeypatch, home):
    """The warning names the command that fixes it."""
    monkeypatch.delenv("QOS_API_KEY")
    home.write_text(f'key = "{live.sim.key}"\n{home.read_text()}')
    assert qos("snapshot", "US:AAPL").err == ""
    home.chmod(0o644)
    ran = qos("snapshot", "US:AAPL")
    assert ran.code == 0
    assert f"chmod 600 {home}" in ran.err


def test_an_invalid_configuration_is_reported(live, qos, home):
    home.write_text("symbols = 5\n")
    ran = qos("snapshot", "US:AAPL")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(
        f"qos: {home}: symbols: unknown; allowed: key, http_url, "
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--seed", "3"], "--seed and --speed are options of the simulator: add --sim"),
        (["--sim", "--key", "x"], "leave out --key"),
        (["--sim", "--http-url", "x"], "leave out --http-url"),
        (["--http-url", "http://qos.example"], "would send the API key unencrypted"),
        (["--stream-url", "qos.example"], "is not an address that starts with wss"),
        (["--proxy", "x"], "proxy must be an address such as"),
    ],
)
def test_invalid_options_exit_with_2(words, says, live, qos):
    ran = qos("snapshot", "US:AAPL", *words)
    assert (ran.code, ran.out) == (2, "")
    assert says in ran.err


def test_sim_needs_no_key_and_no_configuration(qos):
    """Nor a network."""
    ran = qos("trades", "--sim", "--seed", "7", "--speed", "2", "US:AAPL", "--json")
    assert (ran.code, ran.err) == (0, "")
    assert len(objects(ran)) == 10


def test_json_is_utf_8(live, qos, monkeypatch):
    """In any locale: programs expect UTF-8."""
    [row] = objects(qos("instruments", "HK:700", "--json"))
    assert row["name_zh"] == "腾讯控股"


def test_a_process_without_stdout_succeeds(live, monkeypatch):
    """As under pythonw."""
    monkeypatch.setattr("sys.stdout", None)
    assert main(["snapshot", "US:AAPL"]) == 0
    assert main(["snapshot", "US:AAPL", "--json"]) == 0


@pytest.mark.fault("F23")
@pytest.mark.parametrize("shape", [[], ["--json"], ["--csv"]], ids=str)
def test_what_came_before_an_error_is_printed(shape, live, qos, rejected_symbol):
    words = ["snapshot", "CF:BTCUSDT", rejected_symbol, "--symbols-limit", "1"]
    ran = qos(*words, *shape)
    assert ran.code == 1
    assert "CF:BTCUSDT" in ran.out
    assert ran.err == "qos: /snapshot US:TSLA: No permission: US:TSLA\n"


def test_an_error_without_anything_before_it_prints_nothing(live, qos, rejected_symbol):
    ran = qos("snapshot", rejected_symbol, "--csv")
    assert (ran.code, ran.out) == (1, "")


@pytest.fixture
def spoiled(live, monkeypatch):
    """A server that sends text which is no number for the price of US:TSLA."""
    handle = RequestHandler.handle

    def spoil(*args):
        rows = copy.deepcopy(handle(*args))
        for row in rows:
            if row["c"] == "US:TSLA":
                row["lp"] = row["v"] = "1,200"
        return rows

    monkeypatch.setattr(RequestHandler, "handle", spoil)


@pytest.mark.fault("F22")
@pytest.mark.parametrize("shape", ["--json", "--csv", None])
def test_a_number_that_cannot_be_read_is_left_out_with_a_notice(shape, qos, spoiled):
    ran = qos("snapshot", "US:AAPL,TSLA", *([shape] if shape else []))
    assert ran.code == 0
    assert "1,200" not in ran.out
    [notice] = ran.err.splitlines()
    assert notice.startswith(
        "qos: warning: /snapshot: US:TSLA: cannot read the field lp"
    )
    assert notice.endswith("(and 1 more like this)")
