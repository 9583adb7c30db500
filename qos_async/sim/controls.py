"""What a test does to a running simulator."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from qos_async.sim.blast import blast
from qos_async.sim.faults import (
    SERVER_DOWN,
    CannedResponse,
    Close,
    Cut,
    FaultRules,
    ScheduledFault,
)
from qos_async.sim.link import ServerConnection
from qos_async.sim.reading import encode
from qos_async.symbols import split

__all__ = ["FaultControls"]

Types = str | tuple[str, ...] | None


class FaultControls:
    """Faults at will. ``types`` are frame types (``"T"``) or paths (``"/trade"``).

    Without ``types`` a fault applies to everything; with ``count=None`` it lasts.
    ``link`` is a link's number; without it, all that are open are meant.
    """

    def __init__(self) -> None:
        self._audible = asyncio.Event()
        self._audible.set()
        self._is_down = False
        self._key_expired = False
        self._refused_symbols: dict[str, str] = {}
        self._refusals: FaultRules[str] = FaultRules([])
        self._delays: FaultRules[float] = FaultRules([])
        self._losses: FaultRules[bool] = FaultRules([])
        self._failures: FaultRules[CannedResponse] = FaultRules([])
        self._closed_doors: FaultRules[CannedResponse] = FaultRules([])

    @property
    def links(self) -> Sequence[ServerConnection]:
        """The open websockets, oldest first."""
        raise NotImplementedError

    def cut(self, link: int | None = None, *, reset: bool = True) -> None:
        """End connections without a goodbye: with RST, or with a plain FIN.

        The market goes on, so what is traded until the client is back is lost to it.
        """
        for one in self._select(link):
            one.cut(reset=reset)

    async def close(
        self, code: int = 1001, reason: str = "", *, link: int | None = None
    ) -> None:
        """Close politely; done when the client has answered, or after a second."""
        await asyncio.gather(*(one.close(code, reason) for one in self._select(link)))

    def mute(self, *, new_connections: bool = True) -> None:
        """Become a black hole: take everything, say nothing, not even a pong.

        With ``newcomers=False`` only the links of this moment go mute, and HTTP and
        new links are served. What is not said is held until ``unmute``.
        """
        if new_connections:
            self._audible.clear()
        for one in self.links:
            one.unmuted.clear()

    def unmute(self) -> None:
        """Speak again, beginning with all that was held."""
        self._audible.set()
        for one in self.links:
            one.unmuted.set()

    def go_down(self) -> None:
        """Be gone: every connection is cut, and so is every new one.

        The market goes on, so what is traded meanwhile is lost to the clients.
        """
        self._is_down = True
        self.cut()

    def come_back(self) -> None:
        """Serve again after ``go_down``."""
        self._is_down = False

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
        """Answer the next websocket upgrades with a status; None cuts them instead."""
        self._closed_doors.add(CannedResponse(status, body, headers or {}), None, count)

    def allow_upgrades(self) -> None:
        """Take back what ``refuse_upgrades`` ordered."""
        self._closed_doors = FaultRules([])

    def delay_replies(
        self, seconds: float, types: Types = None, count: int | None = None
    ) -> None:
        """Hold answers back, in real seconds; 0 for all types ends it."""
        if not seconds and types is None:
            self._delays = FaultRules([])
        else:
            self._delays.add(seconds, types, count)

    def drop_replies(self, types: Types = None, count: int | None = 1) -> None:
        """Obey, but do not answer."""
        self._losses.add(True, types, count)

    def reject(self, message: str, types: Types = None, count: int | None = 1) -> None:
        """Answer the next commands or requests with an error ``msg``."""
        self._refusals.add(message, types, count)

    def reject_symbols(
        self, *symbols: str | Iterable[str], message: str = "No permission"
    ) -> None:
        """Refuse every subscription and question that names one of these symbols.

        What is subscribed already goes on. The words of the answer are ``message`` and
        the symbols.

        Raises:
            ValueError: For a malformed symbol.
        """
        self._refused_symbols.update(dict.fromkeys(split(*symbols), message))

    def allow_symbols(self, *symbols: str | Iterable[str]) -> None:
        """Take symbols back into favour; without any, all of them."""
        for symbol in split(*symbols) if symbols else list(self._refused_symbols):
            self._refused_symbols.pop(symbol, None)

    def fail_http(
        self,
        status: int | None = 500,
        count: int | None = 1,
        *,
        body: bytes = b"<html><body>Internal Server Error</body></html>",
        headers: Mapping[str, str] | None = None,
        paths: Types = None,
    ) -> None:
        """Answer the next requests with a status and a body; None cuts them instead."""
        told = headers or {"Content-Type": "text/html"}
        self._failures.add(CannedResponse(status, body, told), paths, count)

    def push_garbage(
        self, frame: bytes = b"\xff\x00{", *, link: int | None = None
    ) -> None:
        """Push a text frame that need not be JSON, nor even text."""
        for one in self._select(link):
            one.send(frame)

    def push(self, content: Any, *, link: int | None = None) -> None:
        """Push any frame: bytes as they are, everything else as JSON."""
        self.push_garbage(
            content if isinstance(content, bytes) else encode(content), link=link
        )

    def expire_key(self) -> None:
        """Refuse the key from now on, with ``Key expired.``; open links stay open."""
        self._key_expired = True

    def renew_key(self) -> None:
        """Take the key again."""
        self._key_expired = False

    async def blast(self, frames: Iterable[bytes], total: int) -> int:
        """Push ready made JSON frames as fast as the sockets take them.

        They go to every open link, over and over in the order given, ``total`` to
        each. Gives the number of frames written; a link that dies gets fewer.
        """
        return await blast(list(self.links), frames, total)

    async def run_scheduled_fault(self, fault: ScheduledFault) -> None:
        """Wait for a scheduled fault's time, and let it happen."""
        await asyncio.sleep(fault.after)
        if isinstance(fault, Cut):
            self.cut()
        elif isinstance(fault, Close):
            await self.close(fault.code, fault.reason)
        else:
            self.mute()
            await asyncio.sleep(fault.lasting)
            self.unmute()

    def _door_answer(self) -> CannedResponse | None:
        return SERVER_DOWN if self._is_down else self._closed_doors.next_action("/ws")

    def _http_answer(self, path: str) -> CannedResponse | None:
        return SERVER_DOWN if self._is_down else self._failures.next_action(path)

    def _select(self, link: int | None) -> list[ServerConnection]:
        return [one for one in self.links if link is None or one.number == link]

    def _deliver(self, link: ServerConnection, type: str, answer: bytes) -> None:
        if self._losses.next_action(type):
            return
        delay = self._delays.next_action(type)
        if delay:
            link.send_later(answer, delay)
        else:
            link.send(answer)

    async def _pause(self, path: str) -> None:
        await asyncio.sleep(self._delays.next_action(path) or 0)
        await self._audible.wait()
        if self._losses.next_action(path):
            await asyncio.Event().wait()  # Until the client gives up.
