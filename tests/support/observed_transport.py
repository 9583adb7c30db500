"""Observed transport: reports dials, links and frames to an ``InvariantChecker``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from qos_async._io.transport import Socket, Transport
from tests.support.invariants import InvariantChecker
from tests.support.observations import ObservedLink

__all__ = ["ObservedTransport"]


class ObservedTransport:
    """A transport whose links are observed."""

    def __init__(self, inner: Transport, checker: InvariantChecker) -> None:
        self._inner = inner
        self._checker = checker

    async def dial(self) -> Socket:
        """Dial, and return an observed socket."""
        checker = self._checker
        checker.on_dial()
        try:
            socket = await self._inner.dial()
        finally:
            checker.dialling -= 1
        checker.open_links += 1
        return _ObservedSocket(socket, checker, checker.on_open())


class _ObservedFrames(Sequence[bytes]):
    """Frames that are reported when they are read, not when they arrive."""

    def __init__(
        self, frames: Sequence[bytes], checker: InvariantChecker, link: ObservedLink
    ) -> None:
        self._frames = frames
        self._checker = checker
        self._link = link

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, place: Any) -> Any:
        part = self._frames[place]
        for raw in part if isinstance(place, slice) else [part]:
            self._checker.on_receive(self._link, raw)
        return part


class _ObservedSocket:
    def __init__(
        self, inner: Socket, checker: InvariantChecker, link: ObservedLink
    ) -> None:
        self._inner = inner
        self._checker = checker
        self._link = link

    def set_sync_handler(
        self,
        handler: Callable[[Sequence[bytes]], None],
        on_error: Callable[[BaseException], None],
    ) -> None:
        def observed(frames: Sequence[bytes]) -> None:
            for raw in frames:
                self._checker.on_receive(self._link, raw)
            handler(frames)

        self._inner.set_sync_handler(observed, on_error)

    async def receive(self) -> Sequence[bytes]:
        return _ObservedFrames(await self._inner.receive(), self._checker, self._link)

    async def send(self, frame: bytes) -> None:
        self._checker.on_send(self._link, frame)
        await self._inner.send(frame)

    async def close(self, *, graceful: bool) -> None:
        self._checker.on_close(self._link)
        try:
            await self._inner.close(graceful=graceful)
        finally:
            self._checker.open_links -= 1
