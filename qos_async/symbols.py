"""Symbols: ``MARKET:CODE``, and the lists of them that the wire takes.

The canonical form has its market in capitals and, in Hong Kong, no leading
zeros: the server replies ``HK:700`` to a request for ``HK:00700``. A code has ASCII
letters, digits and the marks ``. _ - / ^ = & + # $ ! @``, at least one letter or digit, and at
most 64 characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from typing import cast

from qos_async.enums import Market

__all__ = ["Symbols", "canonical", "market_of", "pack", "split", "suggest"]

Symbols = str | Iterable[str]
"""The symbols argument of a method: ``"US:AAPL"``, ``"US:AAPL,TSLA"`` or a list."""

# Fast path for symbols that are canonical already, as nearly all are: a frame that
# resubscribes 10,000 of them is built in a quarter of the time.
_LONGEST = 64
_PLAIN = rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{_LONGEST - 1}}}"
_is_plain = re.compile(
    rf"(?!HK:0|([A-Z]+):(?i:\1))(?:{'|'.join(Market)}):{_PLAIN}(?<![.]..)(?<![.]X...)"
).fullmatch
_is_plain_code = re.compile(_PLAIN).fullmatch
_KNOWN = frozenset(market.value for market in Market)
_is_market = re.compile(r"[A-Z]{2,8}").fullmatch  # The document has two letters.
_has_letter_or_digit = re.compile(r"[A-Za-z0-9]").search

# The vendor's document has letters and digits only. Other services write share classes,
# indices, futures and currency pairs with these marks (BRK.B, BRK/A, ^GSPC, ES=F, M&M,
# BHP+, NG1!). What separates symbols elsewhere is in none, and nothing beyond ASCII: a
# server may acknowledge a name that does not exist, and never push it.
_MARKS = "._-/^=&+#$!@"
_is_code = re.compile(rf"[A-Za-z0-9{re.escape(_MARKS)}]+").fullmatch


def canonical(symbol: str) -> str:
    """Return the canonical form of a symbol, as in results and ticks.

    Raises:
        ValueError: If it is not ``MARKET:CODE``; the message names the entry.
    """
    if isinstance(cast("object", symbol), str) and _is_plain(symbol):
        return symbol
    try:
        market, codes = _parse(symbol)
    except ValueError as error:
        raise ValueError(str(error).replace(_OR_SEVERAL, "")) from None
    if len(codes) != 1:
        raise _malformed(symbol, "expected a single symbol", '"MARKET:CODE"')
    return f"{market}:{codes[0]}"


def split(*symbols: Symbols) -> tuple[str, ...]:
    """Return the canonical symbols of all entries, each once, in order.

    Raises:
        ValueError: If an entry is malformed, or nothing is named.
    """
    found: dict[str, None] = {}
    for entry in cast("tuple[object, ...]", symbols):
        if not isinstance(entry, Iterable) or isinstance(entry, (bytes, bytearray)):
            raise _malformed(entry, "expected text")
        many = cast("Iterable[object]", entry)
        texts = (entry,) if isinstance(entry, str) else many
        for text in texts:
            if isinstance(text, str) and _is_plain(text):
                found[text] = None
                continue
            market, codes = _parse(text)
            found.update((f"{market}:{code}", None) for code in codes)
    if not found:
        raise ValueError('name at least one symbol, such as "US:AAPL"')
    return tuple(found)


def pack(symbols: Iterable[str]) -> list[str]:
    """Return the entries of the wire: one per market, codes separated by commas.

    >>> pack(["US:AAPL", "HK:700", "US:TSLA"])
    ['US:AAPL,TSLA', 'HK:700']
    """
    return pack_canonical(split(symbols))


def pack_canonical(symbols: Iterable[str]) -> list[str]:
    """Return the entries of the wire of canonical symbols, each of which is there once."""
    markets: dict[str, list[str]] = {}
    for symbol in symbols:
        market, _, code = symbol.partition(":")
        markets.setdefault(market, []).append(code)
    return [f"{market}:{','.join(codes)}" for market, codes in markets.items()]


def market_of(symbol: str) -> str:
    """Return the market of a canonical symbol."""
    return symbol.partition(":")[0]


def _parse(entry: object) -> tuple[str, list[str]]:
    if not isinstance(entry, str):
        raise _malformed(entry, "expected text")
    market, colon, rest = entry.strip().partition(":")
    if not colon:
        strange = next((char for char in entry if not char.isascii()), "")
        raise _malformed(entry, _unknown(strange) or "the market is missing")
    if not (market.isascii() and market.isalpha()):
        strange = next((char for char in market if not char.isascii()), "")
        why = _unknown(strange) or "a market is written in letters, such as US or HK"
        raise _malformed(entry, why)
    market = market.upper()
    if not _is_market(market):
        raise _malformed(entry, "a market has 2 to 8 letters, such as US or HK")
    if market not in _KNOWN and rest.strip().upper() in _KNOWN:
        raise _malformed(entry, "the market comes first")
    return market, [_code(market, code.strip(), entry) for code in rest.split(",")]


def _code(market: str, code: str, entry: str) -> str:
    if _repeats_market(market, code):
        raise _malformed(entry, "the market is written once, before the colon")
    if market != "HK" and _is_plain_code(code):
        return code
    if not code:
        raise _malformed(entry, "a code is empty")
    if ":" in code:
        why = "one entry holds one market; give each market its own"
        raise _malformed(entry, why, meant=_one_for_each(entry))
    if not _is_code(code):
        raise _malformed(entry, _unknown(next(c for c in code if not _is_code(c))))
    if not _has_letter_or_digit(code):
        raise _malformed(entry, "a code has a letter or digit")
    if len(code) > _LONGEST:
        why = f"a code has at most {_LONGEST} characters, not {len(code)}"
        raise _malformed(entry, why)
    if "//" in code:
        raise _malformed(entry, '"//" is in no symbol')
    if market == "HK" and code.isdigit():
        return code.lstrip("0") or "0"
    return code


def _unknown(char: str) -> str:
    """Return why a character is in no symbol, with its name; empty without one."""
    if not char:
        return ""
    if unicodedata.name(char, "").startswith("CJK UNIFIED"):
        return f'{char!r} is in no symbol; "qos search" finds the symbol of a name'
    name = unicodedata.name(char, "a control character")
    return (
        f"{char!r} ({name}) is in no symbol; a code has ASCII letters, digits and "
        f'{_MARKS}, no spaces, quotes or control characters; write "," between codes'
    )


_OR_SEVERAL = ' or "MARKET:CODE,CODE"'
_EXPECTED = f'"MARKET:CODE"{_OR_SEVERAL}'


def _one_for_each(entry: str) -> str | None:
    """Return ``US:AAPL HK:700`` for ``US:AAPL,HK:700``; None for anything else."""
    entries = [one.strip() for one in entry.split(",")]
    try:
        return " ".join(map(canonical, entries)) if len(entries) > 1 else None
    except ValueError:
        return None


def _malformed(
    entry: object, why: str, expected: str = _EXPECTED, *, meant: str | None = None
) -> ValueError:
    meant = meant or (suggest(entry) if isinstance(entry, str) else None)
    advice = f"did you mean {meant}?" if meant else 'such as "US:AAPL"'
    return ValueError(
        f"malformed symbol {entry!r}: {why} (expected {expected}; {advice})"
    )


# Spellings of other services

_SUFFIXES = {
    **dict.fromkeys(("US", "O", "OQ", "N", "XNAS", "XNYS"), "US"),
    **dict.fromkeys(("HK", "XHKG"), "HK"),
    **dict.fromkeys(("SH", "SS", "XSHG"), "SH"),
    **dict.fromkeys(("SZ", "XSHE"), "SZ"),
}
# Names of exchanges, before a code or after it: vnpy, gm and TradingView.
_OWNERS = {
    **_SUFFIXES,
    **dict.fromkeys(("NASDAQ", "NYSE", "AMEX", "ARCA", "SMART"), "US"),
    **dict.fromkeys(("SEHK", "HKEX"), "HK"),
    **dict.fromkeys(("SSE", "SHSE"), "SH"),
    "SZSE": "SZ",
}
_LONG = "|".join(name for name in _OWNERS if len(name) > len("US"))
_VENUES = "BINANCE|BYBIT|OKX|BITGET|KUCOIN|COINBASE|KRAKEN|OANDA|FX_IDC|FOREXCOM"
_FIAT = (
    "USD|EUR|GBP|JPY|CHF|AUD|NZD|CAD|CNY|CNH|HKD|SGD|SEK|NOK|DKK|MXN|ZAR|TRY|PLN|KRW"
)
_METAL = "XAU|XAG|XPT|XPD|XBR|XTI|XNG"


def _repeats_market(market: str, code: str) -> bool:
    return market in _SUFFIXES.values() and bool(_repeated(market).fullmatch(code))


@cache
def _repeated(market: str) -> re.Pattern[str]:
    """Return the pattern of codes with the market in them once more.

    As in HK:00700.HK and SH:SH600519: no service has those, but one may acknowledge them,
    and never push anything.
    """
    names = "|".join(
        suffix
        for suffix, owner in _SUFFIXES.items()
        if owner == market and len(suffix) > 1
    )
    prefixed = "" if market == "US" else rf"|{market}\d+"
    return re.compile(rf"{market}\..+|.+\.(?:{names}){prefixed}", re.IGNORECASE)


# Upper-case texts and their symbols, the first that fits: futu, longbridge, yfinance,
# tushare and joinquant, vnpy, akshare, sina and eastmoney, ccxt and the exchanges.
_SPELLINGS = (
    (rf"({'|'.join(_KNOWN)}|{_LONG})[.:_ -]+([^:]+)", r"\1:\2"),
    (rf"([^:]+)[.:@]({'|'.join(_OWNERS)})", r"\2:\1"),
    (r"(\d+) (HK)(?: EQUITY)?", r"\2:\1"),
    (r"(SH|SZ|HK)(\d+)", r"\1:\2"),
    (r"(?:GB_|10[567]\.)(.+)", r"US:\1"),
    (r"1\.(\d{6})", r"SH:\1"),
    (r"0\.(\d{6})", r"SZ:\1"),
    (r"116\.(\d{5})", r"HK:\1"),
    (r"GC=F", "CM:XAUUSD"),
    (r"SI=F", "CM:XAGUSD"),
    (r"BZ=F", "CM:XBRUSD"),
    (r"CL=F", "CM:XTIUSD"),
    (r"NG=F", "CM:XNGUSD"),
    (rf"({_METAL})[/_-]?USD(?:=X)?", r"CM:\1USD"),
    (rf"({_FIAT})[/_-]?({_FIAT})(?:=X)?", r"FX:\1\2"),
    (rf"({_FIAT})=X", r"FX:USD\1"),
    (r"(?:[A-Z]+:)?([A-Z0-9]{2,15}?)[/_-]?USDT(?:[.:_-].*)?", r"CF:\1USDT"),
    (r"([A-Z0-9]{2,15}?)[/_-]USDC?(?:[.:_-].*)?", r"CF:\1USDT"),
    (r"\^(.+)", r"IX:\1"),
    (r"HSI", "IX:HSI"),
    (r"([569]\d{5})", r"SH:\1"),
    (r"([0-3]\d{5})", r"SZ:\1"),
    (r"(\d{1,5})", r"HK:\1"),
    (r"([A-Z]{1,5})", r"US:\1"),
    (r"([A-Z]{1,5})[.-]([A-Z])", r"US:\1.\2"),
)


def suggest(text: str) -> str | None:
    """Return the symbol that a spelling of another service probably means, or None.

    It knows the spellings of yfinance, futu, longbridge, tushare, akshare, vnpy,
    TradingView and ccxt. It is a guess for messages and searches: only the service knows
    which symbols there are.

    >>> [suggest(text) for text in ("0700.HK", "sh600519", "BTC/USDT", "aapl")]
    ['HK:700', 'SH:600519', 'CF:BTCUSDT', 'US:AAPL']
    """
    if len(text) > 2 * _LONGEST:
        return None
    cleaned = unicodedata.normalize("NFKC", text).strip().strip("'\"").upper()
    cleaned = re.sub(rf"^(?:{_VENUES}):", "", cleaned)
    for pattern, symbol in _SPELLINGS:  # Compiled, and kept, when first needed.
        if found := re.fullmatch(pattern, cleaned):
            market, _, code = found.expand(symbol).partition(":")
            market = _OWNERS.get(market, market)
            if _repeats_market(market, code):
                return suggest(code)
            if market == "HK":
                code = code.lstrip("0")
            return (
                f"{market}:{code}" if len(code) <= _LONGEST and _is_code(code) else None
            )
    return None
