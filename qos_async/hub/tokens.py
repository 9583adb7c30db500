"""Tokens: which clients may use a hub, and for what.

A file has one table for each client::

    [bot-1]
    token = "5f0c0e9f2d..."          # at least 16 characters
    symbols = 4                       # places of the plan reserved for it; 0 by default
    markets = ["US", "HK"]            # all by default
    channels = ["trade", "kline"]     # all by default
"""

from __future__ import annotations

import hmac
import logging
import os
import re
import stat
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any, cast

import msgspec
from msgspec import Struct

from qos_async._paths import check_readable, user_path, user_text
from qos_async._validation import check_whole
from qos_async.enums import Channel
from qos_async.symbols import market_of

__all__ = ["Token", "TokenFile", "Tokens"]

_log = logging.getLogger("qos_async.hub")

_LENGTH_MIN = 16
_TOKEN = re.compile(rf"[!-~]{{{_LENGTH_MIN},}}")  # What a header has unchanged.
_MARKET = re.compile(r"[A-Z]{1,4}")
_OTHERS_MAY_READ = stat.S_IRGRP | stat.S_IROTH


class Token(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One client's token, and what it may have.

    In a file each client has a table under its name, with these attributes as keys.

    Attributes:
        token: The secret, sent as the key: at least 16 characters.
        symbols: Places of the plan that are reserved for it.
        markets: The markets it may ask for; empty: all.
        channels: The channels it may subscribe; empty: all.

    Raises:
        ValueError: For a token that is too short, or values that cannot be.
    """

    token: str
    symbols: int = 0
    markets: tuple[str, ...] = ()
    channels: tuple[Channel, ...] = ()

    def __repr__(self) -> str:
        return "Token(***)"

    def __post_init__(self) -> None:
        _check_secret(self.token)
        fields: dict[str, Any] = {
            "symbols": check_whole("symbols", self.symbols, least=0),
            "markets": tuple(map(_market, _words("markets", self.markets))),
            "channels": tuple(map(_channel, _words("channels", self.channels))),
        }
        for name, value in fields.items():
            msgspec.structs.force_setattr(self, name, value)

    def refusal(self, symbols: Iterable[str], channel: Channel | None) -> str | None:
        """Return why it may not have these, or None if it may."""
        if channel is not None and self.channels and channel not in self.channels:
            return f"Not allowed for this token: the channel {channel}."
        if not self.markets:
            return None
        others = sorted({market_of(one) for one in symbols} - {*self.markets})
        return f"Not allowed for this token: {', '.join(others)}." if others else None


def _check_secret(token: object) -> None:
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise ValueError(
            f"a token has at least {_LENGTH_MIN} characters of ASCII, no spaces; "
            'python -c "import secrets; print(secrets.token_hex(16))" prints one'
        )


def _words(name: str, value: object) -> tuple[object, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ValueError(f"{name} must be a list, such as [{str(value)!r}]")  # noqa: TRY004 - as for every wrong argument
    return tuple(cast("Iterable[object]", value))


def _market(value: object) -> str:
    if not isinstance(value, str) or not _MARKET.fullmatch(value.upper()):
        raise ValueError(f"{value!r} is no market: US, HK, SH, SZ, CF and so on")
    return value.upper()


def _channel(value: object) -> Channel:
    try:
        return Channel(cast("str", value))
    except ValueError:
        allowed = ", ".join(Channel)
        raise ValueError(f"{value!r} is no channel: {allowed}") from None


class Tokens:
    """The tokens in force, by the name of their client.

    Args:
        tokens: By name.
        places: The places of the plan.

    Raises:
        ValueError: If there are no tokens, two clients have the same, or they reserve
            more places than there are.
    """

    def __init__(self, tokens: Mapping[str, Token], *, places: int) -> None:
        if not tokens:
            raise ValueError("it has no tokens: no client could connect")
        names: dict[str, str] = {}
        for name, one in tokens.items():
            _check_token(name, one)
            other = names.setdefault(one.token, name)
            if other != name:
                raise ValueError(
                    f"{other!r} and {name!r} have the same token: each needs its own"
                )
        self.by_name = dict(tokens)
        if sum(self.reserved.values()) > places:
            raise ValueError(
                f"the tokens reserve {sum(self.reserved.values())} places, and the plan "
                f"has {places} (see Limits(symbols=...))"
            )

    def find(self, key: str | None) -> tuple[str, Token] | None:
        """Return the name and the token of a key, or None.

        Every token is compared, each in constant time: the time of a refusal shows
        nothing of how much of a key was right.
        """
        given = (key or "").encode(errors="surrogateescape")
        found = None
        for name, token in self.by_name.items():
            if hmac.compare_digest(token.token.encode(), given):
                found = name, token
        return found

    @property
    def reserved(self) -> dict[str, int]:
        """The places that are reserved, by name."""
        return {name: one.symbols for name, one in self.by_name.items() if one.symbols}


class TokenFile:
    """A file of tokens, read again when it has changed.

    It logs a warning where other users may read the file.

    Args:
        path: A TOML file.
        places: The places of the plan.

    Raises:
        ValueError: If it cannot be read; the message has the reason, and no token.
    """

    def __init__(self, path: str | os.PathLike[str], *, places: int) -> None:
        self.path = user_path("tokens", path)
        self._places = places
        self._version = self._stat()
        self.tokens = self._read()

    def reload(self) -> str | None:
        """Read the file again if it has changed; return an error, which changes nothing."""
        version = self._stat()
        if version == self._version:
            return None
        self._version = version
        try:
            self.tokens = self._read()
        except ValueError as exc:
            return str(exc)
        return None

    def _stat(self) -> tuple[int, ...]:
        """Return what changes with the file; an empty tuple without a file."""
        try:
            found = self.path.stat()
        except OSError:
            return ()
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _read(self) -> Tokens:
        try:
            check_readable(self.path)
            content: dict[str, Any] = tomllib.loads(user_text(self.path.read_bytes()))
            mode = self.path.stat().st_mode
            tokens = {name: _token(name, one) for name, one in content.items()}
            found = Tokens(tokens, places=self._places)
        except OSError as exc:
            raise ValueError(f"cannot read {self.path}: {exc.strerror}") from None
        except UnicodeDecodeError:
            raise ValueError(
                f"{self.path} is not UTF-8 text: save it as such"
            ) from None
        except (ValueError, RecursionError) as exc:
            raise ValueError(f"{self.path}: {exc}") from None
        if os.name == "posix" and stat.S_ISREG(mode) and mode & _OTHERS_MAY_READ:
            _log.warning(
                "other users may read the tokens in %s: chmod 600 %s",
                self.path,
                self.path,
            )
        return found


def _check_token(name: str, value: object) -> None:
    if not isinstance(value, Token):
        raise ValueError(  # noqa: TRY004 - as for every wrong argument
            f"the token of {name!r} must be a Token(token=...), not "
            f"{type(value).__name__}"
        )


def _token(name: str, content: object) -> Token:
    try:
        return msgspec.convert(content, Token)
    except (ValueError, msgspec.ValidationError) as exc:
        raise ValueError(f"[{name}]: {exc}") from None
