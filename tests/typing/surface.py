"""Uses of the public names for type checkers to analyse; never run."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, assert_type

import pandas as pd
import polars as pl

from qos_async import (
    Channel,
    Client,
    Depth,
    Dropped,
    Gap,
    Instrument,
    Interrupted,
    Kline,
    LinkState,
    Market,
    PriceLevel,
    Product,
    Rejected,
    Result,
    Snapshot,
    Stale,
    StateChange,
    Stats,
    Subscription,
    SubscriptionStats,
    Topic,
    Trade,
    TradingDay,
    follow,
    replay,
)
from qos_async.frames import to_pandas, to_polars
from qos_async.markets import Bar, bars, resample
from qos_async.recordings import Follow, Replay

assert_type(Client(), Client[Decimal])
assert_type(Client("key", key_in="url"), Client[Decimal])
assert_type(Client(lambda: "key"), Client[Decimal])
assert_type(Client(numbers=Decimal), Client[Decimal])
assert_type(Client(numbers=float), Client[float])
assert_type(Client("key", numbers=str, recover=False), Client[str])

assert_type(replay("recordings"), Replay[Decimal])
assert_type(replay("recordings", None, numbers=float), Replay[float])
assert_type(follow("recordings"), Follow[Decimal])
assert_type(follow("recordings", "first", durable="bot", strict=True), Follow[Decimal])
assert_type(follow("recordings", numbers=str), Follow[str])
assert_type(follow("recordings").live, bool)


async def requests(client: Client[float]) -> None:
    instruments = await client.fetch_instruments("US:AAPL")
    assert_type(instruments, Result[Instrument[float]])
    snapshots = await client.fetch_snapshots("US:AAPL,TSLA", ["HK:700"], via="stream")
    assert_type(snapshots, Result[Snapshot[float]])
    assert_type(snapshots["US:AAPL"], Snapshot[float])
    assert_type(snapshots["US:AAPL"].last_price, float | None)
    assert_type(snapshots.missing, tuple[str, ...])
    assert_type(await client.fetch_depth("US:AAPL"), Result[Depth[float]])
    trades = await client.fetch_trades("US:AAPL", count=5)
    assert_type(trades, Result[list[Trade[float]]])
    klines = await client.fetch_klines("US:AAPL", interval="1m")
    assert_type(klines, Result[list[Kline[float]]])
    assert_type(klines.to_polars(numbers=Decimal), pl.DataFrame)
    assert_type(to_pandas(klines), pd.DataFrame)
    assert_type(
        to_polars([bar for some in klines.values() for bar in some]), pl.DataFrame
    )
    pages = client.iter_history("US:AAPL", interval="1d", start=0)
    assert_type(await pages.to_polars(), pl.DataFrame)
    days = await client.fetch_calendar("US")
    assert_type(to_polars(days, kind=TradingDay), pl.DataFrame)
    history = await client.fetch_history("US:AAPL", interval="1d", end=0)
    assert_type(history, Result[list[Kline[float]]])
    async for page in client.iter_history("US:AAPL", interval="1d", start=0):
        assert_type(page, list[Kline[float]])
    assert_type(await client.fetch_calendar("US"), dict[Market, list[TradingDay]])
    assert_type(await client.fetch_products("US"), dict[Market, list[Product]])


async def live(client: Client[float]) -> None:  # noqa: C901 - a list
    assert_type(client.watch_snapshots("US:AAPL"), Subscription[Snapshot[float]])
    assert_type(client.watch_depth("US:AAPL"), Subscription[Depth[float]])
    klines = client.watch_klines("US:AAPL", interval="1m", final=True)
    assert_type(klines, Subscription[Kline[float]])
    async with client.watch_trades("US:AAPL") as trades:
        assert_type(trades, Subscription[Trade[float]])
        async for trade in trades:
            assert_type(trade, Trade[float])
            assert_type(trade.price, float)
            assert_type(trade.size, float | None)
            assert_type(trade.topic, Topic)
            assert_type(trade.channel, Channel)
            assert_type(trade.to_dict(), dict[str, Any])
        async for batch in trades.batches(max_items=10):
            assert_type(batch, list[Trade[float]])
        async for frame in trades.batches().to_polars(explode=False):
            assert_type(frame, pl.DataFrame)
        async for event in trades.events():
            assert_type(event, Trade[float] | Gap | Interrupted | Rejected | Dropped)
        async for notice in trades.events(stale=True):
            assert_type(
                notice, Trade[float] | Gap | Interrupted | Rejected | Dropped | Stale
            )
        async for events in trades.batches(events=True):
            assert_type(
                events, list[Trade[float] | Gap | Interrupted | Rejected | Dropped]
            )
        await trades.ready()
        for iterator in (
            trades.events(),
            trades.events(stale=True),
            trades.batches(),
            trades.batches().to_polars(),
            bars(trades, "1m"),
            client.states(),
        ):
            await iterator.aclose()
        async for bar in bars(trades, "1m"):
            assert_type(bar, Bar[float])
        async for bar in bars(trades.events(stale=True), "1m"):
            assert_type(bar, Bar[float])
        assert_type(trades.stats, SubscriptionStats)
    async for tick in client.watch(Topic("trade", "US:AAPL")):
        assert_type(tick, Snapshot[float] | Trade[float] | Depth[float] | Kline[float])


async def the_rest() -> None:
    async with Client() as client:
        assert_type(client, Client[Decimal])
        past = await client.fetch_trades("CF:BTCUSDT")
        for built in bars(past, "1m"):
            assert_type(built, Bar[Decimal])
        for built in bars(past["CF:BTCUSDT"], "1m"):
            assert_type(built, Bar[Decimal])
        minutes = await client.fetch_klines("CF:BTCUSDT", interval="1m")
        assert_type(resample(minutes, "1h"), list[Bar[Decimal]])
        assert_type(resample(bars(past, "1m"), "1h"), list[Bar[Decimal]])
        assert_type(client.state, LinkState)
        assert_type(client.stats, Stats)
        assert_type(client.stats.ticks_by_channel, dict[str, int])
        assert_type(client.stats.clock_offset, float | None)
        assert_type(client.stats.to_openmetrics(), str)
        assert_type(client.report(), str)
        assert_type(await client.drain(1.0), bool)
        async for change in client.states():
            assert_type(change, StateChange)
        depth = (await client.fetch_depth("US:AAPL"))["US:AAPL"]
        assert_type(depth.best_bid, PriceLevel[Decimal] | None)
        assert_type(depth.mid, Decimal | None)


def a_user_writes_no_parameters(client: Client, trade: Trade) -> None:
    assert_type(client, Client[Decimal])
    assert_type(trade.price, Decimal)


async def mistakes(client: Client[Decimal]) -> None:
    Client(key_in="cookie")  # type: ignore[call-overload] # pyright: ignore[reportArgumentType, reportCallIssue]
    Client(unknown=1)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue]
    await client.fetch_klines("US:AAPL")  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    await client.fetch_depth("US:AAPL", via="pigeon")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
