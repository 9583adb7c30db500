"""Symbols that the service refuses, in ``qos stream`` and ``qos record``."""

from __future__ import annotations

import json
import os
import signal

import pytest

from qos_async import Timing
from qos_async.cli.stderr_report import StderrReport
from qos_async.recordings import contents


@pytest.fixture
def refused(live):
    """A symbol that the service refuses."""
    live.sim.refuse_symbols("US:TSLA", message="No permission")
    yield "US:TSLA"
    live.sim.allow_symbols()


@pytest.fixture
def noted(live, monkeypatch):
    """Press Ctrl-C at the first note; gives it, with how much is subscribed then."""
    noted = []

    def note(notices, text):
        live.ask(lambda: noted.append((text, len(live.sim.subscribed))))
        tell(notices, text)
        os.kill(os.getpid(), signal.SIGINT)

    tell = StderrReport.note
    monkeypatch.setattr(StderrReport, "note", note)
    return noted


def test_a_refused_symbol_is_told_at_once(live, qos, refused, noted):
    """While others are not decided yet."""
    live.sim.refuse_symbols("CF:BTCUSDT", message="No permission")
    ran = qos("stream", "CF:BTCUSDT,ETHUSDT", "US:AAPL,MSFT,NVDA", refused)
    assert ran.code == 0
    [(text, subscribed)] = noted
    assert text == "T CF:BTCUSDT: No permission: CF:BTCUSDT"
    assert subscribed < 4


def test_a_symbol_that_is_refused_on_all_channels_is_told_once(live, qos, refused):
    """The others go on, and the summary says that nothing came of it."""
    words = "trades", "depth", "klines", refused, "CF:BTCUSDT", "--json"
    ran = qos("stream", *words, "--seconds", "1")
    assert ran.code == 0
    told = [json.loads(line) for line in ran.err.splitlines()]
    assert [one for one in told if one["event"] == "note"] == [
        {"event": "note", "text": "D/K/T US:TSLA: No permission: US:TSLA"}
    ]
    assert {json.loads(line)["symbol"] for line in ran.lines} == {"CF:BTCUSDT"}


def test_a_symbol_that_is_refused_later_is_told_as_well(live, qos, noted):
    """Here after an outage; before that it was live."""

    def take_away():
        live.sim.refuse_symbols("CF:ETHUSDT", message="No permission")
        live.sim.cut()

    live.once_watched(take_away)
    ran = qos("stream", "CF:BTCUSDT,ETHUSDT")
    live.sim.allow_symbols()
    assert ran.code == 0
    assert [text for text, _ in noted] == ["T CF:ETHUSDT: No permission: CF:ETHUSDT"]


def test_if_all_symbols_are_refused_the_last_of_them_ends_it(live, qos, refused):
    live.sim.refuse_symbols("US:AAPL", message="No permission")
    ran = qos("stream", refused, "US:AAPL", "--seconds", "5")
    assert ran.code == 1
    assert [line for line in ran.err.splitlines() if "No permission" in line][1:] == [
        "qos: T US:AAPL, US:TSLA: No permission: US:AAPL"
    ]


def test_a_refused_symbol_does_not_end_a_recording(live, qos, refused, tmp_path):
    """It is told, once; so is, at the end, a symbol that nothing came of."""
    place = tmp_path / "r"
    words = "trades", "depth", refused, "US:NOSUCH", "CF:BTCUSDT", "--seconds", "0.5"
    ran = qos("record", *words, "-o", place)
    assert ran.code == 0
    told = ran.err.splitlines()
    assert told[0].endswith("Z D/T US:TSLA: No permission: US:TSLA")
    assert told[1] == f"4 topics to {place}; Ctrl-C ends it"
    assert told[2].endswith("Z no ticks of US:NOSUCH")
    assert {topic.symbol for topic in contents(place).topics} == {
        "CF:BTCUSDT",
        "US:NOSUCH",
    }


def test_if_the_only_symbol_is_refused_that_ends_a_recording(qos, refused, tmp_path):
    ran = qos("record", refused, "-o", tmp_path / "r")
    assert ran.code == 1
    assert ran.err.splitlines()[0] == "qos: T US:TSLA: No permission: US:TSLA"


def test_a_service_that_does_not_answer_is_told(live, qos, tmp_path, monkeypatch):
    """The recording begins all the same: it is asked again."""
    timing = Timing(request_timeout=0.2, close_timeout=0.5)
    monkeypatch.setattr("qos_async.cli.record._timing", lambda: timing)
    live.sim.lose_answers("T")
    ran = qos("record", "CF:BTCUSDT", "-o", tmp_path / "r", "--seconds", "0.3")
    assert ran.code == 0
    told = ran.err.splitlines()
    assert told[0].endswith(
        "Z no answer to the subscription of trade CF:BTCUSDT; retrying"
    )
    assert told[1].startswith("1 topic to ")
