"""What a ``fetch_*`` gives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

__all__ = ["Result"]

T = TypeVar("T")


class Result(dict[str, T]):
    """Answers keyed by canonical symbol, in the order asked.

    Attributes:
        missing: The symbols asked for that the server left out, silently, as it
            does with codes it has no data for.
    """

    __slots__ = ("missing",)

    def __init__(self, asked: Iterable[str], found: Mapping[str, T]) -> None:
        asked = tuple(asked)
        super().__init__((symbol, found[symbol]) for symbol in asked if symbol in found)
        self.missing: tuple[str, ...] = tuple(s for s in asked if s not in found)

    def __repr__(self) -> str:
        missing = f", missing={self.missing!r}" if self.missing else ""
        return f"Result({super().__repr__()}{missing})"

    def copy(self) -> Result[T]:
        """Make a shallow copy, ``missing`` included."""
        return Result((*self, *self.missing), self)

    def __reduce__(self) -> tuple[object, ...]:
        return (Result, ((*self, *self.missing), dict(self)))
