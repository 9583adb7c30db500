"""Fault injection: the faults in force, the methods that order them, and schedules."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from msgspec import Struct

from qos_async._deprecation import renamed, renamed_options
from qos_async._server.parsing import encode
from qos_async.sim.connection import SimulatedConnection, blast
from qos_async.symbols import split

__all__ = [
    "CannedResponse",
    "Close",
    "Cut",
    "FaultControls",
    "FaultRules",
    "Faults",
    "Mute",
    "ScheduledFault",
    "check_schedule",
]

T = TypeVar("T")

Types = str | tuple[str, ...] | None


class Cut(Struct, frozen=True, kw_only=True):
    """Reset every link, ``after`` seconds from the start.

    Attributes:
        after: Seconds.
    """

    after: float


class Close(Struct, frozen=True, kw_only=True):
    """Close every link with a close frame, ``after`` seconds from the start.

    Attributes:
        after: Seconds.
        code: The close code, such as 1001 for a server that goes away.
        reason: The text in the close frame.
    """

    after: float
    code: int = 1001
    reason: str = ""


class Mute(Struct, frozen=True, kw_only=True):
    """Send nothing for ``lasting`` seconds, from ``after`` seconds after the start.

    Attributes:
        after: Seconds.
        lasting: Seconds.
    """

    after: float
    lasting: float


ScheduledFault = Cut | Close | Mute
"""A fault with its time, for ``Simulator(faults=[...])``; in real seconds."""


def check_schedule(faults: Iterable[Any]) -> tuple[ScheduledFault, ...]:
    """Return the faults as a tuple.

    Raises:
        ValueError: For an item of another type; the message shows it.
    """
    schedule = tuple(faults)
    for fault in schedule:
        if not isinstance(fault, ScheduledFault):
            raise ValueError(f"faults must be Cut, Close or Mute, not {fault!r}")  # noqa: TRY004 - as documented
    return schedule


class CannedResponse(Struct, frozen=True):
    """An HTTP response prepared in advance; with status None the connection is aborted."""

    status: int | None
    body: bytes = b""
    headers: Mapping[str, str] = {}


_SERVER_DOWN = CannedResponse(None)


class FaultRule(Struct, Generic[T]):
    """An action for the next ``count`` items of some types; None means no limit."""

    action: T
    types: frozenset[str] | None
    count: int | None


class FaultRules(Struct, Generic[T]):
    """Rules of one kind; the oldest that matches applies."""

    rules: list[FaultRule[T]] = []

    def add(self, action: T, types: Types, count: int | None) -> None:
        """Apply ``action`` to the next ``count`` items of the types; None: of all types."""
        names = (types,) if isinstance(types, str) else types
        accepted = None if names is None else frozenset(names)
        self.rules.append(FaultRule(action, accepted, count))

    def next_action(self, type: str) -> T | None:
        """Return the action for an item of that type, and count the item."""
        for rule in self.rules:
            if rule.types is not None and type not in rule.types:
                continue
            if rule.count is None:
                return rule.action
            rule.count -= 1
            if rule.count <= 0:
                self.rules.remove(rule)
            return rule.action
        return None


class Faults:
    """The faults in force, consulted by the protocol handlers. A new instance has none.

    Attributes:
        unmuted: Cleared while the server is a black hole.
        is_down: Whether every connection is aborted.
        is_key_expired: Whether the key is rejected as expired.
        rejected_symbols: The message for each symbol that is rejected.
        rejections: Messages for commands and requests that are rejected.
        delays: Seconds by which replies are delayed.
        drops: Replies that are not sent.
        responses: HTTP responses that replace the real ones.
        upgrade_responses: Responses that replace websocket handshakes.
    """

    def __init__(self) -> None:
        self.unmuted = asyncio.Event()
        self.unmuted.set()
        self.is_down = False
        self.is_key_expired = False
        self.rejected_symbols: dict[str, str] = {}
        self.rejections: FaultRules[str] = FaultRules()
        self.delays: FaultRules[float] = FaultRules()
        self.drops: FaultRules[bool] = FaultRules()
        self.responses: FaultRules[CannedResponse] = FaultRules()
        self.upgrade_responses: FaultRules[CannedResponse] = FaultRules()

    def upgrade_response(self) -> CannedResponse | None:
        """Return the response that replaces the next websocket handshake, if any."""
        if self.is_down:
            return _SERVER_DOWN
        return self.upgrade_responses.next_action("/ws")

    def http_response(self, path: str) -> CannedResponse | None:
        """Return the response that replaces the next one of a path, if any."""
        return _SERVER_DOWN if self.is_down else self.responses.next_action(path)

    def rejection(self, type: str) -> str | None:
        """Return the message with which the next item of a type is rejected, if it is."""
        if self.is_key_expired:
            return "Key expired."
        return self.rejections.next_action(type)

    def send_reply(self, link: SimulatedConnection, type: str, reply: bytes) -> None:
        """Send a reply, unless it is to be dropped or delayed."""
        if self.drops.next_action(type):
            return
        delay = self.delays.next_action(type)
        if delay:
            link.send_later(reply, delay)
        else:
            link.send(reply)

    async def delay_response(self, path: str) -> None:
        """Wait as long as an HTTP response is to be delayed; forever if it is dropped."""
        await asyncio.sleep(self.delays.next_action(path) or 0)
        await self.unmuted.wait()
        if self.drops.next_action(path):
            await asyncio.Event().wait()  # Until the client disconnects.


class FaultControls:
    """Methods that inject faults into a running server.

    ``types`` are frame types (``"T"``) or paths (``"/trade"``); without them a fault
    applies to everything. With ``count=None`` it lasts until it is ended. ``link`` is a
    link's number; without it, a method applies to all open links.
    """

    def __init__(self) -> None:
        self._faults = Faults()

    @property
    def links(self) -> Sequence[SimulatedConnection]:
        """The open websockets, oldest first."""
        raise NotImplementedError

    def cut(self, link: int | None = None, *, reset: bool = True) -> None:
        """End connections without a close frame: with RST, or with a plain FIN.

        The market goes on, so a disconnected client misses what is traded meanwhile.
        """
        for one in self._select(link):
            one.cut(reset=reset)

    async def close(
        self, code: int = 1001, reason: str = "", *, link: int | None = None
    ) -> None:
        """Close links with a close frame; returns once the client replied, or after 1 s."""
        await asyncio.gather(*(one.close(code, reason) for one in self._select(link)))

    @renamed_options(newcomers="new_connections")
    def mute(self, *, new_connections: bool = True) -> None:
        """Become a black hole: receive everything, send nothing, not even a pong.

        With ``new_connections=False`` only the links that are open now are muted; HTTP
        and new links are served. What is not sent is held until ``unmute``.
        """
        if new_connections:
            self._faults.unmuted.clear()
        for one in self.links:
            one.unmuted.clear()

    def unmute(self) -> None:
        """Send again, beginning with everything that was held."""
        self._faults.unmuted.set()
        for one in self.links:
            one.unmuted.set()

    def go_down(self) -> None:
        """Abort every connection, and every new one until ``come_back``.

        The market goes on, so the clients miss what is traded meanwhile.
        """
        self._faults.is_down = True
        self.cut()

    def come_back(self) -> None:
        """Accept connections again after ``go_down``."""
        self._faults.is_down = False

    async def outage(self, seconds: float) -> None:
        """Go down, and come back that many seconds later."""
        self.go_down()
        try:
            await asyncio.sleep(seconds)
        finally:
            self.come_back()

    def reject_upgrades(
        self,
        status: int | None = 503,
        count: int | None = 1,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> None:
        """Answer the next websocket upgrades with a status; None aborts them instead."""
        response = CannedResponse(status, body, headers or {})
        self._faults.upgrade_responses.add(response, None, count)

    def allow_upgrades(self) -> None:
        """End what ``reject_upgrades`` began."""
        self._faults.upgrade_responses.rules.clear()

    def delay_replies(
        self, seconds: float, types: Types = None, count: int | None = None
    ) -> None:
        """Delay replies, in real seconds; 0 for all types ends it."""
        if not seconds and types is None:
            self._faults.delays.rules.clear()
        else:
            self._faults.delays.add(seconds, types, count)

    def drop_replies(self, types: Types = None, count: int | None = 1) -> None:
        """Process commands and requests, but send no reply."""
        self._faults.drops.add(True, types, count)

    def reject(self, message: str, types: Types = None, count: int | None = 1) -> None:
        """Reject the next commands or requests with an error ``msg``."""
        self._faults.rejections.add(message, types, count)

    def reject_symbols(
        self, *symbols: str | Iterable[str], message: str = "No permission"
    ) -> None:
        """Reject every subscription and request that names one of these symbols.

        What is subscribed already stays so. The reply is ``message`` and the symbols.

        Raises:
            ValueError: For a malformed symbol.
        """
        self._faults.rejected_symbols.update(dict.fromkeys(split(*symbols), message))

    def allow_symbols(self, *symbols: str | Iterable[str]) -> None:
        """Stop rejecting the given symbols (default: all)."""
        rejected = self._faults.rejected_symbols
        for symbol in split(*symbols) if symbols else list(rejected):
            rejected.pop(symbol, None)

    def fail_http(
        self,
        status: int | None = 500,
        count: int | None = 1,
        *,
        body: bytes = b"<html><body>Internal Server Error</body></html>",
        headers: Mapping[str, str] | None = None,
        paths: Types = None,
    ) -> None:
        """Answer the next requests with a status and a body; None aborts them instead."""
        response = CannedResponse(
            status, body, headers or {"Content-Type": "text/html"}
        )
        self._faults.responses.add(response, paths, count)

    def push_garbage(
        self, frame: bytes = b"\xff\x00{", *, link: int | None = None
    ) -> None:
        """Push a text frame that need not be JSON, nor valid UTF-8."""
        for one in self._select(link):
            one.send(frame)

    def push(self, content: Any, *, link: int | None = None) -> None:
        """Push any frame: bytes as they are, everything else as JSON."""
        frame = content if isinstance(content, bytes) else encode(content)
        self.push_garbage(frame, link=link)

    def expire_key(self) -> None:
        """Reject the key from now on, with ``Key expired.``; open links stay open."""
        self._faults.is_key_expired = True

    def renew_key(self) -> None:
        """Accept the key again."""
        self._faults.is_key_expired = False

    async def blast(self, frames: Iterable[bytes], total: int) -> int:
        """Push prepared JSON frames as fast as the sockets accept them.

        They go to every open link, repeatedly in the given order, ``total`` to each.
        Returns the number of frames written; a link that is lost gets fewer.
        """
        return await blast(list(self.links), frames, total)

    async def run_scheduled_fault(self, fault: ScheduledFault) -> None:
        """Wait until a scheduled fault is due, and inject it."""
        await asyncio.sleep(fault.after)
        if isinstance(fault, Cut):
            self.cut()
        elif isinstance(fault, Close):
            await self.close(fault.code, fault.reason)
        else:
            self.mute()
            await asyncio.sleep(fault.lasting)
            self.unmute()

    answer_late = renamed("answer_late", delay_replies)
    garbage = renamed("garbage", push_garbage)
    lose_answers = renamed("lose_answers", drop_replies)
    refuse = renamed("refuse", reject)
    refuse_symbols = renamed("refuse_symbols", reject_symbols)
    refuse_upgrades = renamed("refuse_upgrades", reject_upgrades)
    suffer = renamed("suffer", run_scheduled_fault)

    def _select(self, link: int | None) -> list[SimulatedConnection]:
        return [one for one in self.links if link is None or one.number == link]
