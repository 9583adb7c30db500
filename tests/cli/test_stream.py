"""Tests of ``qos_async.cli.stream``: ticks on stdout, everything else on stderr."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest

from qos_async.cli.async_stdout import AsyncStdout
from qos_async.cli.stderr_report import StderrReport
from tests.support.cli_process import finish, run_on_terminal, start


@pytest.fixture
def stop_when(monkeypatch):
    """Press Ctrl-C as soon as the output meets a condition."""

    def arrange(seen):
        written = []

        async def write_and_check(stdout, lines):
            await write(stdout, lines)
            written.append(lines)
            if seen("".join(written)):
                monkeypatch.setattr(AsyncStdout, "write", write)
                os.kill(os.getpid(), signal.SIGINT)

        write = AsyncStdout.write
        monkeypatch.setattr(AsyncStdout, "write", write_and_check)

    return arrange


def test_text_output_has_a_line_per_tick(live, qos, stop_when):
    """Of trades, by default; the summary comes last, on stderr."""
    stop_when(lambda out: "CF:BTCUSDT" in out and "CF:ETHUSDT" in out)
    ran = qos("stream", "CF:BTCUSDT,ETHUSDT")
    assert ran.code == 0
    assert {line.split()[1] for line in ran.lines} == {"trade"}
    assert {line.split()[2] for line in ran.lines} == {"CF:BTCUSDT", "CF:ETHUSDT"}
    last = ran.err.splitlines()[-1]
    assert f"ticks: {len(ran.lines)} trade; outages: none; gaps: none" in last


def test_json_has_an_object_per_tick(live, qos, stop_when):
    """Under the names of its fields, with numbers as sent."""
    names = {"trade", "depth", "kline"}
    stop_when(lambda out: all(f'"channel":"{name}"' in out for name in names))
    channels = ("--channel", "depth", "--channel", "klines")
    ran = qos("stream", "trades", "CF:BTCUSDT", *channels, "--json")
    ticks = [json.loads(line) for line in ran.lines]
    assert {tick["channel"] for tick in ticks} == names
    trade = next(tick for tick in ticks if tick["channel"] == "trade")
    assert isinstance(trade["price"], str)
    assert trade["received_at"] > 0
    assert datetime.fromisoformat(trade["time"]).timestamp() == trade["timestamp"]
    assert next(t for t in ticks if t["channel"] == "kline")["interval"] == "1m"
    summary = json.loads(ran.err.splitlines()[-1])
    assert sum(summary["ticks"].values()) == len(ticks)


def test_csv_has_one_header(live, qos, stop_when):
    stop_when(lambda out: out.count("\n") > 3)
    ran = qos("stream", "snapshots", "CF:BTCUSDT", "--csv")
    rows = list(csv.DictReader(io.StringIO(ran.out)))
    assert {row["symbol"] for row in rows} == {"CF:BTCUSDT"}
    assert all(float(row["last_price"]) for row in rows)
    assert {row["recovered"] for row in rows} == {"false"}


def test_a_tiny_price_is_as_it_was_sent(live, qos, stop_when):
    """Not as 1.0E-7, which is the same number."""
    tiny = {"tp": "T", "c": "CF:BTCUSDT", "p": "0.00000010", "v": "77.70", "d": 1}
    stop_when(lambda out: ",77.70," in out)
    live.once_watched(lambda: live.sim.push({**tiny, "ts": int(time.time())}))
    assert ",0.00000010,77.70,buy" in qos("stream", "CF:BTCUSDT", "--csv").out


def test_it_ends_after_the_given_seconds(live, qos):
    ran = qos("stream", "CF:BTCUSDT", "--seconds", "0.05")
    assert ran.code == 0
    assert " ran 0." in ran.err


def test_a_gap_is_reported_in_order(live, qos, monkeypatch):
    """On stderr, after the messages on the link."""

    async def write_and_cut(stdout, lines):
        monkeypatch.setattr(AsyncStdout, "write", write)
        await write(stdout, lines)
        live.soon(live.sim.cut)  # Earlier, nothing was live yet: that is no gap.

    write = AsyncStdout.write
    monkeypatch.setattr(AsyncStdout, "write", write_and_cut)

    def tell(report, gap):
        tell_gap(report, gap)
        os.kill(os.getpid(), signal.SIGINT)

    tell_gap = StderrReport.on_gap
    monkeypatch.setattr(StderrReport, "on_gap", tell)
    ran = qos("stream", "trades", "CF:BTCUSDT")
    assert ran.code == 0
    messages = [line.split(" ", 1)[1] for line in ran.err.splitlines()]
    assert messages[0].startswith("link lost, dialling again in ")
    assert messages[1:3] == ["link connecting", "link open"]
    assert messages[3].startswith("gap: trade of CF:BTCUSDT may have missed ")
    assert "outages: 1; gaps: 1 " in messages[4]


def test_a_symbol_without_ticks_is_reported(live, qos, stop_when):
    """The server acknowledges a symbol that it does not know."""
    stop_when(lambda out: "CF:BTCUSDT" in out)
    ran = qos("stream", "US:NOSUCH", "CF:BTCUSDT")
    assert ran.code == 0
    assert ran.err.splitlines()[-1].endswith("no ticks of US:NOSUCH")


def test_a_symbol_without_ticks_has_the_spelling_that_may_be_meant(
    live, qos, stop_when
):
    stop_when(lambda out: "CF:BTCUSDT" in out)
    ran = qos("stream", "US:aapl", "CF:BTCUSDT")
    words = "no ticks of US:aapl; did you mean US:AAPL?"
    assert ran.err.splitlines()[-1].endswith(words)


def test_rejection_of_the_only_symbol_is_a_failure(live, qos):
    live.sim.reject("Unknown code: US:NOSUCH", "T")
    ran = qos("stream", "US:NOSUCH", "--seconds", "5")
    assert ran.code == 1
    assert ran.err.splitlines()[-1] == "qos: T US:NOSUCH: Unknown code: US:NOSUCH"


def test_a_missing_network_is_reported_at_once(live, qos):
    """Only later outages are waited out."""
    ran = qos("stream", "US:AAPL", "--stream-url", "ws://127.0.0.1:1/ws")
    assert (ran.code, ran.out) == (1, "")
    assert "qos: /ws: ws://127.0.0.1:1 cannot be reached" in ran.err


def test_a_rejected_key_is_reported_at_once(live, qos, monkeypatch):
    monkeypatch.setenv("QOS_API_KEY", "a-wrong-key")
    ran = qos("stream", "US:AAPL")
    assert (ran.code, ran.out) == (3, "")
    assert "the key came from QOS_API_KEY" in ran.err


def test_more_symbols_than_the_plan_allows_is_a_failure(live, qos):
    ran = qos("stream", "US:AAPL,TSLA", "--symbols-limit", "1")
    assert (ran.code, ran.out) == (1, "")
    assert "if your plan allows more, add --symbols-limit N" in ran.err


@pytest.mark.fault("F10")
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["trades"], "name at least one symbol"),
        (["tredes", "US:AAPL"], "'tredes' is not a channel: take one of snapshots,"),
        (["US:AAPL", "--channel", "x"], "'x' is not a channel"),
        (
            ["trades,depth", "US:AAPL"],
            "klines; each is a word or a --channel of its own: trades depth",
        ),
        (["AAPL,TSLA"], "malformed symbol"),
        (["US\uff1aAAPL"], "(FULLWIDTH COLON) is in no symbol"),
        (["US\uff1bAAPL"], "(FULLWIDTH SEMICOLON) is in no symbol"),
        (["trades\u3001US"], "(IDEOGRAPHIC COMMA) is in no symbol"),
        (["US.AAPL"], "the market is missing"),
        (["US:AAPL", "--interval", "1m"], "--interval is about klines"),
        (["trades", "depth", "US:AAPL", "--csv"], "--csv has one header"),
        (["US:"], "malformed symbol 'US:'"),
    ],
)
def test_contradictory_arguments_exit_with_2(words, says, qos):
    ran = qos("stream", "--sim", *words)
    assert (ran.code, ran.out) == (2, "")
    assert says in ran.err


def closed_pipe():
    """Close the pipe after one line, as ``head -1`` does."""
    process = start("stream", "--sim", "--speed", "20", "trades", "CF:BTCUSDT")
    line = process.stdout.readline()
    process.stdout.close()
    process.stdout = None
    return line, finish(process)


def interrupted():
    process = start("stream", "--sim", "--speed", "20", "CF:BTCUSDT")
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    return finish(process)


def test_a_closed_pipe_and_ctrl_c_end_a_process_with_0():
    with ThreadPoolExecutor() as threads:
        piped, stopped = threads.submit(closed_pipe), threads.submit(interrupted)
        line, ran = piped.result()
        assert "CF:BTCUSDT" in line
        assert ran.code == 0
        assert "qos:" not in ran.err
        assert "BrokenPipe" not in ran.err
        ran = stopped.result()
        assert ran.code == 0, "the regular end"
        assert " trade; outages: none; gaps: none" in ran.err


INTERRUPTED_BY_ITSELF = """
import os, signal, sys
from qos_async.cli import main
from qos_async.cli.async_stdout import AsyncStdout

