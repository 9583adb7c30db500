"""Credentials files of NATS: an operator, an account and a user, signed as ``nsc`` does."""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

__all__ = ["Authority"]


@cache
def _nkeys() -> Any:
    """Return the package, which some new Pythons lack."""
    return import_module("nkeys")


@dataclass(frozen=True)
class _Identity:
    seed: bytes
    public: str


def _identity(prefix: int) -> _Identity:
    seed = _nkeys().encode_seed(os.urandom(32), prefix)
    return _Identity(seed, _nkeys().from_seed(seed).public_key.decode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _token(issuer: _Identity, subject: str, name: str, claims: dict[str, Any]) -> str:
    header = _base64(json.dumps({"typ": "JWT", "alg": "ed25519-nkey"}).encode())
    body = {
        "jti": os.urandom(8).hex(),
        "iat": 1_700_000_000,
        "iss": issuer.public,
        "sub": subject,
        "name": name,
        "nats": {"version": 2, **claims},
    }
    text = f"{header}.{_base64(json.dumps(body).encode())}"
    return f"{text}.{_base64(_nkeys().from_seed(issuer.seed).sign(text.encode()))}"


class Authority:
    """An operator with one account.

    Attributes:
        configuration: The lines that a server needs.
    """

    def __init__(self) -> None:
        operator, self._account = (
            _identity(_nkeys().PREFIX_BYTE_OPERATOR),
            _identity(_nkeys().PREFIX_BYTE_ACCOUNT),
        )
        own = _token(operator, operator.public, "operator", {"type": "operator"})
        limits = dict.fromkeys(("subs", "data", "payload", "conn", "leaf"), -1)
        claims = {"type": "account", "limits": limits}
        account = _token(operator, self._account.public, "account", claims)
        system = _identity(_nkeys().PREFIX_BYTE_ACCOUNT)
        of_system = _token(operator, system.public, "system", claims)
        self.configuration = (
            f"operator: {own}\nresolver: MEMORY\nsystem_account: {system.public}\n"
            f"resolver_preload {{ {self._account.public}: {account}\n"
            f"{system.public}: {of_system} }}\n"
        )

    def credentials(self) -> str:
        """Return the text of a credentials file for a new user."""
        user = _identity(_nkeys().PREFIX_BYTE_USER)
        claims = {"type": "user", "subs": -1, "data": -1, "payload": -1}
        token = _token(self._account, user.public, "user", claims)
        return (
            f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n"
            "------END USER NKEY SEED------\n"
        )
