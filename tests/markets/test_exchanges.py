"""Trading days from exchange_calendars."""

from __future__ import annotations

import importlib
from datetime import date
from typing import Any

import pytest

from qos_async import Market, TradingDay
from qos_async.markets import exchange_calendar, is_open, sessions

YEAR = {"start": date(2025, 1, 1), "end": date(2025, 12, 31)}


# pandas has deprecated what exchange_calendars does; that is not ours to hush up.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_it_lists_holidays_and_half_days_as_fetch_calendar_does():
    days = exchange_calendar("US", "HK", "SZ", **YEAR)
    assert list(days) == [Market.US, Market.HK, Market.SZ]
    half = {m: [str(d.date) for d in days[m] if d.half_day] for m in days}
    assert half == {
        Market.US: ["2025-07-03", "2025-11-28", "2025-12-24"],
        Market.HK: ["2025-01-28", "2025-12-24", "2025-12-31"],
        Market.SZ: [],
    }
    assert days[Market.HK][0] == TradingDay(date=date(2025, 1, 2))
    assert not is_open("US:AAPL", 1_751_639_400, calendar=days)  # 4 July, 10:30.
    assert is_open("US:AAPL", 1_751_639_400)
    assert not sessions("SZ", date(2025, 10, 1), calendar=days)
    with pytest.raises(ValueError, match=r"lists SH from .* pip install -U"):
        exchange_calendar("SH", end=date(2100, 1, 1))


def test_a_market_that_it_does_not_have_is_named():
    with pytest.raises(ValueError, match="has no market 'CF'; it has US, HK, SH, SZ"):
        exchange_calendar("CF")


def test_without_the_package_it_says_what_to_install(monkeypatch):
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ModuleNotFoundError, match=r"qos-async\[calendars\]") as caught:
        exchange_calendar("US")
    assert caught.value.name == "exchange_calendars"
