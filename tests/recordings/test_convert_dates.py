"""The trading date of klines in converted recordings."""

from __future__ import annotations

from datetime import date

import pytest

from qos_async.recordings import convert
from tests.support.memory_transport import kline
from tests.support.recording_files import frame, recorded, write

pd = pytest.importorskip("pandas")
pq = pytest.importorskip("pyarrow.parquet")

HK = 1_735_747_200  # Midnight of 2 January 2025 in Hong Kong.


@pytest.mark.fault("Y1")
def test_day_bars_have_their_trading_date(tmp_path):
    topics = "kline HK:700 1d", "kline HK:700 1m"
    day, minute = (kline(HK, symbol="HK:700", kt=kt) for kt in (1001, 1))
    write(tmp_path / "in", recorded(frame(1, day, minute), topics=topics))
    [file] = convert(tmp_path / "in", tmp_path / "out").files
    rows = pq.ParquetFile(file).read().to_pylist()
    assert [row["trading_date"] for row in rows] == [date(2025, 1, 2), None]
    # A column named as the directories could not be read together with them.
    frame_of_all = pd.read_parquet(tmp_path / "out" / "channel=kline")
    assert set(frame_of_all["date"]) == {"2023-11-14"}


def test_recordings_without_day_bars_have_no_column_of_dates(tmp_path):
    one = frame(1, kline(60))
    write(tmp_path / "in", recorded(one, topics=["kline US:AAPL 1m"]))
    [file] = convert(tmp_path / "in", tmp_path / "out").files
    assert "trading_date" not in pq.read_schema(file).names
