"""Configuration: URLs, limits and timing. Nothing here reads the environment."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import force_setattr

from qos_async._validation import check_number, check_whole

__all__ = [
    "HTTP_URL",
    "HUB_PATH",
    "KLINES_MAX",
    "STREAM_URL",
    "TRADES_MAX",
    "Limits",
    "Timing",
]

HTTP_URL = "https://api.qos.hk"
STREAM_URL = "wss://api.qos.hk/ws"
HUB_PATH = "/hub"
"""The path of the addresses of a ``qos_async.hub``, by which a client recognises one."""

TRADES_MAX = 50
"""The most trades in one request, and all that the server keeps (sections 4.5, 5.7)."""
KLINES_MAX = 1000
"""The most klines in one request (sections 4.6 and 4.7)."""

_HEARTBEAT_MAX = 30.0
_HEARTBEAT_SLACK = 2.0


class Limits(Struct, frozen=True, kw_only=True):
    """The limits of the plan (document, sections 4.0.2 and 5.0.2).

    Attributes:
        symbols: Distinct symbols in one request, and subscribed on one connection.
        connections: Websocket connections of one key.
        command_interval: Seconds between two frames, as the server sees them.
        http_requests: HTTP requests in any ``http_period``.
        http_period: The length of that period, in seconds.
    """

    symbols: int = 10
    connections: int = 1
    command_interval: float = 1.0
    http_requests: int = 10
    http_period: float = 60.0

    def __post_init__(self) -> None:
        for name in ("symbols", "connections", "http_requests"):
            force_setattr(self, name, check_whole(name, getattr(self, name)))
        for name in ("command_interval", "http_period"):
            seconds = check_number(name, getattr(self, name), unit="seconds")
            force_setattr(self, name, seconds)


class Timing(Struct, frozen=True, kw_only=True):
    """Intervals and timeouts of the client, in seconds.

    Attributes:
        heartbeat: Between two heartbeats; the service expects one every 10 to 30
            seconds (section 5.1).
        silence: Without an inbound frame for this long, the link is closed and
            replaced.
        request_timeout: For the reply to one request, over HTTP or the stream.
        connect_timeout: For name resolution, TCP, TLS and the upgrade together.
        backoff_initial: Upper bound of the first wait before dialling again; each
            failed attempt doubles the bound, and the wait is drawn at random below it.
        backoff_max: The largest bound; only a server that sends a time of its own
            (``Retry-After``) makes a wait longer.
        stable_after: A link that was open for less counts as a failed attempt.
        close_timeout: For the closing handshake, before the socket is aborted.
    """

    heartbeat: float = 15.0
    silence: float = 25.0
    request_timeout: float = 8.0
    connect_timeout: float = 15.0
    backoff_initial: float = 0.5
    backoff_max: float = 60.0
    stable_after: float = 60.0
    close_timeout: float = 3.0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            may_be_zero = name in ("backoff_max", "stable_after")
            seconds = check_number(
                name, getattr(self, name), above_zero=not may_be_zero, unit="seconds"
            )
            force_setattr(self, name, seconds)
        if self.silence <= self.heartbeat:
            raise ValueError(
                f"silence ({self.silence:g} s) must be longer than heartbeat "
                f"({self.heartbeat:g} s): between two heartbeats a link may be quiet"
            )
        self.check(Limits(command_interval=0.0))

    def check(self, limits: Limits) -> None:
        """Check that heartbeats stay under 30 s apart even behind a lost reply.

        Raises:
            ValueError: If they might not; the message has the values to lower.
        """
        worst = self.heartbeat + self.request_timeout + limits.command_interval
        if worst + _HEARTBEAT_SLACK > _HEARTBEAT_MAX:
            raise ValueError(
                f"heartbeat {self.heartbeat:g} s + request_timeout "
                f"{self.request_timeout:g} s + command_interval "
                f"{limits.command_interval:g} s + {_HEARTBEAT_SLACK:g} s of slack is "
                f"over the {_HEARTBEAT_MAX:g} s that the service allows between "
                "heartbeats: lower one of them"
            )