async def write_and_interrupt(stdout, text):
    await write(stdout, text)
    os.kill(os.getpid(), signal.SIGINT)

write, AsyncStdout.write = AsyncStdout.write, write_and_interrupt
sys.exit(main())
"""


def test_the_summary_after_ctrl_c_is_on_a_line_of_its_own():
    words = ("stream", "--sim", "CF:BTCUSDT")
    ran = run_on_terminal(*words, code=INTERRUPTED_BY_ITSELF, stderr=True)
    assert ran.code == 0
    # The terminal shows ^C at the start of the empty line.
    assert re.search(r"\n\r?\n\d\d:\d\d:\d\d ran ", ran.out)


def test_ctrl_c_before_the_given_seconds_exits_with_130(live, qos):
    """With the summary."""
    live.once_watched(lambda: os.kill(os.getpid(), signal.SIGINT))
    ran = qos("stream", "CF:BTCUSDT", "--seconds", "30")
    assert ran.code == 130
    assert "gaps: none" in ran.err


# Rejections


@pytest.fixture
def noted(live, monkeypatch):
    """Press Ctrl-C at the first message; list it with the number of subscribed topics."""
    noted = []

    def note(notices, text):
        live.ask(lambda: noted.append((text, len(live.sim.subscribed))))
        tell(notices, text)
        os.kill(os.getpid(), signal.SIGINT)

    tell = StderrReport.on_message
    monkeypatch.setattr(StderrReport, "on_message", note)
    return noted


def test_a_rejected_symbol_is_reported_at_once(live, qos, rejected_symbol, noted):
    """While others are not acknowledged yet."""
    live.sim.reject_symbols("CF:BTCUSDT", message="No permission")
    ran = qos("stream", "CF:BTCUSDT,ETHUSDT", "US:AAPL,MSFT,NVDA", rejected_symbol)
    assert ran.code == 0
    [(text, subscribed)] = noted
    assert text == "CF:BTCUSDT rejected: No permission: CF:BTCUSDT"
    assert subscribed < 4


def test_a_symbol_rejected_on_all_channels_is_reported_once(live, qos, rejected_symbol):
    """The others go on."""
    words = "trades", "depth", "klines", rejected_symbol, "CF:BTCUSDT", "--json"
    ran = qos("stream", *words, "--seconds", "1")
    assert ran.code == 0
    events = [json.loads(line) for line in ran.err.splitlines()]
    [note] = [one["text"] for one in events if one["event"] == "note"]
    assert note == "US:TSLA rejected: No permission: US:TSLA"
    assert {json.loads(line)["symbol"] for line in ran.lines} == {"CF:BTCUSDT"}


def test_a_symbol_rejected_after_an_outage_is_reported(live, qos, noted):
    """It was live before the outage."""

    def take_away():
        live.sim.reject_symbols("CF:ETHUSDT", message="No permission")
        live.sim.cut()

    live.once_watched(take_away)
    ran = qos("stream", "CF:BTCUSDT,ETHUSDT")
    live.sim.allow_symbols()
    assert ran.code == 0
    assert [text for text, _ in noted] == [
        "CF:ETHUSDT rejected: No permission: CF:ETHUSDT"
    ]


def test_the_rejection_of_the_last_symbol_ends_the_stream(live, qos, rejected_symbol):
    live.sim.reject_symbols("US:AAPL", message="No permission")
    ran = qos("stream", rejected_symbol, "US:AAPL", "--seconds", "5")
    assert ran.code == 1
    assert [line for line in ran.err.splitlines() if "No permission" in line][1:] == [
        "qos: T US:AAPL, US:TSLA: No permission: US:AAPL"
    ]


def test_the_time_is_over_although_nothing_was_acknowledged(live, qos):
    live.sim.drop_replies("T")
    ran = qos("stream", "CF:BTCUSDT", "--seconds", "0.3")
    assert ran.code == 0
    assert ran.err.count("the server has not acknowledged all subscriptions") == 1
    assert "no reply" not in ran.err


def test_ticks_of_a_recording_are_followed_while_it_is_written(tmp_path):
    place = tmp_path / "recordings"
    streaming = start("stream", "CF:BTCUSDT", "--from", place, "--json")
    recording = start("record", "--sim", "--speed", "20", "CF:BTCUSDT", "-o", place)
    ticks = [json.loads(streaming.stdout.readline()) for _ in range(3)]
    for process in (streaming, recording):
        process.terminate()
        assert process.wait(15) == 0
    places = [tick["place"] for tick in ticks]
    assert places == sorted(set(places))
    assert {tick["symbol"] for tick in ticks} == {"CF:BTCUSDT"}
    for process in (streaming, recording):
        process.stdout.close()
        process.stderr.close()


def test_a_recording_is_not_followed_from_a_simulator(qos, tmp_path):
    ran = qos("stream", "CF:BTCUSDT", "--from", tmp_path, "--sim")
    assert ran.code == 2
    assert "take one" in ran.err
