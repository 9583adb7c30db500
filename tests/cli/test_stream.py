"""``qos stream``: ticks on stdout, everything else on stderr."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from qos_async import Gap, LinkState, StateChange, Topic
from qos_async.cli.notices import Notices
from qos_async.cli.outlet import Outlet
from qos_async.cli.run_stats import RunStats
from tests.support.cli_process import finish, start

NOON = datetime(2025, 7, 3, 12, tzinfo=UTC)


def gap(channel, symbol="US:AAPL", **fields):
    topic = Topic(channel, symbol, "1m" if channel == "kline" else None)
    until = NOON + timedelta(seconds=2)
    return Gap(topic=topic, since=NOON, until=until, reason="cut", **fields)


@pytest.fixture
def stop_when(monkeypatch):
    """Press Ctrl-C as soon as what was written has something in it."""

    def arrange(seen):
        written = []

        async def put_and_look(outlet, lines):
            await put(outlet, lines)
            written.append(lines)
            if seen("".join(written)):
                monkeypatch.setattr(Outlet, "put", put)
                os.kill(os.getpid(), signal.SIGINT)

        put = Outlet.put
        monkeypatch.setattr(Outlet, "put", put_and_look)

    return arrange


def test_people_get_a_line_a_tick(live, qos, stop_when):
    """Trades, if nothing else was named; the summary comes last, on stderr."""
    stop_when(lambda out: "CF:BTCUSDT" in out and "CF:ETHUSDT" in out)
    ran = qos("stream", "CF:BTCUSDT,ETHUSDT")
    assert ran.code == 0
    assert {line.split()[1] for line in ran.lines} == {"trade"}
    assert {line.split()[2] for line in ran.lines} == {"CF:BTCUSDT", "CF:ETHUSDT"}
    last = ran.err.splitlines()[-1]
    assert f"ticks: {len(ran.lines)} trade; outages: none; gaps: none" in last


def test_json_is_an_object_a_tick_of_every_channel(live, qos, stop_when):
    """Under the names of our fields, numbers as they were sent."""
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


def test_it_ends_when_the_time_is_over(live, qos):
    ran = qos("stream", "CF:BTCUSDT", "--seconds", "0.05")
    assert ran.code == 0
    assert " ran 0." in ran.err


def test_a_gap_is_told_where_it_was(live, qos, monkeypatch):
    """On stderr, after the link was lost and is open again."""

    async def put_and_cut(outlet, lines):
        monkeypatch.setattr(Outlet, "put", put)
        await put(outlet, lines)
        live.soon(live.sim.cut)  # Earlier, nothing was live yet: that is no gap.

    put = Outlet.put
    monkeypatch.setattr(Outlet, "put", put_and_cut)

    def tell(notices, gap):
        tell_gap(notices, gap)
        os.kill(os.getpid(), signal.SIGINT)

    tell_gap = Notices.gap
    monkeypatch.setattr(Notices, "gap", tell)
    ran = qos("stream", "trades", "CF:BTCUSDT")
    assert ran.code == 0
    told = [line.split(" ", 1)[1] for line in ran.err.splitlines()]
    assert told[0].startswith("link lost, dialling again in ")
    assert told[1:3] == ["link connecting", "link open"]
    assert told[3].startswith("gap: trade of 1 symbol may have missed ")
    assert "outages: 1; gaps: 1 " in told[4]


def test_a_symbol_that_nothing_comes_of_is_told(live, qos, stop_when):
    """The server takes it in silence."""
    stop_when(lambda out: "CF:BTCUSDT" in out)
    ran = qos("stream", "US:NOSUCH", "CF:BTCUSDT")
    assert ran.code == 0
    assert ran.err.splitlines()[-1].endswith("nothing came of US:NOSUCH")


def test_a_refused_symbol_does_not_end_the_others(live, qos):
    """It is told; if it was the only one, that is a failure."""
    live.sim.refuse("Unknown code: US:NOSUCH", "T")
    ran = qos("stream", "US:NOSUCH", "--seconds", "5")
    assert ran.code == 1
    assert ran.err.splitlines()[-1] == "qos: T US:NOSUCH: Unknown code: US:NOSUCH"


def test_no_network_is_told_at_once(live, qos):
    """Instead of silence; later outages are waited for."""
    ran = qos("stream", "US:AAPL", "--stream-url", "ws://127.0.0.1:1/ws")
    assert (ran.code, ran.out) == (1, "")
    assert "qos: /ws: ws://127.0.0.1:1 cannot be reached" in ran.err


def test_a_refused_key_is_told_at_once(live, qos, monkeypatch):
    monkeypatch.setenv("QOS_API_KEY", "a-wrong-key")
    ran = qos("stream", "US:AAPL")
    assert (ran.code, ran.out) == (3, "")
    assert "the key came from QOS_API_KEY" in ran.err


def test_more_than_the_plan_allows_is_told(live, qos):
    ran = qos("stream", "US:AAPL,TSLA", "--symbols-limit", "1")
    assert (ran.code, ran.out) == (1, "")
    assert "if your plan allows more, say so: --symbols-limit N" in ran.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["trades"], "name at least one symbol"),
        (["tredes", "US:AAPL"], "'tredes' is not a channel: take one of snapshot,"),
        (["US:AAPL", "--channel", "x"], "'x' is not a channel"),
        (["US:AAPL", "--interval", "1m"], "--interval is about klines"),
        (["trades", "depth", "US:AAPL", "--csv"], "--csv has one header"),
        (["US:"], "malformed symbol 'US:'"),
    ],
)
def test_words_that_do_not_fit_together_are_told(words, says, qos):
    ran = qos("stream", "--sim", *words)
    assert (ran.code, ran.out) == (2, "")
    assert says in ran.err


def closed_pipe():
    """``head -1``: the second line is written to nobody, or nothing is."""
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


def test_as_a_process():
    """Whoever has had enough says so by closing the pipe, or with Ctrl-C."""
    with ThreadPoolExecutor() as threads:
        piped, stopped = threads.submit(closed_pipe), threads.submit(interrupted)
        line, ran = piped.result()
        assert "CF:BTCUSDT" in line
        assert ran.code == 0
        assert "qos:" not in ran.err
        assert "BrokenPipe" not in ran.err
        ran = stopped.result()
        assert ran.code == 0, "that is how it is meant to end"
        assert " trade; outages: none; gaps: none" in ran.err


def test_ctrl_c_before_the_time_is_over(live, qos):
    """Exit code 130, with the summary."""
    live.once_watched(lambda: os.kill(os.getpid(), signal.SIGINT))
    ran = qos("stream", "CF:BTCUSDT", "--seconds", "30")
    assert ran.code == 130
    assert "gaps: none" in ran.err


@contextlib.contextmanager
def outlet_and_reader():
    """Standard output as a pipe, and the end that is read."""
    inlet, end = os.pipe()
    with os.fdopen(inlet, "rb", 0) as reader, os.fdopen(end, "w") as writer:
        with contextlib.redirect_stdout(writer):
            outlet = Outlet()
        yield outlet, reader


async def test_a_slow_reader_stops_nobody_and_nothing_grows():
    """Who puts more than is taken waits; the event loop goes on."""
    got = b""

    async def put_much():
        for number in range(3000):
            await outlet.put(f"{number:099}\n")

    with outlet_and_reader() as (outlet, reader):
        writing = asyncio.create_task(outlet.write_out())
        putting = asyncio.create_task(put_much())
        done, _ = await asyncio.wait([putting], timeout=0.05)
        assert not done, "a pipe takes 64 kB, and a thousand lines may wait"
        os.set_blocking(reader.fileno(), False)
        while len(got) < 300_000:
            got += reader.read(65536) or b""
            await asyncio.sleep(0)
        await putting
        await outlet.written()
        writing.cancel()
        await asyncio.wait([writing])
    assert [int(line) for line in got.split()] == list(range(3000))


async def test_a_reader_that_goes_is_noticed_though_nothing_is_written():
    with outlet_and_reader() as (outlet, reader):
        writing = asyncio.create_task(outlet.write_out())
        await asyncio.sleep(0)
        reader.close()
        with pytest.raises(ExceptionGroup) as caught:
            await writing
    assert isinstance(caught.value.exceptions[0], BrokenPipeError)
    assert outlet.failed


async def test_last_words_do_not_wait_for_a_reader_who_sleeps():
    with outlet_and_reader() as (outlet, reader):
        for _ in range(900):
            await outlet.put("x" * 999)
        await outlet.finish()
        assert not outlet.failed
        assert len(os.read(reader.fileno(), 65536)) == 65536


async def test_gaps_of_one_channel_are_one_line(capsys):
    """What comes next tells them, or a moment without anything."""
    notices = Notices(RunStats([]))
    notices.gap(gap("trade", status="filled", recovered=2))
    notices.gap(gap("trade", "US:TSLA"))
    assert capsys.readouterr().err == ""
    notices.gap(gap("depth"))
    line = "gap: trade of 2 symbols may have missed 2.0 s, filled/unfilled, 2 ticks"
    assert line in capsys.readouterr().err
    notices.refresh()
    assert "gap: depth of 1 symbol" in capsys.readouterr().err
    notices.gap(gap("kline"))
    await asyncio.sleep(0.12)
    assert "gap: kline" in capsys.readouterr().err


def test_the_summary_of_a_hard_day(capsys):
    tally = RunStats([Topic("trade", "US:AAPL")])
    notices = Notices(tally)
    tally.gap(gap("trade", status="filled", recovered=2), 1.0)
    tally.drop(7)
    notices.drop(7)
    notices.note("anything")
    notices.move(StateChange(LinkState.BACKOFF, "cut", 1, 0.25))
    notices.sum_up(2.0)
    told = [line.split(" ", 1)[1] for line in capsys.readouterr().err.splitlines()]
    parts = ("ran 2.0 s", "ticks: none", "outages: none", "gaps: 1 filled")
    assert told == [
        "dropped 7 ticks: whoever reads them is too slow",
        "anything",
        "link lost, dialling again in 0.2 s: cut",
        "; ".join([*parts, "recovered: 2", "dropped: 7"]),
        "nothing came of US:AAPL",
    ]
