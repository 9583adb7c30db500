"""Columns of each kind of record, without an optional package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct
from msgspec.structs import fields

import qos_async
from qos_async import Depth, Instrument, Kline, Product, Snapshot, Trade, TradingDay
from qos_async.frames import columns
from qos_async.markets import Bar
from tests.support.full_records import KINDS

LIVE = ("received_at", "recovered")
OF: dict[type[Any], tuple[str, ...]] = {
    Trade: ("symbol", "time", "price", "size", "side", *LIVE),
    Depth: ("symbol", "time", "bids", "asks", *LIVE),
    Kline: (
        *("symbol", "time", "interval", "open", "high", "low", "close", "volume"),
        *LIVE,
    ),
    Product: ("symbol", "name"),
    TradingDay: ("market", "date", "half_day"),
}
SESSION = ("last_price", "prev_close", "high", "low", "volume", "turnover", "time")


@pytest.mark.parametrize("kind", list(OF))
def test_columns_are_named_as_the_fields_with_symbol_and_time_first(kind: Any):
    assert columns(kind) == OF[kind]


def test_the_sessions_of_a_snapshot_are_columns_with_a_prefix():
    named = columns(Snapshot)
    for session in ("pre_market", "post_market", "overnight"):
        start = named.index(f"{session}_last_price")
        prefixed = tuple(f"{session}_{name}" for name in SESSION)
        assert named[start : start + 7] == prefixed
    assert not {"pre_market", "post_market", "overnight"} & set(named)


@pytest.mark.parametrize("kind", [*KINDS, Bar])
def test_every_field_of_every_record_has_a_column(kind: Any):
    named = columns(kind)
    assert len(set(named)) == len(named)
    for field in fields(kind):
        if field.name == "place":  # It is empty on ticks of the service.
            continue
        name = field.name.replace("timestamp", "time")
        assert name in named or f"{name}_last_price" in named


def test_an_exploded_book_has_a_row_for_each_level():
    assert columns(Depth, explode=True) == (
        *("symbol", "time", "side", "level", "price", "size"),
        *LIVE,
    )


@pytest.mark.parametrize("kind", [Trade, Instrument])
def test_only_books_can_be_exploded(kind: Any):
    with pytest.raises(ValueError, match=f"is for Depth: {kind.__name__} has no"):
        columns(kind, explode=True)


@pytest.mark.parametrize("kind", ["trade", int, [], Trade(symbol="US:A", price=1)])
def test_a_kind_is_a_class_of_records(kind: Any):
    with pytest.raises(TypeError, match="expected a class of records, such as Trade"):
        columns(kind)


def test_a_record_that_fits_no_column_raises_with_its_field():
    class Odd(Struct):
        symbol: str
        parts: dict[str, int]

    with pytest.raises(TypeError, match=r"Odd does not fit .* hold its parts"):
        columns(Odd)


def test_importing_frames_and_results_loads_no_optional_package():
    program = (
        "import sys, qos_async.frames, qos_async.results;"
        "print([m for m in ('polars', 'pandas', 'pyarrow', 'numpy')"
        " if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(qos_async.__file__).parent.parent,
    )
    assert done.stdout.strip() == "[]"
