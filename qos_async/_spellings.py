"""Names of intervals and channels in other programs, for messages."""

from __future__ import annotations

import re

from qos_async._wording import did_you_mean

__all__ = ["CHANNELS_ELSEWHERE", "channels_advice", "interval_advice", "is_channel"]

CHANNELS_ELSEWHERE = {
    **dict.fromkeys(("candle", "candles", "candlesticks", "bar", "bars"), "klines"),
    **dict.fromkeys(("ohlc", "ohlcv"), "klines"),
    **dict.fromkeys(("quote", "quotes", "price", "prices"), "snapshots"),
    **dict.fromkeys(("ticker", "tickers"), "snapshots"),
    **dict.fromkeys(("book", "books", "orderbook", "orderbooks", "l2"), "depth"),
    **dict.fromkeys(("tick", "ticks", "deal", "deals"), "trades"),
}
"""What other programs name a channel, and its name in ``qos``."""

_CHANNELS = ("snapshot", "trade", "depth", "kline")
_UNITS = {
    **dict.fromkeys(("m", "t", "min", "mins", "minute", "minutes"), "m"),
    **dict.fromkeys(("h", "hr", "hour", "hours"), "h"),
    **dict.fromkeys(("d", "day", "days", "daily"), "d"),
    **dict.fromkeys(("w", "wk", "week", "weeks", "weekly"), "w"),
    **dict.fromkeys(("mo", "mn", "mon", "month", "months", "monthly"), "M"),
    **dict.fromkeys(("y", "yr", "year", "years", "yearly"), "y"),
}
_KNOWN = frozenset(["1m", "5m", "15m", "30m", "1h", "2h", "4h", "1d", "1w", "1M", "1y"])
_LONG = {"60m": "1h", "120m": "2h", "240m": "4h", "1440m": "1d"}


def is_channel(text: str) -> bool:
    """Return whether a word is meant as a channel, or as several with commas.

    >>> [is_channel(text) for text in ("trade", "xyz", "trades,depth", "US:AAPL,TSLA")]
    [True, True, True, False]
    """
    if text.isascii() and text.isalpha():
        return True
    names = {word.strip().lower().removesuffix("s") for word in text.split(",")}
    return not names.isdisjoint({*_CHANNELS, *CHANNELS_ELSEWHERE})


def channels_advice(text: str) -> str:
    """Return how several channels are written; empty for a text without a comma."""
    words = text.replace(",", " ").split()
    if len(words) <= 1:
        return ""
    return f"; each is a word or a --channel of its own: {' '.join(words)}"


def interval_advice(text: str) -> str:
    """Return ``; did you mean 1h?`` for what another program calls an interval.

    It is empty for any other text.

    >>> [interval_advice(text) for text in ("60m", "1wk", "D1", "3m")]
    ['; did you mean 1h?', '; did you mean 1w?', '; did you mean 1d?', '']
    """
    found = re.fullmatch(r"(\d{0,4}) *([a-z]+) *(\d{0,4})", text.strip().lower())
    if found is None or (unit := _UNITS.get(found[2])) is None:
        return ""
    meant = f"{found[1] or found[3] or '1'}{unit}"
    meant = _LONG.get(meant, meant)
    return did_you_mean(meant) if meant in _KNOWN else ""
