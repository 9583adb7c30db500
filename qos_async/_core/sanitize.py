"""Text from the server, made fit for a log, a terminal or an error."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from qos_async.errors import AuthenticationError, LimitError, QosError, RejectedError

__all__ = ["error_from_message", "excerpt", "printable"]

_LENGTH = 200
_LOOKED_AT = 16_384
_LONGEST_KEY = 256 * 6  # As long as it may be, each character escaped for JSON or HTML.

# The server has no error codes, only words; one text is public: "Key expired."
# What it says of a "key" may also be about a field of ours: a bad key ends all, so only
# what is plainly said of the API key counts.
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
_ABOUT_THE_PLAN = re.compile(
    r"limit|quota|exceed|too (?:many|fast|frequent|often)|frequen|rate\b|maximum|throttl"
    r"|频|超过|超出|上限|限制",
    re.IGNORECASE,
)


def printable(data: bytes | str, length: int = _LENGTH) -> str:
    """Cut text to ``length`` characters and escape what is not printable."""
    text = data.decode("utf-8", "backslashreplace") if isinstance(data, bytes) else data
    shown = "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode()
        for char in text[:length]
    )
    return shown[:length] + ("…" if len(text) > length else "")


def excerpt(data: bytes, redact: Callable[[str], str]) -> str:
    """Show the beginning of what nobody could read, without the key."""
    # Redacted before it is cut: half a key is still a secret. Where a long text must be
    # cut first, so must what may be such a half: with many keys in it, all that is left.
    text = redact(data[:_LOOKED_AT].decode("utf-8", "backslashreplace"))
    if len(data) <= _LOOKED_AT:
        return printable(text)
    return printable(text[:-_LONGEST_KEY]).removesuffix("…") + "…"


def error_from_message(
    message: str,
    *,
    operation: str = "",
    symbols: tuple[str, ...] = (),
    requested: Iterable[str] = (),
) -> QosError:
    """Turn the server's words into the error that says what can be done about it.

    Args:
        message: The words.
        operation: What was asked.
        symbols: What was refused, if that is known.
        requested: What it was about. A symbol may be called KEY.
    """
    message = printable(message) or "refused without a reason"
    if _ABOUT_THE_KEY.search(_without(message, (*requested, *symbols))):
        return AuthenticationError(
            f"the server refused the API key: {message} "
            "(see QOS_API_KEY, or the key argument of Client)"
        )
    kind = LimitError if _ABOUT_THE_PLAN.search(message) else RejectedError
    return kind(message, operation=operation, symbols=symbols)


def _without(text: str, symbols: Iterable[str]) -> str:
    for symbol in symbols:
        code = re.escape(symbol.partition(":")[2])
        text = re.sub(rf"(?:\b[A-Z]+:)?(?<!\w){code}(?!\w)", "", text)
    return text
