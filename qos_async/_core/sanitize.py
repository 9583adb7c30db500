"""Text sanitizer: makes the server's text safe for logs, terminals and errors.

It also maps the text of an error to an exception class: the server sends no error
codes.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable

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
_ABOUT_THE_KEY = re.compile(
    rf"(?<![:,\w])key\W+(?:\*\*\*\W+)?(?:(?:has|have|is|was|does|been)\W+)*(?:{_FAULTY})"
    r"|\b(?:expired|invalid|incorrect|wrong|unknown|missing|bad|no)\W+(?:api[ _-]?)?key"
    r"(?: (?:provided|supplied|given))?\W*$"
    r"|key ?(?:已|不)?(?:过期|无效|错误|存在)|unauthori[sz]ed\W*$|authentication (?:failed|error|required)|密钥",
    re.IGNORECASE,
)
# The Chinese words are: frequent, exceeds, goes beyond, upper limit, limit.
_ABOUT_THE_PLAN = re.compile(
    r"limit|quota|exceed|too (?:many|fast|frequent|often)|frequen|rate\b|maximum|throttl"
    r"|频|超过|超出|上限|限制",
    re.IGNORECASE,
)
# Of those, the ones about the pace: the same frame is accepted a moment later. Rules of
# a number of symbols or connections are not meant, nor a quota of a day. The Chinese
# words are: frequent, frequency (over, limited); too fast, too many requests, (wait for)
# some seconds, every second or minute, interval too short; day, month.
_ABOUT_THE_PACE = re.compile(
    r"too\W+(?:fast|frequent|often|quick|rapid|soon)|frequently|slow(?:ing)?\W+down"
    r"|(?:request|access|call|send|message|command|operation|limit|exceed|high)\w*"
    r"(?:\W+\w+){0,2}\W+frequenc|frequenc\w+\W+(?:\w+\W+)?(?:limit|exceed|control|high)"
    r"|\brate\b(?:\W+\w+)?\W+(?:limit|exceed)|\brate[-_ ]?limit|(?:exceed|limit|over)\w*"
    r"(?:\W+\w+){0,2}\W+rate\b|throttl|flood|cool(?:ing)?[- ]?down|\bqps\b"
    r"|too many (?:requests|messages|frames|commands|calls|operations)"
    r"|(?:per|a|each|every|one|\d)\W*(?:ms|millisecond|s|sec|second|minute|min)s?\b"
    r"(?=.*\b(?:between|apart|interval|limit|exceed|wait|least|most|again|retry|later)\b)"
    r"|(?:again|retry|wait|apart)\b(?:\W+\w+){0,3}?\W+(?:\d\S*|one|a|few|some)\W*"
    r"(?:ms|millisecond|s|sec|second|minute|moment|while)s?\b"
    r"|(?:request|command|frame|message)\w*\W+interval|interval\W+(?:is\W+)?too\W+short"
    r"|频[繁次]|频率.{0,4}[过超太限高]|[超过限].{0,6}频率|[过太]快|限[流速]|流控"
    r"|(?:请求|操作|访问|调用|发送)(?:次数|数量|数)?.{0,2}(?:[过太]多|超限|超出|超过)"
    r"|每秒|每分钟|秒.{0,6}(?:后|再|间隔)|间隔.{0,8}秒|间隔.{0,2}[过太]?短",
    re.IGNORECASE,
)
# A server that is only busy. The Chinese words are: later, busy.
_LATER = re.compile(
    r"(?:try|retry|send|request|come|back)\W+(?:\w+\W+){0,2}?(?:again|later)"
    r"|again later|\bbusy\b|overload|temporar\w+\W+unavailable|稍[后候後]|繁忙|忙碌",
    re.IGNORECASE,
)
_LONG_PERIOD = re.compile(
    r"\b(?:daily|today|tomorrow|month\w*|(?:per|a|each|every)\W+day)\b"
    r"|今[日天]|明[日天]|当[日天]|每[日天月]|本月",
    re.IGNORECASE,
)

_SYMBOLS = re.compile(r"\b[A-Z]{2}:[\w.,-]+", re.ASCII)
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
    if _ABOUT_THE_KEY.search(_without(message, (*requested, *symbols))):
        return AuthenticationError(
            f"the server rejected the API key: {message} "
            "(see QOS_API_KEY, or the key argument of Client)"
        )
    symbols = symbols or _named(message, tuple(requested))
    about_limits = _ABOUT_THE_PLAN.search(message) or is_about_pace(message)
    kind = LimitError if about_limits else RejectedError
    return kind(message, operation=operation, symbols=symbols)


def is_about_pace(message: str) -> bool:
    """Whether the server's text says that something was sent too soon after another."""
    return bool(_ABOUT_THE_PACE.search(message)) and not _LONG_PERIOD.search(message)


def means_later(message: str, requested: Iterable[str] = ()) -> bool:
    """Whether the server's text says that the same frame may be accepted a moment later.

    Args:
        message: The text.
        requested: The symbols of the request, which are ignored in the text.
    """
    text = _without(printable(message), requested)
    if _ABOUT_THE_KEY.search(text) or _LONG_PERIOD.search(text):
        return False
    busy = _LATER.search(text) and not _ABOUT_THE_PLAN.search(text)
    return bool(busy) or is_about_pace(text)


def _named(text: str, requested: tuple[str, ...]) -> tuple[str, ...]:
    """Return the requested symbols that a text names; the only one in any case.

    A text with ``US:AAPL,TSLA`` or ``HK:00700`` names symbols for certain. Without any of
    that kind, words such as ``AAPL`` do, unless they are numbers.
    """
    if len(requested) == 1:
        return requested
    written: set[str] = set()
    for match in _SYMBOLS.finditer(text):
        with contextlib.suppress(ValueError):
            written.update(split(match[0].rstrip(".,")))
    found = tuple(symbol for symbol in requested if symbol in written)
    words = set(_WORDS.findall(text))
    codes = {symbol: symbol.partition(":")[2] for symbol in requested}
    return found or tuple(
        symbol
        for symbol, code in codes.items()
        if code in words and len(code) > 1 and not code.isdigit()
    )


def _without(text: str, symbols: Iterable[str]) -> str:
    for symbol in symbols:
        code = re.escape(symbol.partition(":")[2])
        text = re.sub(rf"(?:\b[A-Z]+:)?(?<!\w){code}(?!\w)", "", text)
    return text
