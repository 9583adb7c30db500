"""The frame whose answer is awaited."""

from __future__ import annotations

from msgspec import Struct

from qos_async._core.registry import Change
from qos_async._core.wire import OPERATIONS, Reply

__all__ = ["PendingCommand"]


class PendingCommand(Struct, frozen=True):
    """The newest frame that left.

    Attributes:
        type: Its ``type``, such as ``"T"`` or ``"RS"``.
        due: When we stop waiting for its answer.
        reqid: None for heartbeats.
        change: What it subscribes or unsubscribes, if anything.
        symbols: What it is about.
    """

    type: str
    deadline: float
    reqid: int | None = None
    change: Change | None = None
    symbols: tuple[str, ...] = ()

    def matches(self, reply: Reply) -> bool:
        """Whether ``reply`` is the answer.

        Whether errors carry ``type`` and ``reqid`` is unknown: what is there must fit.
        """
        if reply.type in OPERATIONS:
            if reply.type != self.type:
                return False
        elif reply.ok:
            return False
        return reply.reqid is None or reply.reqid == self.reqid
