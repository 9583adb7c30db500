"""Time zones of charts."""

from __future__ import annotations

import re
from datetime import UTC, datetime, tzinfo
from difflib import get_close_matches
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from qos_async._wording import did_you_mean
from qos_async.enums import Interval
from qos_async.periods import market_zone
from qos_async.symbols import market_of

__all__ = ["bar_time", "similar_zones", "zone_name", "zone_of"]

_SHANGHAI, _HONG_KONG = "Asia/Shanghai", "Asia/Hong_Kong"
_NEW_YORK, _CHICAGO = "America/New_York", "America/Chicago"
_ABBREVIATIONS = {
    **dict.fromkeys(("beijing", "shenzhen", "china", "sh", "sz", "cn"), (_SHANGHAI,)),
    **dict.fromkeys(("hkt", "hk"), (_HONG_KONG,)),
    **dict.fromkeys(("utc+8", "gmt+8", "+8", "+08:00"), (_SHANGHAI, _HONG_KONG)),
    **dict.fromkeys(("et", "edt", "us", "nyc", "ny"), (_NEW_YORK,)),
    "cst": (_SHANGHAI, _CHICAGO),
    "ct": (_CHICAGO,),
    "cdt": (_CHICAGO,),
    "sgt": ("Asia/Singapore",),
    "jst": ("Asia/Tokyo",),
    "bst": ("Europe/London",),
    "cest": ("Europe/Berlin",),
}
"""What has no entry in the database of time zones."""
_SIMILAR = 0.8
"""How similar a misspelt city is to the right one, from 0 to 1."""


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
        f"tzinfo, not {tz!r}{did_you_mean(*similar_zones(tz))}"
    )


def similar_zones(text: object) -> list[str]:
    """Return the time zones that a city or an abbreviation probably means."""
    if not isinstance(text, str):
        return []
    word = re.sub(r"[\s_-]+", "", text).lower()
    if word in _ABBREVIATIONS:
        return list(_ABBREVIATIONS[word])
    cities: dict[str, str] = {}
    for name in sorted(available_timezones()):
        area, _, city = name.rpartition("/")
        if area and not area.startswith("Etc"):
            cities.setdefault(city.replace("_", "").lower(), name)
    found = get_close_matches(word.rpartition("/")[2], cities, 1, _SIMILAR)
    return [cities[city] for city in found]


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
