"""One direction of a connection in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Literal, Protocol

from qos_async.testing.virtual.wires import Conditions

__all__ = ["End", "Pipe"]

End = Literal["reset", "end", "hole"]
"""How a link is cut: RST to both sides, FIN to both sides, or silence."""

_WINDOW = 256 * 1024  # What a kernel keeps for a reader that does not read.
_SLICED = 1e-6  # Seconds between two slices of one write.


class Ends(Protocol):
    """What a pipe lies between."""

    def pump(self) -> None:
        """Hear, as the writer, that there is room again."""

    def on_arrival(self, kind: str, data: bytes) -> None:
        """Get, as the reader, what was sent."""


class Pipe:
    """One direction of a connection: what is sent in comes out later, in order.

    Attributes:
        passed: How many bytes have been sent into it.
        cut_after: After how many such bytes the connection is cut; None: never.
        cut_how: How.
        window: How many bytes may be under way or wait for the reader.
    """

    def __init__(
        self,
        conditions: Conditions,
        source: Ends,
        target: Ends,
        name: str,
        *,
        cut: Callable[[End], None],
        accept: Callable[[], None],
    ) -> None:
        self.passed = 0
        self.cut_after: int | None = None
        self.cut_how: End = "reset"
        self.window = _WINDOW
        self._conditions, self._name = conditions, name
        self._source, self._target = source, target
        self._cut, self._accept = cut, accept
        self._under_way: deque[tuple[str, bytes]] = deque()
        self._last = 0.0
        self._kept: list[tuple[str, bytes]] | None = None
        self._discards = False
        self._unread = 0

    @property
    def room(self) -> int:
        """How many bytes the reader's window has room for."""
        return max(0, self.window - self._unread)

    def send(self, kind: str, data: bytes = b"") -> None:
        """Send bytes (``"data"``), or how it ends: ``"end"`` or ``"reset"``."""
        if self._discards:
            return
        self._unread += len(data)
        if self._kept is not None:
            self._kept.append((kind, data))
            return
        cut, behind = False, b""
        if kind == "data" and self.cut_after is not None:
            rest = max(0, self.cut_after - self.passed)
            cut, data, behind = len(data) >= rest, data[:rest], data[rest:]
        self.passed += len(data)
        if kind != "data":
            self._post(kind, b"")
        else:
            self._post_sliced(data)
        if cut:
            self.cut_after = None
            self._cut(self.cut_how)
            if behind and self._kept is not None:
                self._kept.append(("data", behind))

    def blackhole(self) -> None:
        """Keep what is sent from now on; what is under way arrives."""
        if self._kept is None:
            self._kept = []

    def restore(self) -> None:
        """Send on what was kept, in order."""
        kept, self._kept = self._kept or [], None
        for kind, data in kept:
            self._unread -= len(data)
            self.send(kind, data)

    def discard(self) -> None:
        """Lose whatever is sent from now on: there is no connection any more."""
        self._discards = True

    def consumed(self, count: int) -> None:
        """Hear that the reader took some bytes: the writer may go on."""
        self._unread -= count
        self._source.pump()

    def _post_sliced(self, data: bytes) -> None:
        most, draw = self._conditions.slice, self._conditions.wires.random
        while data:
            size = draw.randint(1, most) if most else len(data)
            self._post("data", data[:size])
            data = data[size:]
            if data:
                self._last += _SLICED

    def _post(self, kind: str, data: bytes) -> None:
        wires, merge = self._conditions.wires, self._conditions.merge
        at = max(wires.now + self._conditions.delay(), self._last)
        if merge:
            at = -(-at // merge) * merge
        self._last = at
        # A queue, for two arrivals of one moment must not change places.
        self._under_way.append((kind, data))
        wires.deliver(at, self._arrive)

    def _arrive(self) -> None:
        kind, data = self._under_way.popleft()
        self._conditions.wires.note(self._name, kind, len(data))
        if kind == "open":
            self._accept()
        else:
            self._target.on_arrival(kind, data)
