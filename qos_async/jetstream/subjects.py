"""Subjects of a stream: ``STREAM.<letter>.<market>.<code>[.<kt>]`` for topics.

Beside them ``STREAM.link.<recorder>`` has what happened to the link of a recorder, and
``STREAM.fence.<recorder>`` its epochs. Letters are capitals and these words are not, so
no topic has the subject of another kind.

NATS separates the tokens of a subject with ``.``, has ``*`` and ``>`` as wildcards in
subscriptions, and allows no white space. A code may have any character, so those that are
not plain are written as in URLs: ``BRK.B`` is ``BRK%2EB``.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from qos_async.topics import WireTopic

__all__ = [
    "MAX_CODE",
    "check_recorder",
    "escape",
    "fence_subject",
    "link_subject",
    "recorder_of",
    "topic_filter",
    "topic_of",
    "topic_subject",
    "unescape",
]

MAX_CODE = 200
"""Characters of an escaped code: a server closes links with lines of 4096 or more."""

LETTERS = "STDK"

_PLAIN = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_^/=+:$&~@#!,"
)
_is_plain = re.compile(r"[A-Za-z0-9_^/=+:$&~@#!,-]+").fullmatch
_is_recorder = re.compile(r"[A-Za-z0-9_-]{1,64}").fullmatch
_KINDS = ("link", "fence")


def escape(text: str) -> str:
    """Return a text as one token of a subject.

    Raises:
        ValueError: If it is empty, or too long once it is escaped.
    """
    token = text if _is_plain(text) else "".join(map(_escape_character, text))
    if not token:
        raise ValueError("a code is empty: it has no subject in a stream")
    if len(token) > MAX_CODE:
        raise ValueError(
            f"{text[:40]!r}... has {len(token)} characters in a subject, and at most "
            f"{MAX_CODE} are allowed"
        )
    return token


def _escape_character(char: str) -> str:
    if char in _PLAIN:
        return char
    return "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogatepass"))


def unescape(token: str) -> str:
    """Return the text of a token."""
    return unquote(token, errors="surrogatepass") if "%" in token else token


def topic_subject(stream: str, topic: WireTopic) -> str:
    """Return the subject of a topic.

    Raises:
        ValueError: If the market or the code is empty or too long.
    """
    market, _, code = topic.symbol.partition(":")
    subject = f"{stream}.{topic.letter}.{escape(market)}.{escape(code)}"
    return subject if topic.kt is None else f"{subject}.{topic.kt}"


def topic_of(subject: str) -> WireTopic | None:
    """Return the topic of a subject; None if it is not that of a topic."""
    _, *tokens = subject.split(".")
    if len(tokens) not in (3, 4) or len(tokens[0]) != 1 or tokens[0] not in LETTERS:
        return None
    letter, market, code, *rest = tokens
    if bool(rest) != (letter == "K"):
        return None
    kt = None
    if rest:
        if not (rest[0].isascii() and rest[0].isdigit()):
            return None
        kt = int(rest[0])
    try:
        return WireTopic(letter, f"{unescape(market)}:{unescape(code)}", kt)
    except UnicodeDecodeError:
        return None


def topic_filter(stream: str, letter: str = "*", market: str = "*") -> str:
    """Return the filter for all topics of a letter and a market, or of any."""
    return f"{stream}.{letter}.{market if market == '*' else escape(market)}.>"


def link_subject(stream: str, recorder: str) -> str:
    """Return the subject of what happened to the link of a recorder."""
    return f"{stream}.link.{recorder}"


def fence_subject(stream: str, recorder: str) -> str:
    """Return the subject of the epochs of a recorder."""
    return f"{stream}.fence.{recorder}"


def recorder_of(subject: str) -> str | None:
    """Return the recorder of a link or fence subject; None for other subjects."""
    _, *tokens = subject.split(".")
    if len(tokens) == len(_KINDS) and tokens[0] in _KINDS and _is_recorder(tokens[1]):
        return tokens[1]
    return None


def check_recorder(name: str) -> str:
    """Return the name of a recorder.

    Raises:
        ValueError: If it has other characters than letters, digits, ``_`` and ``-``.
    """
    if not _is_recorder(name):
        raise ValueError(
            f"{name!r} cannot be the name of a recorder: use 1 to 64 ASCII letters, "
            "digits, _ and -"
        )
    return name
