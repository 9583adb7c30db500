"""What can go wrong on purpose: rules that wait for their turn, and a schedule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar

from msgspec import Struct

__all__ = [
    "SERVER_DOWN",
    "CannedResponse",
    "Close",
    "Cut",
    "FaultRules",
    "Mute",
    "ScheduledFault",
    "check_schedule",
]

T = TypeVar("T")


class Cut(Struct, frozen=True, kw_only=True):
    """Reset every link, ``after`` seconds from the start.

    Attributes:
        after: Seconds.
    """

    after: float


class Close(Struct, frozen=True, kw_only=True):
    """Close every link politely, ``after`` seconds from the start.

    Attributes:
        after: Seconds.
        code: The close code, such as 1001 for a server that goes away.
        reason: What goes with it.
    """

    after: float
    code: int = 1001
    reason: str = ""


class Mute(Struct, frozen=True, kw_only=True):
    """Fall silent ``after`` seconds from the start, for ``lasting`` seconds.

    Attributes:
        after: Seconds.
        lasting: Seconds.
    """

    after: float
    lasting: float


ScheduledFault = Cut | Close | Mute
"""A fault with its time, for ``Simulator(faults=[...])``; real seconds."""


class CannedResponse(Struct, frozen=True):
    """An HTTP answer made up in advance; without a status the connection is cut."""

    status: int | None
    body: bytes
    headers: Mapping[str, str]


SERVER_DOWN = CannedResponse(None, b"", {})
"""There is nobody there."""


def check_schedule(faults: Iterable[Any]) -> tuple[ScheduledFault, ...]:
    """Take a schedule.

    Raises:
        ValueError: For what is no fault; the message names it.
    """
    found = tuple(faults)
    for fault in found:
        if not isinstance(fault, ScheduledFault):
            raise ValueError(f"faults must be Cut, Close or Mute, not {fault!r}")  # noqa: TRY004 - as documented
    return found


class FaultRule(Struct, Generic[T]):
    """Something to do to the next ``count`` things of some types; None is for ever."""

    action: T
    types: frozenset[str] | None
    count: int | None


class FaultRules(Struct, Generic[T]):
    """Deeds of one kind, the oldest that fits first."""

    rules: list[FaultRule[T]]

    def add(
        self, deed: T, types: str | tuple[str, ...] | None, count: int | None
    ) -> None:
        """Do ``deed`` to the next ``count`` things of those types; None: to all."""
        named = (types,) if isinstance(types, str) else types
        wanted = None if named is None else frozenset(named)
        self.rules.append(FaultRule(deed, wanted, count))

    def next_action(self, type: str) -> T | None:
        """Give what is to be done to a thing of that type, and count it."""
        for turn in self.rules:
            if turn.types is not None and type not in turn.types:
                continue
            if turn.count is None:
                return turn.action
            turn.count -= 1
            if turn.count <= 0:
                self.rules.remove(turn)
            return turn.action
        return None
