"""Time zones of charts."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from qos_async.enums import Interval
from qos_async.periods import market_zone
from qos_async.symbols import market_of

__all__ = ["bar_time", "zone_name", "zone_of"]


def zone_of(tz: object, symbol: str) -> tzinfo | None:
    """Return the time zone that ``tz`` names; None is that of this machine.

    Args:
        tz: ``"market"``, ``"local"``, ``"UTC"``, a name such as ``"Asia/Hong_Kong"``,
            or a ``tzinfo``.
        symbol: Its market is that of ``"market"``.

    Raises:
        ValueError: For anything else; the message lists what it takes.
    """
    if isinstance(tz, tzinfo):
        return tz
    word = tz.lower() if isinstance(tz, str) else ""
    if word == "market":
        return market_zone(market_of(symbol))
    if word == "local":
        return None
    if word == "utc":
        return UTC
    try:
        if isinstance(tz, str):
            return ZoneInfo(tz)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        pass
    raise ValueError(
        'tz must be "market", "local", "UTC", a time zone such as "Asia/Hong_Kong", or a '
        f"tzinfo, not {tz!r}"
    )


def bar_time(
    timestamp: int, interval: Interval, symbol: str, zone: tzinfo | None
) -> datetime:
    """Return the start of a bar in ``zone``.

    A bar of a day or longer has a date and no time of day: it is in the time zone of its
    market, in which it starts at midnight.
    """
    if interval >= Interval.DAY:
        zone = market_zone(market_of(symbol))
    return datetime.fromtimestamp(timestamp, UTC).astimezone(zone)


def zone_name(time: datetime) -> str:
    """Return the name of the time zone of a time: ``Hong Kong``, ``CET``."""
    key = getattr(time.tzinfo, "key", None)
    if isinstance(key, str):
        return key.rpartition("/")[2].replace("_", " ")
    return time.tzname() or ""
