"""``qos watch --from``: the screen of a recording."""

from __future__ import annotations

import asyncio

import pytest

from qos_async import Interval, LinkState, follow
from qos_async.cli import main
from qos_async.cli.watch import command
from qos_async.cli.watch.app import WatchApp
from qos_async.cli.watch.model import Model
from qos_async.cli.watch.reader import MarketReader
from tests.support.cli_process import run_on_terminal
from tests.support.memory_transport import kline, snapshot, trade
from tests.support.recording_files import START, event, frame, started, write

AAPL, TSLA = "US:AAPL", "US:TSLA"
TOPICS = [f"trade {TSLA}", f"trade {AAPL}", f"snapshot {AAPL}", f"kline {AAPL} 5m"]


@pytest.fixture(autouse=True)
def _terminal(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("QOS_API_KEY", raising=False)
    monkeypatch.setattr(command, "missing_terminal", str)


@pytest.fixture
def place(tmp_path):
    """A recording with an open link."""
    directory = tmp_path / "recordings"
    directory.mkdir()
    write(
        directory,
        started(),
        event(0, "opened"),
        event(0, "subscribed", topics=TOPICS),
        frame(1, snapshot(7, AAPL), trade(8, AAPL), kline(START // 10**9, 9, AAPL, 5)),
    )
    return directory


@pytest.fixture
def shown(monkeypatch):
    """The models of the screens that were run."""
    models = []

    async def run_async(app):
        models.append(app._model)
        app._return_code = 0

    monkeypatch.setattr(WatchApp, "run_async", run_async)
    return models


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--sim"], 2, "--from follows a recording, and --sim a simulator: take one"),
        (["--key", "k"], 2, "without a server or a key: leave out --key"),
        (["--symbols-limit", "5"], 2, "leave out --symbols-limit"),
        ([], 1, "yet: start qos record, or name symbols to wait for"),
    ],
)
def test_errors_are_sentences(words, code, says, tmp_path, capsys):
    assert main(["watch", "--from", str(tmp_path / "none"), *words]) == code
    assert says in capsys.readouterr().err


def test_a_stream_that_is_no_place_is_a_usage_error(capsys):
    assert main(["watch", "--from", "nats:///"]) == 2
    assert "the name of the stream is missing" in capsys.readouterr().err


def test_all_that_is_recorded_is_shown_with_an_interval_that_is(place, shown):
    assert main(["watch", "--from", str(place)]) == 0
    [model] = shown
    assert sorted(model.symbols) == [AAPL, TSLA]
    assert model.interval is Interval.MIN_5
    assert not model.caption


def test_symbols_and_an_interval_may_be_named(place, shown):
    words = ["watch", TSLA, "--interval", "1h", "--from", str(place)]
    assert main(words) == 0
    [model] = shown
    assert model.symbols == (TSLA,)
    assert model.interval is Interval.HOUR_1
    assert model.caption == "1 of 2 symbols recorded"


async def test_the_model_has_the_last_values_and_what_is_not_recorded(place):
    model = Model((AAPL, TSLA, "FX:EURUSD"), Interval.MIN_1)
    async with follow(place) as client:
        reading = asyncio.create_task(MarketReader(client, model).run())
        async with asyncio.timeout(10):
            while not (model.link.state is LinkState.OPEN and model.event_log.lines):  # noqa: ASYNC110 - a model has no events
                await asyncio.sleep(0.01)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    aapl = model.quotes[0]
    assert aapl.snapshot is not None
    assert aapl.snapshot.last_price == 7
    assert aapl.trade is not None
    assert aapl.trade.price == 8
    assert model.notes == {"FX:EURUSD": "not in the recording"}
    assert "klines of 1m are not recorded" in model.event_log.newest


def test_the_screen_shows_a_recording_on_a_terminal(place):
    ran = run_on_terminal(
        *("watch", "--from", str(place)), size=(30, 100), stderr=True, keys=b"q"
    )
    assert ran.code == 0
    assert AAPL in ran.out
    assert TSLA in ran.out
