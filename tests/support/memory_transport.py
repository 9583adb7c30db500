"""An in-memory transport: scripted links to a server that a test controls."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Any
from unittest import mock

from qos_async import Client, Interrupted, Limits, Timing
from qos_async._io.transport import LinkClosed
from qos_async.errors import TransportError

__all__ = [
    "KEY",
    "Network",
    "Peer",
    "gaps_and_ticks",
    "kline",
    "opened",
    "snapshot",
    "trade",
]

KEY = "canary-7d1f+KEY/0"
"""The key of every test; the leak check fails a test in which it shows."""

Frame = dict[str, Any]
Responder = Callable[["Peer", Frame], "str | None"]

_MAX_SYNC = 128  # The largest batch that aiohttp's link passes to its handler at once.
_NO_PACE = Limits(command_interval=0.0)


def acknowledge(peer: Peer, frame: Frame) -> str | None:
    """Acknowledge every frame."""
    return "OK"


class Network:
    """A ``Transport`` whose dials have scripted outcomes, a link by default.

    Attributes:
        respond: Returns the reply to a frame: ``"OK"``, the text of a rejection, or None
            for no reply.
        script: Outcomes of the next dials: an exception to raise, None for a link, or
            the seconds until the link is open.
        latency: Seconds until a reply is sent.
        data: The ``data`` of replies to requests.
        peers: Every link so far, closed ones included.
        dialled_at: The loop time of each dial.
        sync_delivery: Whether small batches are passed to the handler as they are pushed,
            as aiohttp's link does; else they wait for ``receive``.
    """

    sync_delivery = True

    def __init__(
        self, *script: Any, respond: Responder = acknowledge, latency: float = 0.0
    ) -> None:
        self.script = deque(script)
        self.respond = respond
        self.latency = latency
        self.data: Any = []
        self.peers: list[Peer] = []
        self.dialled_at: list[float] = []
        self.on_link: Callable[[Peer], Any] | None = None
        self._changed = asyncio.Event()

    async def dial(self) -> Peer:
        self.dialled_at.append(asyncio.get_running_loop().time())
        outcome = self.script.popleft() if self.script else None
        if isinstance(outcome, BaseException):
            raise outcome
        await asyncio.sleep(outcome or 0)
        peer = Peer(self, len(self.peers))
        self.peers.append(peer)
        if self.on_link is not None:
            self.on_link(peer)
        self.notify()
        return peer

    @property
    def open_peers(self) -> list[Peer]:
        """The links that are open."""
        return [peer for peer in self.peers if peer.closed_gracefully is None]

    @property
    def frames(self) -> list[Frame]:
        """All frames that the client sent, over all links."""
        return [frame for peer in self.peers for frame in peer.sent]

    async def link(self, number: int = 0) -> Peer:
        """Wait for a link, by number from 0."""
        await self.until(lambda: len(self.peers) > number)
        return self.peers[number]

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for a condition that only a dial or a frame can change."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    def notify(self) -> None:
        self._changed.set()


class Peer:
    """A ``Socket``, and the server's end of it.

    Attributes:
        sent: The frames that the client sent.
        topics: The subscribed topics, as ``(letter, symbol, kt)``.
        closed_gracefully: Whether the client closed the link with a close frame; None
            while it is open.
        stops_reading: Set to let ``send`` block, as a server that stops reading does.
        close_delay: Seconds until the server answers a close frame.
    """

    def __init__(self, net: Network, number: int) -> None:
        self.net = net
        self.number = number
        self.sent: list[Frame] = []
        self.topics: dict[tuple[str, str, int | None], None] = {}
        self.closed_gracefully: bool | None = None
        self.stops_reading = False
        self.close_delay = 0.0
        self._next_index = 0
        self._inbound: deque[bytes | BaseException] = deque()
        self._arrived = asyncio.Event()
        self._handler: Callable[[Sequence[bytes]], None] | None = None
        self._on_error: Callable[[BaseException], None]
        self._awaited = False
        self._closed = asyncio.Event()

    # The client's end

    def set_sync_handler(
        self,
        handler: Callable[[Sequence[bytes]], None],
        on_error: Callable[[BaseException], None],
    ) -> None:
        if self.net.sync_delivery:
            self._handler, self._on_error = handler, on_error

    async def receive(self) -> list[bytes]:
        while not self._inbound:
            if self.closed_gracefully is not None:
                raise LinkClosed("closed by the client")
            self._arrived.clear()
            self._awaited = True
            try:
                await self._arrived.wait()
            finally:
                self._awaited = False
        if isinstance(self._inbound[0], BaseException):
            raise self._inbound[0]
        # All queued frames, without suspending, as in aiohttp.
        frames: list[bytes] = []
        while self._inbound and isinstance(frame := self._inbound[0], bytes):
            frames.append(frame)
            self._inbound.popleft()
        return frames

    async def send(self, frame: bytes) -> None:
        if self.stops_reading:
            try:
                async with asyncio.timeout(8.0):
                    await self._closed.wait()
            except TimeoutError:
                raise TransportError("the server stopped reading") from None
        if self.closed_gracefully is not None:
            raise TransportError("the connection broke while sending")
        content: Frame = json.loads(frame)
        self.sent.append(content)
        self.net.notify()
        message = self.net.respond(self, content)
        if message is not None:
            self._call_later(lambda: self.answer(content, message))

    async def close(self, *, graceful: bool) -> None:
        if self.closed_gracefully is None:
            self.closed_gracefully = graceful
        self._closed.set()
        self._arrived.set()
        self.net.notify()
        if graceful and self.close_delay:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.sleep(self.close_delay)

    # The server's end

    def push(self, *frames: Any) -> None:
        """Send frames: bytes as they are, everything else as JSON."""
        raw = [
            frame if isinstance(frame, bytes) else json.dumps(frame).encode()
            for frame in frames
        ]
        offered = self._awaited and not self._inbound and len(raw) <= _MAX_SYNC
        if offered and self._handler is not None:
            try:
                self._handler(raw)
            except BaseException as exc:  # noqa: BLE001 - as in the transport
                self._on_error(exc)
            return
        self._inbound.extend(raw)
        self._arrived.set()

    def answer(self, frame: Frame, message: str = "OK", **more: Any) -> None:
        """Reply to a frame, and track what is subscribed."""
        kind = frame["type"]
        reply = {"type": kind, "msg": message, "time": 1, **more}
        if "reqid" in frame:
            reply["reqid"] = frame["reqid"]
        if kind[0] == "R" and message == "OK":
            reply.setdefault("data", self.net.data)
        elif kind != "H" and message == "OK":
            self._apply(kind, frame)
        self.push(reply)

    def end(self, code: int | None = None, text: str = "the link was cut") -> None:
        """End the link, with a close code or without."""
        self._inbound.append(LinkClosed(text, code=code))
        self._arrived.set()

    async def next_frame(self, *types: str) -> Frame:
        """Wait for the next frame of these types; skip all others."""
        while True:
            await self.net.until(lambda: len(self.sent) > self._next_index)
            frame = self.sent[self._next_index]
            self._next_index += 1
            if frame["type"] in types:
                return frame

    def types(self, *ignored: str) -> list[str]:
        """Return the types of the sent frames, without heartbeats and ``ignored``."""
        return [f["type"] for f in self.sent if f["type"] not in ("H", *ignored)]

    def _apply(self, kind: str, frame: Frame) -> None:
        for entry in frame["codes"]:
            market, _, names = entry.partition(":")
            for name in names.split(","):
                topic = (kind[0], f"{market}:{name}", frame.get("kt"))
                if kind.endswith("C"):
                    self.topics.pop(topic, None)
                else:
                    self.topics[topic] = None

    def _call_later(self, action: Callable[[], None]) -> None:
        if self.net.latency:
            asyncio.get_running_loop().call_later(self.net.latency, action)
        else:
            action()


@contextlib.asynccontextmanager
async def opened(
    net: Network,
    *,
    limits: Limits = _NO_PACE,
    timing: Timing | None = None,
    jitter: float = 1.0,
    **options: Any,
) -> AsyncGenerator[Client, None]:
    """Open a client on an in-memory network; its random numbers are all ``jitter``."""
    with mock.patch("qos_async.client.AiohttpTransport", return_value=net):
        client = Client(KEY, limits=limits, timing=timing or Timing(), **options)
    client._stream._supervisor._rng = lambda: jitter
    async with client:
        yield client


async def gaps_and_ticks(events: AsyncIterator[Any]) -> AsyncGenerator[Any]:
    """Yield events without ``Interrupted``, for tests of gaps."""
    async for event in events:
        if not isinstance(event, Interrupted):
            yield event


def trade(price: object = 1, symbol: str = "US:AAPL", **more: Any) -> Frame:
    """Return a pushed trade as a JSON object."""
    return {"tp": "T", "c": symbol, "p": str(price), "v": "1", "ts": 1, "d": 1} | more


def snapshot(price: object = 1, symbol: str = "US:AAPL", **more: Any) -> Frame:
    """Return a pushed snapshot as a JSON object."""
    return {"tp": "S", "c": symbol, "lp": str(price), "ts": 1, "s": 0} | more


def kline(ts: int, close: object = 1, symbol: str = "US:AAPL", kt: int = 1) -> Frame:
    """Return a pushed kline as a JSON object."""
    price = str(close)
    bar = {"o": price, "h": price, "l": price, "cl": price, "v": "1"}
    return {"tp": "K", "c": symbol, "ts": ts, "kt": kt, **bar}
