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
import os
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from qos_async._paths import user_path, user_text
from qos_async.enums import Channel
from qos_async.symbols import market_of

__all__ = ["Token", "TokenFile", "Tokens"]

_LENGTH_MIN = 16


class Token(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One client's token, and what it may have.

    In a file each client has a table under its name, with these attributes as keys.

    Attributes:
        token: The secret, sent as the key: at least 16 characters.
        symbols: Places of the plan that are reserved for it.
        markets: The markets it may ask for; empty: all.
        channels: The channels it may subscribe; empty: all.
    """

    token: str
    symbols: int = 0
    markets: tuple[str, ...] = ()
    channels: tuple[Channel, ...] = ()

    def __repr__(self) -> str:
        return "Token(***)"

    def __post_init__(self) -> None:
        if len(self.token) < _LENGTH_MIN or not self.token.isascii():
            raise ValueError(
                f"a token has at least {_LENGTH_MIN} characters of ASCII; "
                'python -c "import secrets; print(secrets.token_hex(16))" prints one'
            )
        markets = tuple(market.upper() for market in self.markets)
        msgspec.structs.force_setattr(self, "markets", markets)
        if self.symbols < 0:
            raise ValueError(f"symbols must be 0 or more, not {self.symbols}")

    def refusal(self, symbols: Iterable[str], channel: Channel | None) -> str | None:
        """Return why it may not have these, or None if it may."""
        if channel is not None and self.channels and channel not in self.channels:
            return f"Not allowed for this token: the channel {channel}."
        if not self.markets:
            return None
        others = sorted({market_of(one) for one in symbols} - {*self.markets})
        return f"Not allowed for this token: {', '.join(others)}." if others else None


class Tokens:
    """The tokens in force, by the name of their client.

    Args:
        tokens: By name.

    Raises:
        ValueError: If there are no tokens, or two clients have the same.
    """

    def __init__(self, tokens: Mapping[str, Token]) -> None:
        if not tokens:
            raise ValueError("it has no tokens: no client could connect")
        if len({one.token for one in tokens.values()}) < len(tokens):
            raise ValueError("two clients have the same token: each needs its own")
        self.by_name = dict(tokens)

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

    Args:
        path: A TOML file.

    Raises:
        ValueError: If it cannot be read; the message has the reason, and no token.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = user_path("tokens", path)
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
            content: dict[str, Any] = tomllib.loads(user_text(self.path.read_bytes()))
            return Tokens(
                {name: msgspec.convert(one, Token) for name, one in content.items()}
            )
        except OSError as exc:
            raise ValueError(f"cannot read {self.path}: {exc.strerror}") from None
        except UnicodeDecodeError:
            raise ValueError(
                f"{self.path} is not UTF-8 text: save it as such"
            ) from None
        except (ValueError, msgspec.ValidationError) as exc:
            raise ValueError(f"{self.path}: {exc}") from None
