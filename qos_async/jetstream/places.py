"""Places of streams: ``"nats://host:4222/STREAM"``, with the credentials for it.

Several servers of one cluster are ``"nats://a,nats://b/STREAM"``. Credentials come from
the environment, or stand before the host as in ``nats://user:password@host/STREAM``. They
show in no message and no ``repr``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

__all__ = [
    "Credentials",
    "ServerAddress",
    "ServerList",
    "StreamPlace",
    "is_stream",
    "parse_place",
]

_SCHEMES = ("nats", "tls")
_PORT = 4222
_is_place = re.compile(r"(?:nats|tls)://", re.IGNORECASE).match
_is_stream_name = re.compile(r"[A-Za-z0-9_-]{1,64}").fullmatch
# What stands where a port is expected: perhaps a password, if the host was forgotten.
_PORT_OR_SECRET = re.compile(r"([^:/\[\],]):(?!//|\d{1,5}(?:[,/]|$))[^,/\[\]]+")
_SHORTEST = 4
_EXAMPLE = '"nats://host:4222/STREAM"'


class Credentials:
    """What proves to the broker that this program may connect; its ``repr`` is empty.

    Attributes:
        user: The name of a user; empty for none.
        password: The password of that user.
        token: A token, instead of a user.
        file: The path of a credentials file (JWT and seed), instead of both.
    """

    __slots__ = ("file", "password", "token", "user")

    def __init__(
        self, *, user: str = "", password: str = "", token: str = "", file: str = ""
    ) -> None:
        self.user = user
        self.password = password
        self.token = token
        self.file = file

    def _key(self) -> tuple[str, ...]:
        return (self.user, self.password, self.token, self.file)

    def __bool__(self) -> bool:
        return any(self._key())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Credentials) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return "Credentials(...)"

    def redact(self, text: str) -> str:
        """Return ``text`` with ``***`` for each secret that is not part of many words."""
        for secret in (self.password, self.token):
            if len(secret) >= _SHORTEST:
                text = text.replace(secret, "***")
        return text


class ServerAddress(NamedTuple):
    """The address of one server."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class ServerList:
    """The servers of a cluster, in the order in which they are tried."""

    def __init__(self, servers: Iterable[ServerAddress]) -> None:
        self._untried = list(servers)
        self._tried: list[ServerAddress] = []

    @property
    def has_untried(self) -> bool:
        """Whether one was not tried since the last failure of all."""
        return bool(self._untried)

    def take(self) -> ServerAddress:
        """Return the one that was tried the longest ago."""
        if not self._untried:
            self.retry_all()
        server = self._untried.pop(0)
        self._tried.append(server)
        return server

    def retry_all(self) -> None:
        """Begin again with those that were tried."""
        self._untried += self._tried
        self._tried.clear()

    def add(self, servers: Iterable[ServerAddress]) -> None:
        """Add servers that the cluster named."""
        known = {*self._untried, *self._tried}
        self._untried += [server for server in servers if server not in known]
        self.retry_all()


class StreamPlace(NamedTuple):
    """A stream of a cluster.

    Attributes:
        servers: The servers that were named, at least one.
        stream: The name of the stream.
        tls: Whether a connection without TLS is refused.
        ca: The path of the certificates to trust; empty for those of the system.
        credentials: Credentials for each of the servers.
    """

    servers: tuple[ServerAddress, ...]
    stream: str
    tls: bool = False
    ca: str = ""
    credentials: Credentials = Credentials()

    def __str__(self) -> str:
        scheme = "tls" if self.tls else "nats"
        return f"{','.join(f'{scheme}://{one}' for one in self.servers)}/{self.stream}"

    def __repr__(self) -> str:
        return f"StreamPlace({str(self)!r})"

    def prefix(self, server: ServerAddress) -> str:
        """Return what names a server in a text with the place: none where it is alone."""
        return "" if self.servers == (server,) else f"{server}: "


def is_stream(place: str | os.PathLike[str]) -> bool:
    """Return whether a place is a stream, and not a directory."""
    return isinstance(place, str) and _is_place(place) is not None


