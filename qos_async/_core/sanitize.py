"""Text sanitizer: makes the server's text safe for logs, terminals and errors.

It also maps the text of an error to an exception class: the server sends no error
codes.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable
from functools import cache

from qos_async import _printable
from qos_async.errors import AuthenticationError, LimitError, QosError, RejectedError
from qos_async.symbols import split

__all__ = ["error_from_message", "excerpt", "is_about_pace", "means_later", "printable"]

_LENGTH = 200
_EXCERPT_INPUT = 16_384
# A key has at most 256 characters; escaped for JSON or HTML, each takes up to 6.
_LONGEST_KEY = 256 * 6

# The server has no error codes, only text (section 5.0); of its texts one is public:
# "Key expired." An AuthenticationError ends the client, and "key" may also be a field
# or a symbol of the request, so only phrases that clearly mean the API key count. The
# Chinese words are: expired, invalid, error, exist; API key.
_FAULTY = (
    r"expired?|invalid|incorrect|wrong|unknown|missing|required|empty|illegal|disabled"
    r"|denied|refused|rejected|banned|过期|无效|错误"
    r"|not (?:found|exist|valid|recogni|active|authori)"
)
_ABOUT_THE_KEY = (
    rf"(?<![:,\w])key\W+(?:\*\*\*\W+)?(?:(?:has|have|is|was|does|been)\W+)*(?:{_FAULTY})"
    r"|\b(?:expired|invalid|incorrect|wrong|unknown|missing|bad|no)\W+(?:api[ _-]?)?key"
    r"(?: (?:provided|supplied|given))?\W*$"
    r"|key ?(?:已|不)?(?:过期|无效|错误|存在)|unauthori[sz]ed\W*$|authentication (?:failed|error|required)|密钥"
)
# The Chinese words are: frequent, exceeds, goes beyond, upper limit, limit.
_ABOUT_THE_PLAN = (
    r"limit|quota|exceed|too (?:many|fast|frequent|often)|frequen|rate\b|maximum|throttl"
    r"|[频頻]|超[过過出]|上限|限制"
)
_SOME = r"(?:\d[\d.]*|an?|one|few|some)"
_SHORT = r"(?:ms|milliseconds?|s|secs?|seconds?|min|minutes?)\b"
_SENT = r"(?:request|req|message|msg|frame|command|call|operation|access|quer(?:y|ies))"
# Of those, the ones about the pace: the same frame is accepted a moment later. Rules of
# a number of symbols or connections are not meant, nor a quota of a day, nor klines of
# a number of minutes.
_PACE_PATTERNS = (
    # Too often: too fast, too frequent.
    (
        r"too\W+(?:fast|frequent|often|quick|rapid|soon|early|dense)|frequently"
        r"|slow(?:ing)?\W+down"
    ),
    r"throttl|flood|cool(?:ing)?[- ]?down|\bqps\b|\bburst|speed\W+limit",
    # The frequency or the rate is limited or exceeded.
    rf"(?:{_SENT}|send|limit|exceed|high)\w*(?:\W+\w+){{0,2}}\W+frequenc",
    r"frequenc\w+\W+(?:\w+\W+)?(?:limit|exceed|control|high)",
    r"\brate\b(?:\W+\w+)?\W+(?:limit|exceed|(?:too|very)\W+high)|\brate[-_ ]?limit",
    r"(?:exceed|limit|over)\w*(?:\W+\w+){0,2}\W+rate\b",
    # A number of requests: too many; 10 requests per minute, in 60 seconds, 1/s.
    rf"(?:too many|excess(?:ive)?) {_SENT}|\bper\W+(?:second|minute)\W+{_SENT}",
    rf"\bonce\W+(?:per|an?|each|every)\W+(?:{_SOME}\W*)?{_SHORT}",
    rf"\b{_SENT}s?\W+(?:rate\W+)?limit\b.*\b(?:again|later)\b",
    (
        rf"\b{_SENT}s?\b.{{0,40}}?(?:\b(?:per|within|in|every|each|an?)\b|/)\W*"
        rf"(?:{_SOME}\W*)?{_SHORT}"
    ),
    # Per second, every 2 minutes, at least 1 second between two.
    (
        rf"\b(?:per|within|each|every)\W+(?:{_SOME}\W*)?{_SHORT}"
        r"(?=.*\b(?:limit|exceed|most|again|retry|later)\b)"
    ),
    rf"\b{_SOME}\W*{_SHORT}\W+(?:between|apart|since)",
    # The time or the interval between two commands is at least 1 second.
    rf"\bbetween\W+(?:\w+\W+)?{_SENT}.{{0,40}}?{_SOME}\W*{_SHORT}",
    # Wait 1 second; retry after 3 s.
    (
        rf"\b(?:again|retry|wait|apart)\b(?:\W+\w+){{0,3}}?\W+{_SOME}\W*"
        rf"(?:{_SHORT}|moment|while)"
    ),
    # The interval of requests, or one with a length: minimum interval 1s.
    rf"(?:{_SENT}|send)\w*\W+interval|interval\W+(?:is\W+)?too\W+short",
    rf"(?:minimum|min|least)\W+interval\W+(?:\w+\W+)?{_SOME}\W*{_SHORT}",
    # Frequent, dense; frequency (too high, over, limited); too fast; flow control.
    r"[频頻][繁次]|密集|[频頻]率.{0,4}[过過超太限高]|[超过過限降].{0,6}[频頻]率",
    r"[过過太]快|限[流速]|流控|速率.{0,2}[过過超限]|[触觸超].{0,3}速率",
    # Requests, operations, calls: too many, over the limit.
    (
        r"(?:[请請]求|操作|[访訪][问問]|[调調]用|[发發]送)(?:次[数數]|[数數]量|[数數])?.{0,2}"
        r"(?:[过過太]多|超限|超出|超[过過])"
    ),
    # Every second or minute; within one second only; after some seconds; the interval.
    r"每(?:秒|分[钟鐘])|[\d一](?:秒|分[钟鐘])(?:[内內之]|只).{0,8}[次一]",
    (
        r"秒.{0,6}(?:[后後]|再|[间間]隔)|[间間]隔.{0,8}秒|[间間]隔.{0,2}[过過太]?短"
        r"|不足.{0,4}秒"
    ),
)
_ABOUT_THE_PACE = "|".join(_PACE_PATTERNS)
# A server that is only busy. The Chinese words are: later, busy; unavailable, timeout,
# failure or exception, and retry.
_LATER = (
    r"(?:try|retry|send|request|come|back)\W+(?:\w+\W+){0,2}?(?:again|later)"
    r"|again later|(?:previous|last) (?:request|command|message|one) .{0,20}"
    r"\b(?:process|progress|pending|running|not\W+(?:yet\W+)?(?:finish|complet|answer))"
    r"|\bbusy\b|overload|temporar\w+\W+unavailable"
    r"|(?:unavailable|time\W?out|timed out|fail\w+)\W+(?:please\W+)?(?:re)?try\b"
    r"|稍[后候後]|忙|(?:不可用|超[时時]|失[败敗]|异常|異常).{0,4}重[试試]"
)
_LONG_PERIOD = (
    r"\b(?:daily|today|tomorrow|month\w*|(?:per|a|each|every)\W+day)\b"
    r"|今[日天]|明[日天]|当[日天]|每[日天月]|本月"
)

_SYMBOLS = re.compile(r"\b[A-Za-z]{2}:[\w.,-]+", re.ASCII)
_DIGITS_OF_A_CODE = 5
_WORDS = re.compile(r"[\w.-]*\w", re.ASCII)


def printable(data: bytes | str, length: int = _LENGTH) -> str:
    """Return the first ``length`` characters, with unprintable ones escaped.

    Text that was cut ends with ``…``. An escape counts with each of its characters.
    """
    text = data.decode("utf-8", "backslashreplace") if isinstance(data, bytes) else data
    return _printable.printable(text[:length])[:length] + (
        "…" if len(text) > length else ""
    )


def excerpt(data: bytes, redact: Callable[[str], str]) -> str:
    """Return the beginning of undecodable data, printable and without the API key."""
    # Redaction comes before the cut: it finds whole keys only, and half a key is still
    # a secret. Data of many megabytes must be cut before redaction, to bound the work;
    # then the last ``_LONGEST_KEY`` characters are dropped, as they may be half a key.
    text = redact(data[:_EXCERPT_INPUT].decode("utf-8", "backslashreplace"))
    if len(data) <= _EXCERPT_INPUT:
        return printable(text)
    return printable(text[:-_LONGEST_KEY]).removesuffix("…") + "…"


def error_from_message(
    message: str,
    *,
    operation: str = "",
    symbols: tuple[str, ...] = (),
    requested: Iterable[str] = (),
) -> QosError:
    """Return the exception for the server's error text.

    Args:
        message: The text, already redacted.
        operation: The operation that was rejected, such as ``"RS"`` or ``"/snapshot"``.
        symbols: The symbols that were rejected, where that is known; else those of
            the request that the text names.
        requested: All symbols of the request: they are ignored when the text is
            searched for "key", as a symbol may be called KEY.

    Returns:
        ``AuthenticationError`` if the text is about the API key, ``LimitError`` if it
        is about the plan's limits, else ``RejectedError``.
    """
    requested = tuple(requested)
    message = printable(message) or "rejected without a reason"
    if _is_in(_ABOUT_THE_KEY, _without(message, (*requested, *symbols))):
        return AuthenticationError(
            f"the server rejected the API key: {message} (check that it is complete and "
            "has not expired)"
        )
    symbols = symbols or _named(message, tuple(requested))
    about_limits = _is_in(_ABOUT_THE_PLAN, message) or is_about_pace(message)
    kind = LimitError if about_limits else RejectedError
    return kind(message, operation=operation, symbols=symbols)


def is_about_pace(message: str) -> bool:
    """Whether the server's text says that something was sent too soon after another."""
    return _is_in(_ABOUT_THE_PACE, message) and not _is_in(_LONG_PERIOD, message)


