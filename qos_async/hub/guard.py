"""Guard: which requests a hub serves at all.

Any web page can open ``ws://localhost`` and post to it, and a name that it controls can
resolve to 127.0.0.1. So a request with a foreign ``Origin`` or ``Host`` is refused, on
loopback as well. Browsers send no ``Origin`` with what a page embeds (a script, an image,
a frame): that is refused by its ``Sec-Fetch-Site``. Addresses other than loopback need
tokens.
"""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Collection
from typing import cast
from urllib.parse import urlsplit

from aiohttp import web

from qos_async._server.parsing import find_key
from qos_async.hub.addresses import is_address
from qos_async.hub.tokens import Token, TokenFile, Tokens

__all__ = ["Guard"]

_log = logging.getLogger("qos_async.hub")

_NAME = re.compile(r"[a-z0-9._-]+")
# ``same-site`` is another port of this host; "none" is an address that a user typed.
_OF_A_PAGE = frozenset(["cross-site", "same-site"])
_HANDSHAKES_MAX = 50  # In a second, of one token; without tokens, of one address.


class Guard:
    """Checks requests, and finds the client that a token belongs to.

    Args:
        tokens: The tokens; None: any key is accepted.
        hosts: Host names, besides addresses and ``localhost``, that clients may use.

    Attributes:
        names: The host names, in lower case.

    Raises:
        ValueError: If one of them is no host name.
    """

    def __init__(
        self, tokens: Tokens | TokenFile | None, *, hosts: Collection[str] = ()
    ) -> None:
        self._tokens = tokens
        self.names = _checked_names(hosts)
        self._handshakes: dict[str, deque[float]] = {}

    @property
    def tokens(self) -> Tokens | None:
        """The tokens in force; a file is read again where it has changed."""
        if not isinstance(self._tokens, TokenFile):
            return self._tokens
        error = self._tokens.reload()
        if error is not None:
            _log.error("the tokens stay as they were: %s", error)
        return self._tokens.tokens

    def refusal(self, request: web.Request) -> str | None:
        """Return why a request is refused before its key is looked at, or None."""
        host = _host_name(request.headers.get("Host", ""))
        if not (is_address(host) or host == "localhost" or host in self.names):
            return "Not served under this host name."
        origin = request.headers.get("Origin")
        # A page of this very host is served; one of a file or a sandbox has "null".
        host_header = request.headers.get("Host", "").lower()
        foreign = origin is not None and _netloc(origin) != host_header
        if foreign or request.headers.get("Sec-Fetch-Site", "").lower() in _OF_A_PAGE:
            return "Not served to web pages."
        return None

    def client(self, request: web.Request) -> tuple[str, Token | None] | None:
        """Return the name and the token of a request's client; None for a wrong token."""
        tokens = self.tokens
        if tokens is None:
            return request.remote or "unknown", None
        return tokens.find(find_key(request)[0])

    def allows_handshake(self, owner: str, now: float) -> bool:
        """Count a handshake of a client; return False if there are too many."""
        times = self._handshakes.setdefault(owner, deque(maxlen=_HANDSHAKES_MAX))
        if len(times) == _HANDSHAKES_MAX and times[0] > now - 1.0:
            return False
        times.append(now)
        return True


def _checked_names(hosts: object) -> tuple[str, ...]:
    if isinstance(hosts, str) or not isinstance(hosts, Collection):
        raise ValueError(f"hosts must be a list of names, such as [{str(hosts)!r}]")  # noqa: TRY004 - as for every wrong argument
    return tuple(map(_checked_name, cast("Collection[object]", hosts)))


def _checked_name(name: object) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name.lower()):
        raise ValueError(
            f"{name!r} is no host name: give the name alone, such as 'hub.example.com', "
            "without a port"
        )
    return name.lower()


def _host_name(header: str) -> str:
    try:
        return (urlsplit(f"//{header}").hostname or "").lower()
    except ValueError:  # Brackets without an address.
        return ""


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