def parse_place(place: str, environ: Mapping[str, str] | None = None) -> StreamPlace:
    """Return the parts of a place, with the credentials of the environment.

    ``QOS_NATS_USER`` and ``QOS_NATS_PASSWORD``, ``QOS_NATS_TOKEN`` or ``QOS_NATS_CREDS`` (a
    file) count unless the place has credentials itself; with ``QOS_NATS_CA`` (a file)
    every connection has to have TLS.

    Raises:
        ValueError: For anything else; the message shows no credentials.
    """
    environ = os.environ if environ is None else environ
    authorities, slash, stream = place.rpartition("/")
    if not slash or authorities.endswith(("/", ":")):
        raise _malformed(place, "the name of the stream is missing")
    if not _is_stream_name(stream):
        raise _malformed(
            place,
            "a stream is named by 1 to 64 ASCII letters, digits, _ and -",
        )
    parts = [_split(place, text) for text in _with_schemes(authorities)]
    schemes = {part.scheme.lower() for part in parts}
    if len(schemes) > 1:
        raise _malformed(place, "all servers need the same scheme, nats or tls")
    found = {_credentials(place, part) for part in parts}
    if len(found) > 1:
        raise _malformed(place, "all servers of a cluster need the same credentials")
    ca = _readable(environ, "QOS_NATS_CA")
    return StreamPlace(
        servers=tuple(dict.fromkeys(_address(part) for part in parts)),
        stream=stream,
        tls=bool(ca) or "tls" in schemes,
        ca=ca,
        credentials=found.pop() or _from_environment(environ),
    )


def _with_schemes(authorities: str) -> list[str]:
    """Return the text of each server; those without a scheme have the first one's."""
    scheme = authorities.partition("://")[0]
    texts = authorities.split(",")
    return [text if "://" in text else f"{scheme}://{text}" for text in texts]


def _split(place: str, text: str) -> SplitResult:
    part: SplitResult | None = None
    with suppress(
        ValueError
    ):  # Its text may have a password: it is no context of ours.
        part = urlsplit(text)
    if part is None or not _has_port(part):
        why = "a port is a number from 1 to 65535, and IPv6 stands in brackets"
        raise _malformed(place, why)
    if part.scheme.lower() not in _SCHEMES:
        raise _malformed(place, "expected nats:// or tls:// before each server")
    if not part.hostname or part.path or part.query or part.fragment:
        why = "a server is a host and a port"
        if part.path or part.query or part.fragment or "@" in text:
            why += (
                "; write other characters of a password as in URLs, such as %2F for /"
            )
        raise _malformed(place, why)
    return part


def _has_port(part: SplitResult) -> bool:
    """Return whether a port is left out or valid."""
    with suppress(ValueError):
        return part.port != 0
    return False


def _address(part: SplitResult) -> ServerAddress:
    return ServerAddress(part.hostname or "", part.port or _PORT)


def _credentials(place: str, part: SplitResult) -> Credentials:
    """Return the credentials before a host: a user and a password, or a token."""
    if part.username is None:
        return Credentials()
    user, password = unquote(part.username), unquote(part.password or "")
    if not user:
        raise _malformed(place, "a user is missing before the password")
    if part.password is None:
        return Credentials(token=user)
    return Credentials(user=user, password=password)


def _from_environment(environ: Mapping[str, str]) -> Credentials:
    user = environ.get("QOS_NATS_USER", "")
    password = environ.get("QOS_NATS_PASSWORD", "")
    token = environ.get("QOS_NATS_TOKEN", "")
    file = _readable(environ, "QOS_NATS_CREDS")
    given = [
        name
        for name, value in (
            ("QOS_NATS_USER", user or password),
            ("QOS_NATS_TOKEN", token),
            ("QOS_NATS_CREDS", file),
        )
        if value
    ]
    if len(given) > 1:
        raise ValueError(f"set only one of {' and '.join(given)}")
    if bool(user) != bool(password):
        raise ValueError("set both QOS_NATS_USER and QOS_NATS_PASSWORD")
    return Credentials(user=user, password=password, token=token, file=file)


def _readable(environ: Mapping[str, str], name: str) -> str:
    """Return the path of a file that an environment variable names; empty without one."""
    path = environ.get(name, "")
    if path and not (Path(path).is_file() and os.access(path, os.R_OK)):
        raise ValueError(f"{name} names {path}, which is not a file that can be read")
    return path


def _malformed(place: str, why: str) -> ValueError:
    return ValueError(
        f"malformed place {_shown(place)!r}: {why} (expected {_EXAMPLE}, or several "
        'servers: "nats://a,nats://b/STREAM")'
    )


def _shown(place: str) -> str:
    """Return a place without what may be credentials."""
    before, at, after = place.rpartition("@")
    if at:
        scheme, mark, _ = before.partition("://")
        return f"{scheme if mark else ''}{mark}***@{after}"
    return _PORT_OR_SECRET.sub(r"\1:***", place)
