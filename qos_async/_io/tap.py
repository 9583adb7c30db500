"""Who may listen to a stream without taking part in it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Protocol, runtime_checkable

from qos_async._core.topics import Topic

__all__ = ["FrameObserver"]


@runtime_checkable
class FrameObserver(Protocol):
    """Is told what comes over the links. Called synchronously; never waits.

    ``qos_async.Recorder`` is one.
    """

    def attach(self, redact: Callable[[str], str]) -> None:
        """Belong to a client from now on; ``redact`` hides its key.

        Raises:
            ValueError: If it belongs to another.
        """
        ...

    def opened(self) -> None:
        """Hear that a link was opened."""
        ...

    def frames(self, frames: Sequence[bytes], size: int, *, plain: bool) -> None:
        """Hear what came together, just now.

        Args:
            frames: What; it does not change any more.
            size: Bytes of all of them.
            plain: Whether all are surely JSON.
        """
        ...

    def lost(self, reason: str) -> None:
        """Hear that the link was lost."""
        ...

    def subscribed(self, topics: Iterable[Topic]) -> None:
        """Hear what the server agreed to."""
        ...

    def unsubscribed(self, topics: Collection[Topic]) -> None:
        """Hear what nobody wants any more; there may be nothing."""
        ...

    async def aclose(self) -> None:
        """Be done: the client is closed. May be called again."""
        ...
