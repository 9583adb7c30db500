"""Arguments that are numbers of other libraries than Python's."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest

from qos_async import Client, DropOldest, Limits, Recorder, Strict, Timing, replay
from qos_async._core.queries import Queries, epoch
from qos_async._validation import as_number, as_whole, check_number, check_whole
from qos_async.markets import bars
from qos_async.recordings.replay_server import ReplayServer
from qos_async.sim import Simulator


class Index:
    def __index__(self) -> int:
        return 6


WHOLE = [6, np.int64(6), np.uint8(6), np.array(6), Index()]
NUMBERS = [*WHOLE, 6.0, np.float64(6), np.float32(6), Decimal(6), Fraction(6)]
COUNT: Any = np.int64(6)
NO_NUMBERS = [
    *[True, np.True_, None, "6", b"6", [6], 6j, object()],
    *[math.inf, math.nan, np.float64("nan"), Decimal("NaN"), Decimal("sNaN"), 10**400],
    *[Decimal("1e500"), Fraction(10**400), np.array([6, 7])],
    *[np.timedelta64(6, "s"), np.datetime64("2026-01-01"), pd.Timedelta("6s"), pd.NaT],
]


@pytest.mark.fault("F19")
@pytest.mark.parametrize("value", WHOLE, ids=[type(one).__name__ for one in WHOLE])
def test_anything_with_an_index_is_a_whole_number(value: Any):
    found = [
        check_whole("count", value),
        Limits(symbols=value).symbols,
        Limits(http_requests=value).http_requests,
        DropOldest(value).size,
        Strict(value).size,
    ]
    queries = Queries(Decimal, chunk=10)
    [trades] = queries.trades(["US:A"], count=value)
    [klines] = queries.klines(["US:A"], interval="1m", count=value)
    found += [trades.body["count"], klines.body["kline_reqs"][0]["co"]]
    assert [(type(one), one) for one in found] == [(int, 6)] * len(found)
    json.dumps(trades.body)


@pytest.mark.fault("F19")
def test_an_adjustment_and_an_interval_may_be_numbers_of_numpy():
    [query] = Queries(Decimal, chunk=10).klines(
        ["US:A"],
        interval=np.int64(1001),  # type: ignore[arg-type] # it has __index__
        adjust=np.int64(1),  # type: ignore[arg-type]
    )
    assert json.dumps(query.body["kline_reqs"][0]) == (
        '{"c": "US:A", "co": 100, "a": 1, "kt": 1001}'
    )


@pytest.mark.fault("F19")
@pytest.mark.parametrize("value", NUMBERS, ids=[type(one).__name__ for one in NUMBERS])
async def test_any_kind_of_number_is_taken_by_every_option(value: Any, tmp_path):
    assert type(check_number("x", value)) in (int, float)
    limits, timing = Limits(http_period=value), Timing(close_timeout=value)
    assert (limits.http_period, timing.close_timeout) == (6, 6)
    assert type(limits.http_period) in (int, float)
    async with Client("key") as client:
        trades = client.watch_trades("US:AAPL")
        trades.batches(max_items=COUNT, max_wait=value)
        bars(trades, "1m", close_after=value)
        await client.drain(value)
    Recorder(tmp_path, rotate=value, max_bytes=value, flush=value, level=COUNT)
    replay(tmp_path, value)
    ReplayServer(tmp_path, speed=value)
    options: dict[str, Any] = {"speed": value, "rate": value, "history": value}
    async with Simulator(
        **options, start=value, push_interval=value, heartbeat_limit=value
    ) as sim:
        assert sim.now >= 6


@pytest.mark.fault("F19")
@pytest.mark.parametrize("kind", [int, float, np.int64, np.float64, Decimal, Fraction])
def test_any_kind_of_number_is_an_epoch_time(kind: Any):
    assert epoch(kind(1_700_000_000)) == 1_700_000_000
    assert type(epoch(kind(1_700_000_000))) is int
    assert epoch(pd.Timestamp("2026-01-01", tz="UTC")) == 1_767_225_600


@pytest.mark.fault("F19")
def test_a_date_of_numpy_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"no time zone.*pandas.Timestamp"):
        epoch(np.datetime64("2026-01-01"))  # type: ignore[arg-type]


@pytest.mark.fault("F19")
@pytest.mark.parametrize(
    "value", NO_NUMBERS, ids=[f"{n}" for n in range(len(NO_NUMBERS))]
)
def test_what_is_not_a_number_is_refused(value: Any):
    assert as_number(value) is None
    with pytest.raises(ValueError, match="x must be a number of seconds from 0, not"):
        check_number("x", value, unit="seconds")
    with pytest.raises(ValueError, match="is not a time"):
        epoch(value)
    if type(value) is not int:  # Of any size.
        assert as_whole(value) is None
        with pytest.raises(ValueError, match="x must be a whole number from 1, not"):
            check_whole("x", value)
