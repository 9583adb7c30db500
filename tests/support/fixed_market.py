"""A market with fixed prices, on a screen in memory."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec

from qos_async import (
    Depth,
    Gap,
    Interval,
    Kline,
    LinkState,
    Snapshot,
    StateChange,
    Topic,
    Trade,
)
from qos_async.cli.scenario import SYMBOLS
from qos_async.cli.watch.app import WatchApp
from qos_async.cli.watch.model import Model
from qos_async.cli.watch.reader import MarketReader
from qos_async.sim.market import SimulatedMarket
from qos_async.stats import Stats
from tests.support.factories import flat_kline

NOW = datetime(2026, 3, 3, 15, 42, 27, tzinfo=UTC).timestamp()
STATS = Stats(
    ticks_by_channel={"trade": 4120},
    heartbeat_round_trip=0.0124,
    consumer_lag=0.031,
    gaps_by_status={"filled": 38, "partial": 2, "unverified": 0, "unfilled": 0},
    recovered=17,
)


class IdleReader(MarketReader):
    """A reader that receives nothing, and records the intervals that it should follow."""

    def __init__(self, model):
        self.model = model
        self.intervals = []
        self.dials = 0
        self.added, self.removed = [], []

    async def run(self):
        pass

    async def add(self, *symbols):
        self.added += symbols

    async def remove(self, *symbols):
        self.removed += symbols

    async def dial_now(self):
        self.dials += 1

    def update_stats(self, now):
        self.model.update_stats(STATS, now)

    def on_interval_changed(self):
        self.intervals.append(self.model.interval)


def record(kind, row, **more):
    row = {key: value for key, value in row.items() if value is not None}
    return msgspec.convert({**row, **more}, kind, strict=False)


def trade(at, price="1", symbol="US:A", **more):
    return Trade(symbol=symbol, price=Decimal(price), timestamp=at, **more)


def kline(at, close="1", **more):
    return flat_kline(at, Decimal(close), **more)


def gap(topic, *, status="filled", recovered=0, at=NOW):
    until = datetime.fromtimestamp(at, UTC)
    return Gap(
        topic=topic,
        since=until - timedelta(seconds=3.4),
        until=until,
        reason="the server closed with 1001",
        status=status,
        recovered=recovered,
    )


def scene(symbols=SYMBOLS, interval=Interval.MIN_1, *, seed=4, now=NOW):
    """Return a model of the simulated market after a short outage."""
    market = SimulatedMarket(seed, now, history=240.0)
    model = Model(symbols, interval)
    model.on_state(StateChange(LinkState.OPEN), now - 100)
    for symbol in symbols:
        bars = market.klines(symbol, interval, 160, now)
        model.bars.backfill(
            symbol, [record(Kline[Decimal], {**row, "tp": "K"}) for row in bars]
        )
        model.on_tick(record(Snapshot[Decimal], market.snapshot(symbol, now)), now - 10)
        model.on_tick(record(Depth[Decimal], market.depth(symbol, now)), now - 10)
        for place, row in enumerate(market.trades(symbol, now, 60)):
            trade = record(Trade[Decimal], row, recovered=51 <= place < 54)
            model.on_tick(trade, now - 10)
    model.price_moves = {"US:TSLA": (1, now - 0.1), "CF:ETHUSDT": (-1, now - 0.1)}
    model.on_gap(gap(Topic("trade", "CF:BTCUSDT"), recovered=17, at=now - 32), now - 30)
    before = msgspec.structs.replace(STATS, ticks_by_channel={"trade": 4046})
    model.update_stats(before, now - 2)
    model.select(symbols.index("CF:BTCUSDT") if "CF:BTCUSDT" in symbols else 0)
    return model


def app_of(model, *, now=NOW, **options):
    return WatchApp(model, IdleReader(model), lambda: now, **options)


def text_of(app):
    """Return the lines of the screen."""
    lines = app.screen._compositor.render_strips()
    return [strip.text.rstrip() for strip in lines]
