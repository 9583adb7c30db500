"""Symbols: canonical form, invalid entries, and entries of the wire."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qos_async import Topic, symbols
from qos_async.symbols import canonical, market_of, pack, split

markets = st.sampled_from(["US", "HK", "SH", "SZ", "CF", "FX"])
codes = st.from_regex(r"[.^-]{0,2}[ABC0179][ABC0179.^-]{0,4}", fullmatch=True)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("US:AAPL", "US:AAPL"),
        ("us:AAPL", "US:AAPL"),
        (" US : AAPL ", None),
        (" US:AAPL ", "US:AAPL"),
        ("US: AAPL", "US:AAPL"),
        ("US:aapl", "US:aapl"),
        ("US:BRK.B", "US:BRK.B"),
        ("US:USB", "US:USB"),
        ("US:US30", "US:US30"),
        ("US:BRK.AB", "US:BRK.AB"),
        ("US:HK.US.A", "US:HK.US.A"),
        ("US:X.N", "US:X.N"),
        ("HK:00700", "HK:700"),
        ("hk:09988", "HK:9988"),
        ("HK:700", "HK:700"),
        ("HK:00000", "HK:0"),
        ("HK:00700A", "HK:00700A"),
        ("SZ:000001", "SZ:000001"),
        ("SH:600519", "SH:600519"),
        ("CF:BTCUSDT", "CF:BTCUSDT"),
        ("ZZ:NEW", "ZZ:NEW"),
    ],
)
def test_the_market_is_in_capitals_and_hong_kong_has_no_leading_zeros(
    written: str, expected: str | None
):
    if expected is None:
        with pytest.raises(ValueError, match="malformed symbol"):
            canonical(written)
    else:
        assert canonical(written) == expected


MALFORMED: list[tuple[Any, str]] = [
    ("AAPL", "the market is missing"),
    ("", "the market is missing"),
    (":AAPL", "a market is written in letters"),
    ("U5:AAPL", "a market is written in letters"),
    ("ÜS:AAPL", "LATIN CAPITAL LETTER U WITH DIAERESIS"),
    ("US:", "a code is empty"),
    ("US: ", "a code is empty"),
    ("US:AAPL,", "a code is empty"),
    ("US:,AAPL", "a code is empty"),
    ("US:AAPL,,TSLA", "a code is empty"),
    ("US:AAPL,HK:700", "one entry holds one market"),
    ("US:A:B", "one entry holds one market"),
    ("US:AA PL", "no spaces, quotes or control characters"),
    ("US:AA\tPL", "no spaces, quotes or control characters"),
    ("US:AA\x00", "no spaces, quotes or control characters"),
    ("US:AA\u200b", "no spaces, quotes or control characters"),
    ("US:\ud800", "no spaces, quotes or control characters"),
    ('US:"A"', "no spaces, quotes or control characters"),
    ("US:A'", "no spaces, quotes or control characters"),
    ("US:A\\", "no spaces, quotes or control characters"),
    ("US:.", "a code has a letter or digit"),
    ("US:-", "a code has a letter or digit"),
    ("US:...", "a code has a letter or digit"),
    ("US:&&", "a code has a letter or digit"),
    ("HK:_", "a code has a letter or digit"),
    (f"US:{'A' * 65}", "a code has at most 64 characters, not 65"),
    (f"HK:{'1' * 5000}", "a code has at most 64 characters, not 5000"),
    (f"ZZ:{'1' * 5000}", "a code has at most 64 characters, not 5000"),
    ("HTTP://x", '"//" is in no symbol'),
    ("US:A//B", '"//" is in no symbol'),
    ("C:/Users/x", "a market has 2 to 8 letters"),
    ("ABCDEFGHI:X", "a market has 2 to 8 letters"),
    ("AAPL:US", "did you mean US:AAPL?"),
    ("tsla:us", "did you mean US:TSLA?"),
    ("HK:00700.HK", "did you mean HK:700?"),
    ("HK:HK.00700", "did you mean HK:700?"),
    ("HK:hk00700", "did you mean HK:700?"),
    ("SH:600519.SS", "did you mean SH:600519?"),
    ("SH:sh600519", "did you mean SH:600519?"),
    ("SZ:000001.SZ", "the market is written once, before the colon"),
    ("SZ:000001.XSHE", "the market is written once, before the colon"),
    ("US:AAPL.US", "did you mean US:AAPL?"),
    ("US:US.AAPL", "did you mean US:AAPL?"),
    (700, "expected text"),
    (None, "expected text"),
    (["US:AAPL"], "expected text"),
]


# Separators and letters of other keyboards, and what pages and spreadsheets leave behind.
STRANGE = {
    "US:AAPL\uff0cTSLA": "'\uff0c' (FULLWIDTH COMMA)",
    "US:AAPL\u3001TSLA": "'\u3001' (IDEOGRAPHIC COMMA)",
    "US:AAPL\u060cTSLA": "ARABIC COMMA",
    "US:AAPL\ufe50TSLA": "SMALL COMMA",
    "US:AAPL;TSLA": "';' (SEMICOLON)",
    "US:AAPL\uff1bTSLA": "FULLWIDTH SEMICOLON",
    "US:AAPL|TSLA": "VERTICAL LINE",
    "US:AAPL\u00b7TSLA": "MIDDLE DOT",
    "US\uff1aAAPL": "'\uff1a' (FULLWIDTH COLON)",
    "US\ufe55AAPL": "SMALL COLON",
    "\uff35\uff33:AAPL": "FULLWIDTH LATIN CAPITAL LETTER U",
    "US:\uff21APL": "FULLWIDTH LATIN CAPITAL LETTER A",
    "HK:\uff10\uff10\uff17\uff10\uff10": "FULLWIDTH DIGIT ZERO",
    "HK:\u0660\u0667": "ARABIC-INDIC DIGIT ZERO",
    "US:\u0410APL": "CYRILLIC CAPITAL LETTER A",
    "\u0405H:600519": "CYRILLIC CAPITAL LETTER DZE",
    "US:\u82f9\u679c": '"qos search" finds the symbol of a name',
    "\u817e\u8baf": '"qos search" finds the symbol of a name',
    "US:BRK\uff0eB": "FULLWIDTH FULL STOP",
    "US:BRK\u2013B": "EN DASH",
    "US:AAPL TSLA": "' ' (SPACE)",
    "US:AAPL\u00a0TSLA": "'\\xa0' (NO-BREAK SPACE)",
    "US:AAPL\u3000TSLA": "IDEOGRAPHIC SPACE",
    "US:AA\u200bPL": "ZERO WIDTH SPACE",
    "US:AAPL\u200d": "ZERO WIDTH JOINER",
    "US:AAPL\u2060": "WORD JOINER",
    "\ufeffUS:AAPL": "ZERO WIDTH NO-BREAK SPACE",
    "US:AAPL\ufeff": "ZERO WIDTH NO-BREAK SPACE",
    "US:\u202eLPAA": "RIGHT-TO-LEFT OVERRIDE",
    "US:AAPL\u200e": "LEFT-TO-RIGHT MARK",
    "US:AA\u00adPL": "SOFT HYPHEN",
    "US:AAPL\n\nTSLA": "'\\n' (a control character)",
    "US:AA\x7f": "a control character",
    "US:AA\x85PL": "a control character",
    "US:\u201cAAPL\u201d": "LEFT DOUBLE QUOTATION MARK",
    "US:`A`": "GRAVE ACCENT",
    "US:[A]": "LEFT SQUARE BRACKET",
    "US:A*": "ASTERISK",
    "US:A?": "QUESTION MARK",
    "US:<A>": "LESS-THAN SIGN",
    "US:A%20": "PERCENT SIGN",
}


@pytest.mark.fault("F10")
@pytest.mark.parametrize(("entry", "why"), STRANGE.items())
def test_a_character_that_is_in_no_symbol_is_named(entry: str, why: str):
    topic: Callable[[str], Topic] = partial(Topic, "trade")
    for read in (canonical, split, topic):
        with pytest.raises(ValueError, match="malformed symbol") as caught:
            read(entry)
        text = str(caught.value)
        assert why in text
        assert "is in no symbol" in text
        assert text.isprintable()


def test_a_letter_of_another_script_is_shown_as_it_is():
    with pytest.raises(ValueError, match="'贵' is in no symbol; \"qos search\" finds"):
        canonical("贵州茅台")


@pytest.mark.fault("F10")
@pytest.mark.parametrize(
    "code",
    ["BRK.B", "BRK/A", "BF-B", "BTC_USDT", "^GSPC", "ES=F", "M&M", "A+", "A#", "BAC$L"],
)
def test_marks_of_share_classes_indices_and_futures_are_part_of_a_code(code: str):
    assert canonical(f"ZZ:{code}") == f"ZZ:{code}"


@pytest.mark.parametrize(
    "symbol", [".SPX", "-1", f"{'A' * 64}", "_X", "US", "HK", "BTC-PERP"]
)
def test_a_code_may_begin_with_a_mark_and_be_named_as_a_market(symbol: str):
    assert canonical(f"US:{symbol}") == f"US:{symbol}"
    assert split([f"US:{symbol}"]) == (f"US:{symbol}",)


@pytest.mark.parametrize("space", [" ", "\t", "\r\n", "\u3000", "\xa0"])
def test_spaces_around_an_entry_and_its_codes_are_left_out(space: str):
    entry = f"{space}us:AAPL{space},{space}TSLA{space}"
    assert split(entry) == ("US:AAPL", "US:TSLA")


@pytest.mark.parametrize(("entry", "why"), MALFORMED)
def test_a_malformed_symbol_is_named_with_the_reason_and_the_shape_expected(
    entry: Any, why: str
):
    with pytest.raises(ValueError, match="malformed symbol") as caught:
        canonical(entry)
    text = str(caught.value)
    assert repr(entry) in text
    assert why in text
    assert '"MARKET:CODE"' in text


@pytest.mark.parametrize(
    ("entry", "why"), [row for row in MALFORMED if not isinstance(row[0], list)]
)
def test_a_malformed_entry_among_good_ones_is_named(entry: Any, why: str):
    with pytest.raises(ValueError, match="malformed symbol") as caught:
        split(["US:AAPL", entry, "US:TSLA"])
    assert repr(entry) in str(caught.value)
    assert why in str(caught.value)


def test_an_entry_that_is_neither_string_nor_list_is_named():
    with pytest.raises(ValueError, match="malformed symbol 700: expected text"):
        split(700)  # type: ignore[arg-type]


def test_canonical_accepts_a_single_symbol():
    with pytest.raises(ValueError, match="expected a single symbol"):
        canonical("US:AAPL,TSLA")


@pytest.mark.parametrize("nothing", [(), ([],), ([], ())])
def test_no_symbols_raise_with_an_example(nothing: Any):
    with pytest.raises(ValueError, match='at least one symbol, such as "US:AAPL"'):
        split(*nothing)


def test_entries_of_every_shape_are_split_in_order_and_each_once():
    found = split("US:AAPL,TSLA", ["HK:00700", "us:AAPL"], ("CF:BTCUSDT",))
    assert found == ("US:AAPL", "US:TSLA", "HK:700", "CF:BTCUSDT")
    assert split(name for name in ("US:B", "US:A")) == ("US:B", "US:A")


def test_symbols_are_packed_into_one_entry_per_market():
    assert pack(["US:AAPL", "HK:00700", "US:TSLA", "HK:700"]) == [
        "US:AAPL,TSLA",
        "HK:700",
    ]


def test_the_market_is_the_part_before_the_colon():
    assert market_of("US:AAPL") == "US"


@given(st.lists(st.tuples(markets, codes), min_size=1))
def test_packed_symbols_are_split_to_the_same_symbols(pairs: list[tuple[str, str]]):
    wanted = split(f"{market}:{code}" for market, code in pairs)
    packed = pack(wanted)
    assert sorted(split(packed)) == sorted(wanted)
    entries = [market_of(entry) for entry in packed]
    assert len(entries) == len(set(entries))


@given(st.one_of(st.text(), st.builds("{}:{}".format, markets, st.text())))
def test_any_string_raises_or_has_a_stable_canonical_form(text: str):
    try:
        found = split(text)
    except ValueError as exc:
        assert repr(text) in str(exc)  # noqa: PT017 - either outcome is right
    else:
        assert split(found) == found
        assert [canonical(symbol) for symbol in found] == list(found)


def test_the_public_names_are_there():
    assert {"canonical", "split", "pack"} <= set(symbols.__all__)


@pytest.mark.parametrize("wrong", [b"US:AAPL", bytearray(b"US:AAPL")])
def test_bytes_are_named_in_full(wrong):
    for entry in (wrong, [wrong]):
        with pytest.raises(ValueError, match=r"US:AAPL.*expected text"):
            split(entry)


@pytest.mark.parametrize(
    ("text", "symbol"),
    [
        ("AAPL", "US:AAPL"),
        (" aapl ", "US:AAPL"),
        ("US:aapl", "US:AAPL"),
        ("US\N{FULLWIDTH COLON}AAPL", "US:AAPL"),
        ("AAPL:US", "US:AAPL"),
        ("US.AAPL", "US:AAPL"),
        ("HK.00700", "HK:700"),
        ("AAPL.US", "US:AAPL"),
        ("700.HK", "HK:700"),
        ("0700.HK", "HK:700"),
        ("BRK-B", "US:BRK.B"),
        ("600519.SS", "SH:600519"),
        ("EURUSD=X", "FX:EURUSD"),
        ("JPY=X", "FX:USDJPY"),
        ("GC=F", "CM:XAUUSD"),
        ("^HSI", "IX:HSI"),
        ("BTC-USD", "CF:BTCUSDT"),
        ("600519.SH", "SH:600519"),
        ("000001.XSHE", "SZ:000001"),
        ("sh600519", "SH:600519"),
        ("600519", "SH:600519"),
        ("300750", "SZ:300750"),
        ("00700", "HK:700"),
        ("105.AAPL", "US:AAPL"),
        ("gb_aapl", "US:AAPL"),
        ("BTC/USDT", "CF:BTCUSDT"),
        ("BTC/USDT:USDT", "CF:BTCUSDT"),
        ("BTC-USDT-SWAP", "CF:BTCUSDT"),
        ("btcusdt", "CF:BTCUSDT"),
        ("EUR/USD", "FX:EURUSD"),
        ("XAUUSD", "CM:XAUUSD"),
        ("600519.SSE", "SH:600519"),
        ("000001.SZSE", "SZ:000001"),
        ("00700.SEHK", "HK:700"),
        ("SHSE.600519", "SH:600519"),
        ("SZSE.000001", "SZ:000001"),
        ("SSE:600519", "SH:600519"),
        ("HKEX:700", "HK:700"),
        ("NASDAQ:AAPL", "US:AAPL"),
        ("NYSE:BRK.B", "US:BRK.B"),
        ("XSHG:600519", "SH:600519"),
        ("BINANCE:BTCUSDT", "CF:BTCUSDT"),
        ("1.600519", "SH:600519"),
        ("0.000001", "SZ:000001"),
        ("116.00700", "HK:700"),
        ("700 HK", "HK:700"),
        ("HSI", "IX:HSI"),
        ("SZSE:000001", "SZ:000001"),
        ("BYBIT:ETHUSDT.P", "CF:ETHUSDT"),
        ("OANDA:EURUSD", "FX:EURUSD"),
        ("OANDA:XAUUSD", "CM:XAUUSD"),
        ("us:aapl", "US:AAPL"),
    ],
)
def test_a_spelling_of_another_service_suggests_a_symbol(text: str, symbol: str):
    assert symbols.suggest(text) == symbol
    assert symbols.canonical(symbol) == symbol


@pytest.mark.parametrize(
    "text", ["", ":", "US:", ":AAPL", "腾讯", "US:AAPL,TSLA", "430047.BJ", "A" * 10**6]
)
def test_a_text_that_could_be_anything_suggests_nothing(text: str):
    assert symbols.suggest(text) is None


@given(st.text())
def test_a_suggestion_is_a_canonical_symbol(text: str):
    meant = symbols.suggest(text)
    assert meant is None or symbols.canonical(meant) == meant


@pytest.mark.parametrize(
    "text", ["AAPL", "US.AAPL", "0700.HK", "600519.SS", "sh600519", "BTC/USDT"]
)
def test_an_error_suggests_what_a_spelling_means(text: str):
    with pytest.raises(ValueError, match="malformed symbol") as caught:
        symbols.split(text)
    assert f"did you mean {symbols.suggest(text)}?" in str(caught.value)


def test_the_error_of_a_single_symbol_does_not_recommend_several():
    with pytest.raises(ValueError, match="expected a single symbol") as caught:
        symbols.canonical("US:AAPL,TSLA")
    assert '"MARKET:CODE,CODE"' not in str(caught.value)
    assert "US:AAPL,TSLA" not in str(caught.value).removeprefix(
        "malformed symbol 'US:AAPL,TSLA'"
    )
