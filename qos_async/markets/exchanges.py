"""Trading days from the package exchange_calendars (extra ``calendars``)."""

from __future__ import annotations

import importlib
from datetime import date
from typing import Any

from qos_async.enums import Market
from qos_async.markets.hours import code_of
from qos_async.models import TradingDay

__all__ = ["exchange_calendar"]

_EXCHANGES = {"US": "XNYS", "HK": "XHKG", "SH": "XSHG", "SZ": "XSHG"}


def exchange_calendar(
    *markets: Market | str, start: date | None = None, end: date | None = None
) -> dict[Market, list[TradingDay]]:
    """List trading days and half days without asking the service.

    They come from the package exchange_calendars, which holds them by its version:
    years back, and about a year ahead. US is XNYS, HK is XHKG; SH and SZ are XSHG, for
    Shanghai and Shenzhen keep the same days. The result is what
    ``Client.fetch_calendar`` gives, and goes wherever that goes.

    >>> days = exchange_calendar("US", "HK")
    >>> is_open("US:AAPL", 1_751_639_400, calendar=days)  # 4 July 2025, 10:30
    False

    Args:
        *markets: Such as ``"US"``; all four by default.
        start: The first day; by default, the first that the package lists.
        end: The last day; by default, the last that the package lists.

    Raises:
        ModuleNotFoundError: If exchange_calendars is not installed.
        ValueError: For a market that it does not know, or if it does not list days from
            ``start`` to ``end``.
    """
    return {
        Market(code): _days(code, start, end)
        for code in [_known(market) for market in markets or _EXCHANGES]
    }


def _known(market: str) -> str:
    code = code_of(market)
    if code not in _EXCHANGES:
        raise ValueError(
            f"exchange_calendars has no market {market!r}; it has "
            f"{', '.join(_EXCHANGES)}"
        )
    return code


def _days(market: str, start: date | None, end: date | None) -> list[TradingDay]:
    # Untyped, and a hundred megabytes of pandas: imported for those who call this.
    try:
        package: Any = importlib.import_module("exchange_calendars")
    except ModuleNotFoundError as exc:
        raise ModuleNotFoundError(
            f"exchange_calendar() needs {exc.name}: pip install 'qos-async[calendars]'",
            name=exc.name,
        ) from exc
    exchange: Any = package.get_calendar(_EXCHANGES[market])
    first: date = exchange.first_session.date()
    last: date = exchange.last_session.date()
    start, end = start or first, end or last
    if start < first or end > last or end < start:
        raise ValueError(
            f"exchange_calendars lists {market} from {first} to {last}, not from "
            f"{start} to {end}: pip install -U exchange_calendars, or ask for less"
        )
    short = {moment.date() for moment in exchange.early_closes}
    listed = [moment.date() for moment in exchange.sessions]
    return [
        TradingDay(date=day, half_day=day in short)
        for day in listed
        if start <= day <= end
    ]
