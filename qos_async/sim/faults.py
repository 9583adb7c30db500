"""What can go wrong on purpose: rules that wait for their turn, and a schedule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar

from msgspec import Struct

__all__ = ["GONE", "Close", "Cut", "Failure", "Mute", "Rules", "Scheduled", "scheduled"]

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


Scheduled = Cut | Close | Mute
"""A fault with its time, for ``Simulator(faults=[...])``; real seconds."""


class Failure(Struct, frozen=True):
    """An HTTP answer made up in advance; without a status the connection is cut."""

    status: int | None
    body: bytes
    headers: Mapping[str, str]


GONE = Failure(None, b"", {})
"""There is nobody there."""


def scheduled(faults: Iterable[Any]) -> tuple[Scheduled, ...]:
    """Take a schedule.

    Raises:
        ValueError: For what is no fault; the message names it.
    """
    found = tuple(faults)
    for fault in found:
        if not isinstance(fault, Scheduled):
            raise ValueError(f"faults must be Cut, Close or Mute, not {fault!r}")  # noqa: TRY004 - as documented
    return found


class Turn(Struct, Generic[T]):
    """Something to do to the next ``count`` things of some types; None is for ever."""

    deed: T
    types: frozenset[str] | None
    count: int | None


class Rules(Struct, Generic[T]):
    """Deeds of one kind, the oldest that fits first."""

    turns: list[Turn[T]]

    def add(
        self, deed: T, types: str | tuple[str, ...] | None, count: int | None
    ) -> None:
        """Do ``deed`` to the next ``count`` things of those types; None: to all."""
        named = (types,) if isinstance(types, str) else types
        wanted = None if named is None else frozenset(named)
        self.turns.append(Turn(deed, wanted, count))

    def take(self, type: str) -> T | None:
        """Give what is to be done to a thing of that type, and count it."""
        for turn in self.turns:
            if turn.types is not None and type not in turn.types:
                continue
            if turn.count is None:
                return turn.deed
            turn.count -= 1
            if turn.count <= 0:
                self.turns.remove(turn)
            return turn.deed
        return None