def means_later(message: str, requested: Iterable[str] = ()) -> bool:
    """Whether the server's text says that the same frame may be accepted a moment later.

    Args:
        message: The text.
        requested: The symbols of the request, which are ignored in the text.
    """
    text = _without(printable(message), requested)
    if _is_in(_ABOUT_THE_KEY, text) or _is_in(_LONG_PERIOD, text):
        return False
    busy = _is_in(_LATER, text) and not _is_in(_ABOUT_THE_PLAN, text)
    return busy or is_about_pace(text)


def _is_in(pattern: str, text: str) -> bool:
    return bool(_compiled(pattern).search(text))


@cache  # Not at import: that would take longer than all other modules together.
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


def _named(text: str, requested: tuple[str, ...]) -> tuple[str, ...]:
    """Return the requested symbols that a text names; the only one in any case.

    A text names a symbol as ``US:AAPL,TSLA`` or ``hk:00700``, or by its code alone, such
    as ``AAPL`` or ``00700``. A number counts from five digits on: others are counts or
    statuses.
    """
    if len(requested) == 1:
        return requested
    written: set[str] = set()
    for match in _SYMBOLS.finditer(text):
        with contextlib.suppress(ValueError):
            market, _, codes = match[0].rstrip(".,").partition(":")
            written.update(split(f"{market.upper()}:{codes}"))
    words = set(_WORDS.findall(_SYMBOLS.sub(" ", text)))
    owners: dict[str, list[str]] = {}
    for symbol in requested:
        for word in words:
            if _is_code(word, symbol):
                owners.setdefault(word, []).append(symbol)
    written.update(one[0] for one in owners.values() if len(one) == 1)
    folded = {symbol.upper() for symbol in written}
    return tuple(symbol for symbol in requested if symbol.upper() in folded)


def _is_code(word: str, symbol: str) -> bool:
    market, _, code = symbol.partition(":")
    if not code.isdigit():
        return word == code and len(code) > 1
    if not word.isdigit() or len(word) < _DIGITS_OF_A_CODE:
        return False
    return word.lstrip("0") == code.lstrip("0") if market == "HK" else word == code


def _without(text: str, symbols: Iterable[str]) -> str:
    for symbol in symbols:
        code = re.escape(symbol.partition(":")[2])
        text = re.sub(rf"(?:\b[A-Z]+:)?(?<!\w){code}(?!\w)", "", text)
    return text
