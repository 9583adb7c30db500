"""Scenario, statistics, summary and views of ``qos demo``, without sockets or clocks."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from msgspec.structs import replace

from qos_async import (
    Interval,
    Kline,
    Limits,
    LinkState,
    Side,
    StateChange,
    Timing,
    Topic,
    Trade,
)
from qos_async.cli.demo_run import PlainView
from qos_async.cli.run_stats import RunStats, summary_rows
from qos_async.cli.scenario import SYMBOLS, Scenario
from qos_async.cli.stderr_report import JsonView
from qos_async.sim import SimulatedMarket
from tests.support.factories import gap

TRADE = Trade(symbol="US:AAPL", price=Decimal("211.1"), size=Decimal(40), side=Side.BUY)
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


def test_the_scenario_fits_the_free_plan():
    """Ten symbols of eight markets, all of which the simulator has."""
    market = SimulatedMarket(1, 1_750_000_000.0)
    assert len(SYMBOLS) == Limits().symbols
    assert len({symbol.partition(":")[0] for symbol in SYMBOLS}) == 8
    assert all(market.instrument(symbol) for symbol in SYMBOLS)
    assert len(set(Scenario().topics)) == 40


@pytest.mark.parametrize("seconds", [12.0, 15.0, 60.0])
def test_a_run_with_time_enough_keeps_the_free_plan(seconds):
    """And leaves at least seven seconds to recover."""
    scenario = Scenario(seconds=seconds)
    assert scenario.limits == Limits()
    assert scenario.timing == Timing()
    assert scenario.outage_at > 4.5
    assert seconds - scenario.outage_at > 7


def test_a_short_run_has_shorter_waits():
    """Everything in proportion."""
    scenario = Scenario(seconds=3.0)
    assert scenario.limits.command_interval == 0.125
    assert scenario.timing.backoff_initial == 0.0625
    assert scenario.outage_at == pytest.approx(1.2)


def test_statistics_follow_an_outage():
    """Lost, back, recovered when the last topic that was live is live again."""
    stats = RunStats(TOPICS)
    stats.on_state(OPEN, 1.0)
    stats.on_tick(TRADE, 2.0)
    stats.on_tick(KLINE, 2.0)
    assert stats.progress == "open, 2 of 2 topics live"
    stats.on_state(LOST, 3.0)
    assert stats.progress == "lost"
    stats.on_tick(TRADE, 3.1)  # It had been waiting in the buffer.
    assert not stats.live
    stats.on_state(OPEN, 3.5)
    stats.on_gap(gap(TOPICS[0], NOON, seconds=2.5), 4.0)
    (outage,) = stats.outages
    assert (outage.back_at, outage.recovered_at) == (3.5, None)
    assert "1 topic not live before the end" in str(list(summary_rows(stats, 5.0)))
    stats.on_tick(KLINE, 4.5)
    assert outage.recovered_at == 4.5
    rows = list(summary_rows(stats, 5.0))
    assert ("", "live again after 1.5 s (the wire was cut)") in rows
    assert ("gaps", "1 unfilled; 0 ticks recovered") in rows


@pytest.mark.fault("Y6")
def test_an_outage_has_what_was_recovered():
    stats = RunStats(TOPICS)
    stats.on_state(OPEN, 1.0)
    stats.on_tick(TRADE, 2.0)
    stats.on_state(LOST, 3.0)
    stats.on_state(OPEN, 4.0)
    stats.on_gap(replace(gap(TOPICS[0], NOON, seconds=2), recovered=16), 5.1)
    assert str(stats.outages[0]) == "live again after 2.1 s, 16 trades recovered"


def test_a_link_that_is_not_restored_is_one_outage():
    """However often it was dialled."""
    stats = RunStats(TOPICS)
    stats.on_state(StateChange(LinkState.BACKOFF, "refused"), 0.5)
    assert not stats.outages, "a link that was never open cannot be lost"
    stats.on_state(OPEN, 1.0)
    stats.on_state(LOST, 2.0)
    stats.on_state(StateChange(LinkState.CONNECTING), 2.5)
    stats.on_state(LOST, 3.0)
    stats.on_dropped(7)
    stats.violations = ["too fast"]
    rows = list(summary_rows(stats, 5.0))
    assert ("outages", "1") in rows
    assert ("", "the link was not back before the end (the wire was cut)") in rows
    assert ("dropped", "7 ticks: this program was too slow") in rows
    assert rows[-2:] == [
        ("sent", "0 frames, 1 breach of the protocol"),
        ("", "too fast"),
    ]


@pytest.mark.parametrize("view", [PlainView, JsonView])
def test_dropped_ticks_are_reported(view, capsys):
    """By every view."""
    shown = view(RunStats(TOPICS))
    shown.on_dropped(7)
    shown.on_gap(gap(TOPICS[0], NOON, seconds=2.5))
    shown.summarize(1.0)
    text = "".join(capsys.readouterr())
    assert "dropped" in text
    assert "7" in text
    assert "gap" in text
