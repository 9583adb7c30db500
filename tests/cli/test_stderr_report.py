"""Tests of ``qos_async.cli.stderr_report``."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from qos_async import LinkState, StateChange, Topic
from qos_async.cli.run_stats import RunStats
from qos_async.cli.stderr_report import StderrReport
from tests.support.factories import gap as make_gap

NOON = datetime(2025, 7, 3, 12, tzinfo=UTC)


def gap(channel, symbol="US:AAPL", **fields):
    topic = Topic(channel, symbol, "1m" if channel == "kline" else None)
    return make_gap(topic, NOON, seconds=2, **fields)


async def test_simultaneous_gaps_of_one_channel_become_one_line(capsys):
    """Which is written at the next event, or after a moment."""
    report = StderrReport(RunStats([]))
    report.on_gap(gap("trade", status="filled", recovered=2))
    report.on_gap(gap("trade", "US:TSLA"))
    assert capsys.readouterr().err == ""
    report.on_gap(gap("depth"))
    line = (
        "gap: trade of US:AAPL, US:TSLA may have missed 2.0 s, filled/unfilled, 2 ticks"
    )
    assert line in capsys.readouterr().err
    report.refresh()
    assert "gap: depth of US:AAPL may" in capsys.readouterr().err
    report.on_gap(gap("kline"))
    await asyncio.sleep(0.12)
    assert "gap: kline" in capsys.readouterr().err


def test_the_summary_counts_outages_gaps_and_drops(capsys):
    stats = RunStats([Topic("trade", "US:AAPL")])
    report = StderrReport(stats)
    stats.on_gap(gap("trade", status="filled", recovered=2), 1.0)
    stats.on_dropped(7)
    report.on_dropped(7)
    report.on_message("anything")
    report.on_state(StateChange(LinkState.BACKOFF, "cut", 1, 0.25))
    report.summarize(2.0)
    lines = [line.split(" ", 1)[1] for line in capsys.readouterr().err.splitlines()]
    parts = ("ran 2.0 s", "ticks: none", "outages: none", "gaps: 1 filled")
    assert lines == [
        "dropped 7 ticks: the reader of the output is too slow",
        "anything",
        "link lost, dialling again in 0.2 s: cut",
        "; ".join([*parts, "recovered: 2", "dropped: 7"]),
        "no ticks of US:AAPL",
    ]
