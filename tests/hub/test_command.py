"""``qos hub``: options that do not fit, and what it shows of a recording."""

from __future__ import annotations

import pytest

from qos_async.cli import main
from qos_async.cli.hub_status import status_line
from qos_async.hub import HubStats

STATS = HubStats(
    ready=False,
    upstream="open",
    upstream_reason="nothing is recorded yet",
    symbols=2,
    symbols_max=0,
    topics=2,
    interrupted=0,
    ticks=0,
    answered={},
    requests=0,
    refused=0,
    loop_lag_max=0.0,
    clients=[],
)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--from", "x", "--sim"], "--from follows a recording, and --sim a simulator"),
        (["--from", "x", "--http-url", "http://h"], "leave out --http-url"),
        (["--from", "x", "--record", "y"], "leave out --record"),
        (["--from", "x", "--subscribe", "US:A"], "leave out --subscribe"),
        (["--from", "nats:///"], "the name of the stream is missing"),
        (["--lease", "5"], "--lease is about a stream to record to: add --record"),
        (["--name", "a"], "--name is about a stream to record to: add --record"),
        (["--record", "DIR", "--lease", "5"], "lease is an option of a stream"),
        (["--record", "nats://h/S", "--lease", "0.5"], "lease must be at least 1 s"),
        (["--subscribe", "trades"], "name at least one symbol, such as US:AAPL"),
        (["--subscribe", "AAPL:"], "malformed symbol 'AAPL:'"),
    ],
)
def test_options_that_do_not_fit_are_usage_errors(words, says, tmp_path, capsys):
    directory = str(tmp_path / "recordings")
    given = [directory if word == "DIR" else word for word in words]
    connection = [] if "--from" in words else ["--sim"]
    assert main(["hub", "--port", "0", *given, *connection]) == 2
    assert says in capsys.readouterr().err


def test_the_status_says_why_the_hub_is_not_ready():
    assert status_line(STATS) == (
        "0 clients, 2 symbols, not ready: nothing is recorded yet"
    )
