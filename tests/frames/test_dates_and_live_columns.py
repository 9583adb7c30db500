"""Columns that only some frames have: the trading date, and those of live ticks."""

from __future__ import annotations

import pickle
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from qos_async import Interval, Kline, Result, Trade
from qos_async.frames import columns, schema, to_arrow, to_pandas, to_polars
from qos_async.markets import Bar
from tests.support.full_records import BARE, FULL
from tests.support.memory_transport import Network, opened, trade

parquet: Any = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("polars")
pd: Any = pytest.importorskip("pandas")
MAKERS = pytest.mark.parametrize("make", [to_polars, to_pandas, to_arrow])
LIVE = {"received_at", "recovered"}

# Midnight of 2 January 2025 in Hong Kong and Shanghai, and in New York.
HK, US = 1_735_747_200, 1_735_794_000


def bar(symbol: str = "HK:700", at: int = HK, interval: str = "1d") -> Kline[float]:
    prices: Any = dict.fromkeys(("open", "high", "low", "close"), 1.0)
    return Kline(
        symbol=symbol,
        timestamp=at,
        interval=Interval.parse(interval),
        **prices,
    )


def names(frame: Any) -> list[str]:
    return list(getattr(frame, "column_names", None) or frame.columns)


def column(frame: Any, name: str) -> Any:
    values = frame[name]
    if hasattr(values, "to_pylist"):
        return values.to_pylist()
    if hasattr(values, "isna"):  # pandas has no dates: times of midnight.
        values = values.dt.date.astype(object).where(values.notna(), None)
    return values.to_list()


@pytest.mark.parametrize(
    ("symbol", "at"),
    [("HK:700", HK), ("SH:600519", HK), ("SZ:1", HK), ("US:AAPL", US)],
)
@pytest.mark.fault("Y1")
def test_the_date_of_a_day_bar_is_that_of_its_market(symbol: str, at: int):
    assert bar(symbol, at).date == date(2025, 1, 2)


def test_the_date_of_a_crypto_bar_is_that_of_utc():
    at = int(datetime(2025, 1, 2, tzinfo=UTC).timestamp())
    assert bar("CF:BTCUSDT", at).date == date(2025, 1, 2)
    assert bar("CF:BTCUSDT", at - 1).date == date(2025, 1, 1)


def test_a_bar_built_from_trades_has_the_date_too():
    same: Any = {
        name: getattr(bar(), name) for name in ("symbol", "interval", "timestamp")
    }
    prices: Any = dict.fromkeys(("open", "high", "low", "close"), 1.0)
    built = Bar(**same, **prices, end_timestamp=HK + 86_400)
    assert built.date == date(2025, 1, 2)
    assert column(to_arrow([built]), "date") == [date(2025, 1, 2)]


@MAKERS
@pytest.mark.parametrize("interval", ["1d", "1w", "1M", "1y"])
@pytest.mark.fault("Y1")
def test_frames_of_days_and_longer_have_the_trading_date(make: Any, interval: str):
    frame = make([bar(interval=interval)])
    assert names(frame)[:3] == ["symbol", "time", "date"]
    assert column(frame, "date") == [date(2025, 1, 2)]


def test_dates_of_pandas_are_datetime64_also_from_files(tmp_path: Path):
    frame = to_pandas([bar(interval="1d")])
    assert frame["date"].dtype == "datetime64[us]"
    path = tmp_path / "bars.parquet"
    parquet.write_table(to_arrow([bar(interval="1d")]), path)
    read = pd.to_datetime(pd.read_parquet(path)["date"])
    assert read.dtype.kind == "M"
    assert read.to_list() == frame["date"].to_list()


@MAKERS
@pytest.mark.parametrize("interval", ["1m", "4h"])
def test_frames_of_shorter_bars_have_no_date(make: Any, interval: str):
    assert "date" not in names(make([bar(interval=interval)]))


@MAKERS
def test_the_date_is_null_for_shorter_bars_and_for_bars_without_a_time(make: Any):
    frame = make([bar(interval="1m"), bar(at=0), bar()])
    assert column(frame, "date") == [None, None, date(2025, 1, 2)]


@MAKERS
@pytest.mark.fault("Y2")
def test_fetched_frames_have_no_columns_of_live_ticks(make: Any):
    for record in (bar(), BARE[Trade]):
        assert not LIVE & set(names(make([record])))
        assert set(names(make([record], live=True))) >= LIVE


@MAKERS
@pytest.mark.parametrize("change", [{"received_at": 1}, {"recovered": True}])
@pytest.mark.fault("Y2")
def test_frames_of_live_ticks_have_them(make: Any, change: dict[str, Any]):
    live = replace(BARE[Trade], **change)
    assert set(names(make([BARE[Trade], live]))) >= LIVE
    assert not LIVE & set(names(make([live], live=False)))


def test_a_schema_agrees_with_its_table_for_each_choice():
    for live in (True, False):
        for dates in (True, False):
            chosen: Any = {"live": live, "dates": dates}
            for records in ([], [bar()], [FULL[Kline]]):
                table = to_arrow(records, kind=Kline, **chosen)
                assert table.schema == schema(Kline, **chosen)
                assert tuple(table.column_names) == columns(Kline, **chosen)


def test_an_empty_result_of_day_bars_has_the_columns_of_a_full_one():
    full = Result(("HK:700",), {"HK:700": [bar()]}, Kline, Interval.DAY)
    empty: Any = Result(("HK:700",), {}, Kline, Interval.DAY)
    assert empty.to_polars().schema == full.to_polars().schema
    assert empty.copy().interval is Interval.DAY
    assert pickle.loads(pickle.dumps(empty)).interval is Interval.DAY


@pytest.mark.virtual_time
async def test_each_frame_of_a_live_subscription_has_the_same_columns():
    net = Network()
    async with opened(net) as client:
        trades = client.watch_trades("US:AAPL")
        async with trades:
            net.peers[0].push(trade(1))
            frame = await anext(aiter(trades.batches(max_wait=0.1).to_polars()))
    assert set(frame.columns) >= LIVE
