"""Reader: from a client to a model, over real sockets, on the simulator."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager

import pytest

from qos_async import (
    AuthenticationError,
    Client,
    ConnectError,
    Interval,
    LimitError,
    Limits,
    LinkState,
    RejectedError,
    Timing,
)
from qos_async.cli.watch import reader
from qos_async.cli.watch.model import Model
from qos_async.cli.watch.reader import MarketReader
from qos_async.sim import Simulator
from qos_async.sim.variants import Variants

SYMBOLS = ("CF:BTCUSDT", "CF:ETHUSDT")


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - a model has no events.
            await asyncio.sleep(0.005)


@asynccontextmanager
async def feeding(sim, model, limits, timing, **options):
    client = Client(
        options.pop("key", sim.key),
        http_url=sim.http_url,
        stream_url=sim.stream_url,
        limits=limits,
        timing=timing,
    )
    async with client:
        reading = MarketReader(client, model)
        task = asyncio.create_task(reading.run())
        try:
            yield reading, task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def first(error):
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def test_the_model_is_filled_and_an_outage_is_logged(fast_limits, fast_timing):
    model = Model(SYMBOLS, Interval.MIN_1)
    async with (
        Simulator(rate=10.0, plan=fast_limits, history=120.0) as sim,
        feeding(sim, model, fast_limits, fast_timing) as (reading, _),
    ):
        await until(lambda: len(sim.subscribed) == 8)
        await until(lambda: all(quote.depth and quote.trade for quote in model.quotes))
        await until(lambda: all(len(model.bars.of(one)) >= 300 for one in SYMBOLS))
        assert model.link.state is LinkState.OPEN
        sent = len(sim.frames)
        model.select(1)
        await until(lambda: model.trades(1)[0].received_at)
        assert {frame.type for frame in sim.frames[sent:]} <= {"H"}

        model.change_interval(1)
        reading.on_interval_changed()
        await until(lambda: len(model.bars.of("CF:ETHUSDT")) >= 300)
        await until(lambda: ("K", "CF:ETHUSDT", 5) in sim.subscribed)
        await until(lambda: ("K", "CF:ETHUSDT", 1) not in sim.subscribed)

        sim.reject_upgrades(503, 3)  # So that it lasts for some trades.
        sim.cut()
        await until(lambda: "gap of" in model.event_log.newest)
        reading.update_stats(time.time())
        assert model.stats.gaps
        assert not sim.violations


async def test_the_reader_connects_now_instead_of_after_the_back_off(fast_limits):
    model = Model(("CF:BTCUSDT",), Interval.MIN_1)
    timing = Timing(backoff_initial=600.0, backoff_max=1200.0)
    async with (
        Simulator(plan=fast_limits, history=60.0) as sim,
        feeding(sim, model, fast_limits, timing) as (reading, _),
    ):
        await until(lambda: model.link.state is LinkState.OPEN)
        sim.reject_upgrades(503, 1)
        sim.cut()
        await until(lambda: model.link.state is LinkState.BACKOFF)
        await reading.dial_now()  # Refused, which the state reports.
        await reading.dial_now()
        await until(lambda: model.link.state is LinkState.OPEN)


async def test_symbols_are_added_and_removed_while_it_runs(fast_limits, fast_timing):
    model = Model(("CF:BTCUSDT",), Interval.MIN_1)
    async with (
        Simulator(plan=fast_limits, history=60.0, rate=10.0) as sim,
        feeding(sim, model, fast_limits, fast_timing) as (reading, _),
    ):
        await until(lambda: len(sim.subscribed) == 4)
        await reading.add("CF:ETHUSDT", "CF:BTCUSDT")
        assert len(sim.subscribed) == 8
        assert model.symbol == "CF:BTCUSDT"
        await until(lambda: model.rows.quotes["CF:ETHUSDT"].depth)
        assert len(model.bars.of("CF:ETHUSDT")) >= 60
        await reading.remove("CF:BTCUSDT")
        await until(lambda: len(sim.subscribed) == 4)
        model.change_interval(1)
        reading.on_interval_changed()
        await until(lambda: ("K", "CF:ETHUSDT", 5) in sim.subscribed)
        assert ("K", "CF:BTCUSDT", 5) not in sim.subscribed
        assert not sim.violations


async def test_a_symbol_without_room_in_the_plan_is_not_added(fast_timing):
    model = Model(("CF:BTCUSDT",), Interval.MIN_1)
    limits = Limits(symbols=1, command_interval=0.02)
    async with (
        Simulator(plan=limits, history=60.0) as sim,
        feeding(sim, model, limits, fast_timing) as (reading, task),
    ):
        await until(lambda: len(sim.subscribed) == 4)
        await reading.add("CF:ETHUSDT")
        assert model.symbols == ("CF:BTCUSDT",)
        assert "CF:ETHUSDT: the plan is full" in model.event_log.newest
        assert "--symbols-limit" in model.event_log.newest
        assert "Limits(" not in model.event_log.newest
        assert not task.done()


@pytest.mark.parametrize("unknown", ["refuse", "omit"])
async def test_an_added_symbol_that_is_unknown_has_a_note_in_its_row(
    unknown, fast_limits, fast_timing
):
    model = Model(("CF:BTCUSDT",), Interval.MIN_1)
    variants = Variants(unknown_symbol=unknown)
    async with (
        Simulator(plan=fast_limits, history=60.0, variants=variants, rate=10.0) as sim,
        feeding(sim, model, fast_limits, fast_timing) as (reading, task),
    ):
        await until(lambda: len(sim.subscribed) == 4)
        await reading.add("US:NOSUCH")
        await until(lambda: "US:NOSUCH" in model.notes)
        model.tape.remove("CF:BTCUSDT")
        model.tape.add_symbols("CF:BTCUSDT")
        await until(lambda: model.trades(1, all_symbols=True))
        assert not task.done()


async def test_an_unknown_symbol_has_a_note_in_its_row(fast_limits, fast_timing):
    model = Model(("CF:BTCUSDT", "US:NOSUCH", "US:aapl"), Interval.MIN_1)
    async with (
        Simulator(plan=fast_limits, history=60.0) as sim,
        feeding(sim, model, fast_limits, fast_timing),
    ):
        await until(lambda: model.notes)
        assert model.notes == {
            "US:NOSUCH": "the service does not have this symbol",
            "US:aapl": "no such symbol; did you mean US:AAPL?",
        }


@pytest.mark.parametrize("symbols", [("CF:BTCUSDT", "US:NOSUCH"), ("US:NOSUCH",)])
async def test_a_rejected_symbol_has_a_note_and_if_all_are_rejected_the_reader_ends(
    symbols, fast_limits, fast_timing
):
    model = Model(symbols, Interval.MIN_1)
    variants = Variants(unknown_symbol="refuse")
    async with (
        Simulator(plan=fast_limits, history=60.0, variants=variants) as sim,
        feeding(sim, model, fast_limits, fast_timing) as (_, task),
    ):
        if len(symbols) == 1:
            await until(task.done)
            assert isinstance(first(task.exception()), RejectedError)
        else:
            await until(lambda: "rejected" in model.notes.get("US:NOSUCH", ""))
            await until(lambda: model.trades(1))
            assert not task.done()


async def test_a_rejected_key_ends_the_reader(fast_limits, fast_timing):
    model = Model(SYMBOLS, Interval.MIN_1)
    async with (
        Simulator(plan=fast_limits, history=60.0) as sim,
        feeding(sim, model, fast_limits, fast_timing, key="wrong") as (_, task),
    ):
        await until(task.done)
        assert isinstance(first(task.exception()), AuthenticationError)


async def test_a_failed_first_connection_ends_the_reader(fast_limits, fast_timing):
    model = Model(SYMBOLS, Interval.MIN_1)
    async with Simulator(plan=fast_limits, history=60.0) as sim:
        sim.reject_upgrades(503, None)
        async with feeding(sim, model, fast_limits, fast_timing) as (_, task):
            await until(task.done)
            assert isinstance(first(task.exception()), ConnectError)


@pytest.mark.parametrize("symbols", [10, 20])  # The plan, or more than that.
async def test_more_symbols_than_the_plan_allows_end_the_reader(symbols, fast_timing):
    model = Model([f"CF:A{n}" for n in range(11)], Interval.MIN_1)
    plan = Limits(command_interval=0.02)
    limits = Limits(symbols=symbols, command_interval=0.02)
    async with (
        Simulator(plan=plan, history=60.0, open_universe=True) as sim,
        feeding(sim, model, limits, fast_timing) as (_, task),
    ):
        await until(task.done)
        assert isinstance(first(task.exception()), LimitError)


@pytest.mark.parametrize("busy", [True, False])
async def test_history_is_fetched_over_the_stream_if_http_fails(
    busy, fast_limits, fast_timing, monkeypatch
):
    model = Model(("CF:BTCUSDT",), Interval.MIN_1)
    async with Simulator(plan=fast_limits, history=60.0) as sim:
        if busy:
            monkeypatch.setattr(reader, "_HTTP_TIMEOUT", 0.1)
            sim.delay_replies(5.0, "/kline")
        else:
            sim.reject("Too many requests.", "/kline", None)
        sim.reject("Too many requests.", ("/snapshot", "RS"), None)
        async with feeding(sim, model, fast_limits, fast_timing):
            await until(lambda: model.bars.of("CF:BTCUSDT"))
            await until(lambda: sim.received("RK"))
            await until(lambda: "no history: " in model.event_log.newest)
            assert model.trades(1)
