"""Text from the server: escaped, cut, and mapped to exceptions."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qos_async._core.sanitize import (
    error_from_message,
    excerpt,
    is_about_pace,
    means_later,
    printable,
)
from qos_async.errors import AuthenticationError, LimitError, RejectedError


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("plain", "plain"),
        ("涨停\u3000板", "涨停\u3000板"),
        ("a\nb\x1b[0m", "a\\nb\\x1b[0m"),
        (b"\xff\x00", "\\xff\\x00"),
        ("\ud800", "\\ud800"),
    ],
)
def test_unprintable_characters_are_escaped(sent: str | bytes, shown: str):
    assert printable(sent) == shown


def test_long_text_is_cut_and_ends_with_an_ellipsis():
    assert printable("x" * 300) == "x" * 200 + "…"
    assert printable("x" * 5, 3) == "xxx…"
    assert printable("xxx", 3) == "xxx"


@given(st.one_of(st.text(), st.binary()), st.integers(1, 50))
def test_any_text_becomes_printable_and_short(text: str | bytes, length: int):
    shown = printable(text, length)
    obeyed = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert not any(unicodedata.category(char) in obeyed for char in shown)
    assert len(shown) <= length + 1


@pytest.mark.fault("P26")
@pytest.mark.parametrize("escape", ["", "&quot;"], ids=["plain", "escaped"])
@pytest.mark.parametrize("length", [7, 64, 72, 100, 128, 255, 256])
def test_no_part_of_a_key_remains_where_long_text_is_cut(length: int, escape: str):
    key = escape * length or "".join(chr(0x4E00 + at) for at in range(length))
    shown = excerpt((key * 3000).encode(), lambda text: text.replace(key, "***"))
    assert set(shown) == {"*", "…"} or shown == "…"


@pytest.mark.parametrize("size", [201, 5000, 16_384, 16_385, 100_000])
def test_the_beginning_of_long_text_is_shown(size: int):
    assert excerpt(b"x" * size, str) == "x" * 200 + "…"


@pytest.mark.parametrize(
    "words",
    [
        "Key expired.",
        "key invalid",
        "invalid key",
        "Invalid API key",
        "api key not found",
        "wrong api_key",
        "Unauthorized",
        "authentication failed",
        "密钥错误",
        "key 已过期",
    ],
)
def test_text_about_the_key_is_an_authentication_error(words: str):
    error = error_from_message(words, operation="T", symbols=("US:A",))
    assert type(error) is AuthenticationError
    assert words in str(error)
    assert "has not expired" in str(error)


@pytest.mark.parametrize(
    "words",
    [
        "rate limit",
        "quota used up",
        "too many codes",
        "too fast",
        "请求过于频繁",
        "超过上限",
        "exceeds the maximum",
    ],
)
def test_text_about_the_plan_is_a_limit_error(words: str):
    error = error_from_message(words, operation="T", symbols=("US:A",))
    assert type(error) is LimitError
    assert (error.message, error.operation, error.symbols) == (words, "T", ("US:A",))


@pytest.mark.fault("F1")
@pytest.mark.parametrize(
    "words",
    [
        "Request too frequent: at least 1 second between two.",
        "request too frequently",
        "too fast",
        "Too many requests",
        "rate limit exceeded",
        "rate limit",
        "Rate-limited",
        "Request rate exceeded",
        "slow down",
        "throttled",
        "Frequency limit exceeded",
        "Request frequency exceeds the limit",
        "at most 1 request per second: limit exceeded",
        "command sent too soon",
        "QPS limit",
        "minimum interval is 1 second between requests",
        "wait 1 second",
        "retry after 3 seconds",
        "try again in 2s",
        "请求过于频繁",
        "操作太频繁,请稍后再试",
        "请求频率过高",
        "频率超限",
        "超过请求频率限制",
        "请求过快",
        "请求过多",
        "请求次数超过限制",
        "每条请求最少间隔1秒",
        "请求间隔太短",
        "请1秒后再试",
        "您已被限流",
        "At most 1 request per second",
        "Minimum interval 1s",
        "Send interval must be >= 1 second",
        "1秒内只能发送一次",
        "一秒只能请求一次",
        "速率超限",
        "操作过于密集",
        "請求過於頻繁",
        "請求次數過多",
        "Maximum 10 requests per minute",
        "Exceeded 10 requests in 60 seconds",
        "Requests limited to 1/s",
        "触发速率限制",
        "10 requests per minute exceeded",
        "超過頻率限制",
        "interval between requests must be at least 1s",
        "minimum time between commands is 1 second",
        "limit 1 msg/s",
        "1 req/sec exceeded",
        "Command sent too early",
        "Less than 1 second since the last command",
        "Excessive requests",
        "message rate too high",
        "you have reached the per-minute request cap",
        "one command, once per second",
        "request limit reached, retry later",
        "Burst limit exceeded, retry later",
        "Speed limit exceeded",
        "请降低请求频率",
        "距离上次请求不足1秒",
    ],
)
def test_text_about_the_pace_means_later_and_is_a_limit_error(words: str):
    assert is_about_pace(words)
    assert means_later(words)
    assert type(error_from_message(words)) is LimitError


@pytest.mark.fault("F1")
@pytest.mark.parametrize(
    "words",
    [
        "try again later",
        "please retry later",
        "server busy",
        "Service is temporarily unavailable, please try again",
        "请稍后再试",
        "请稍候重试",
        "系统繁忙",
        "服务器忙",
        "服务暂时不可用,请重试",
        "Internal timeout, please retry",
        "the previous request is still being processed",
    ],
)
def test_text_of_a_busy_server_means_later(words: str):
    assert means_later(words)
    assert not is_about_pace(words)


@pytest.mark.fault("F1")
@pytest.mark.parametrize(
    "words",
    [
        "too many codes",
        "too many symbols",
        "Too many connections.",
        "超过上限",
        "exceeds the maximum",
        "quota used up",
        "daily quota exceeded, try again tomorrow",
        "too many requests today",
        "the plan allows 10 products",
        "订阅产品个数超过限制",
        "连接数超过上限",
        "超过套餐限制,请稍后再试",
        "今日请求次数超过限制",
        "每日请求频率超限",
        "no such code",
        "param error",
        "param error, please retry",
        "参数错误,请重试",
        "invalid kline interval: at least 1 minute",
        "Already subscribed: US:A",
        "internal error",
        "interval not supported",
        "K线间隔错误",
        "不支持的周期",
        "1 minute klines are not supported",
        "1 minute klines exceed the limit of your plan",
        "Each frame may have at most 10 symbols, 1 minute limit",
        "At most 5 connections",
        "Maximum 20 symbols per request",
        "At most 10 requests per day",
        "5 min klines: at most 1000 per request",
        "訂閱數量超過上限",
        "最多订阅20个产品",
        "5分钟K线超过限制",
        "invalid key",
        "count must be at most 1000",
        "Key expired, please try again later",
        "no such code: US:BUSY",
        "OK",
    ],
)
def test_other_text_does_not_mean_later(words: str):
    assert not means_later(words, ("US:BUSY",))


@pytest.mark.parametrize(
    "words",
    ["no such code", "param error", "monkey", "turkey invalidated", "internal error"],
)
def test_other_text_is_a_rejected_error(words: str):
    assert type(error_from_message(words)) is RejectedError


@pytest.mark.parametrize("words", ["", "\x00"])
def test_a_rejection_always_has_a_message(words: str):
    assert str(error_from_message(words)).strip()


@pytest.mark.fault("F23")
@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("No permission: US:TSLA", ("US:TSLA",)),
        ("No permission: US:TSLA,AAPL.", ("US:AAPL", "US:TSLA")),
        ("no permission for HK:00700", ("HK:700",)),
        ("unknown code TSLA", ("US:TSLA",)),
        ("unknown code BRK.B!", ("US:BRK.B",)),
        ("code 700 is unknown", ()),
        ("US:MSFT is unknown", ()),
        ("a code is unknown, A5", ()),
        ("codes error", ()),
        ("代码 00700 无权限", ("HK:700",)),
        ("代码 00700无权限", ("HK:700",)),
        ("no permission: 600519", ("SH:600519",)),
        ("no permission: 000001", ()),
        ("no permission: us:tsla and hk:00700", ("US:TSLA", "HK:700")),
        ("US:AAPL and TSLA are unknown", ("US:AAPL", "US:TSLA")),
    ],
)
def test_the_symbols_that_a_text_names_are_those_of_the_error(text, named):
    stocks = ("SH:600519", "SH:000001", "SZ:000001")
    requested = ("US:AAPL", "US:TSLA", "US:A", "US:BRK.B", "HK:700", *stocks)
    error = error_from_message(text, requested=requested)
    assert isinstance(error, RejectedError)
    assert error.symbols == named


def test_the_only_symbol_of_a_request_is_the_rejected_one():
    error = error_from_message("codes error", requested=["US:AAPL"])
    assert isinstance(error, RejectedError)
    assert error.symbols == ("US:AAPL",)
