"""Every default, in one place. Nothing here reads the environment."""

from __future__ import annotations

from msgspec import Struct

from qos_async._numbers import is_finite

__all__ = ["HTTP_URL", "STREAM_URL", "Limits", "Timing"]

HTTP_URL = "https://api.qos.hk"
STREAM_URL = "wss://api.qos.hk/ws"

_HEARTBEAT_MAX = 30.0
_HEARTBEAT_SLACK = 2.0


class Limits(Struct, frozen=True, kw_only=True):
    """What the plan allows (document, sections 4.0.2 and 5.0.2).

    Attributes:
        symbols: Distinct symbols in one request, and subscribed on one connection.
        connections: Websocket connections of one key.
        command_interval: Seconds between two frames, as the server sees them.
        http_requests: HTTP requests in any ``http_period``.
        http_period: Seconds.
    """

    symbols: int = 10
    connections: int = 1
    command_interval: float = 1.0
    http_requests: int = 10
    http_period: float = 60.0

    def __post_init__(self) -> None:
        _at_least_one(self, "symbols", "connections", "http_requests")
        _not_negative(self, "command_interval", "http_period")


class Timing(Struct, frozen=True, kw_only=True):
    """How patient the client is, in seconds.

    Attributes:
        heartbeat: Between two heartbeats; the service wants one every 10 to 30
            seconds (section 5.1).
        silence: Without any inbound frame, the link counts as dead after this.
        request_timeout: For the answer to one request, over HTTP or the stream.
        connect_timeout: For name resolution, TCP, TLS and the upgrade together.
        backoff_initial: Upper bound of the first wait before dialling again; each
            failed attempt doubles the bound, and the wait is drawn below it.
        backoff_max: Where the doubling stops; only a server that names a time itself
            makes a wait longer.
        stable_after: A link that lived shorter counts as a failed attempt.
        close_timeout: For a polite goodbye, before the socket is cut.
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
        _positive(
            self,
            "heartbeat",
            "silence",
            "request_timeout",
            "connect_timeout",
            "backoff_initial",
            "close_timeout",
        )
        _not_negative(self, "backoff_max", "stable_after")
        if self.silence <= self.heartbeat:
            raise ValueError(
                f"silence ({self.silence:g} s) must be longer than heartbeat "
                f"({self.heartbeat:g} s): between two heartbeats a link may be quiet"
            )
        self.check(Limits(command_interval=0.0))

    def check(self, limits: Limits) -> None:
        """See that heartbeats stay under 30 s apart even behind a lost answer.

        Raises:
            ValueError: If they may not; the message says which values to lower.
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


def _at_least_one(values: Struct, *names: str) -> None:
    for name in names:
        value = getattr(values, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a whole number from 1, not {value!r}")


def _positive(values: Struct, *names: str) -> None:
    for name in names:
        value = getattr(values, name)
        if not is_finite(value) or value <= 0:
            raise ValueError(
                f"{name} must be a number of seconds above 0, not {value!r}"
            )


def _not_negative(values: Struct, *names: str) -> None:
    for name in names:
        value = getattr(values, name)
        if not is_finite(value) or value < 0:
            raise ValueError(
                f"{name} must be a number of seconds from 0, not {value!r}"
            )
