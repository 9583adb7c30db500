"""What a ``fetch_*`` gives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sized
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec import Struct

from qos_async import frames

if TYPE_CHECKING:  # The first two are optional packages.
    import pandas as pd
    import polars as pl

    from qos_async.frames import Numbers

__all__ = ["Result"]

T = TypeVar("T")

_NAMES = 10


class Result(dict[str, T]):
    """Answers keyed by canonical symbol, in the order asked.

    Attributes:
        missing: The symbols asked for that the server left out, silently, as it
            does with codes it has no data for.
        kind: The class of the records; None if nobody said. It tells which columns a
            frame has when there is nothing in it.
    """

    __slots__ = ("kind", "missing")

    def __init__(
        self,
        asked: Iterable[str],
        found: Mapping[str, T],
        kind: type[Struct] | None = None,
    ) -> None:
        asked = tuple(asked)
        super().__init__((symbol, found[symbol]) for symbol in asked if symbol in found)
        self.missing: tuple[str, ...] = tuple(s for s in asked if s not in found)
        self.kind = kind

    def __repr__(self) -> str:
        missing = f", missing={self.missing!r}" if self.missing else ""
        return f"Result({super().__repr__()}{missing})"

    def _repr_html_(self) -> str | None:
        from qos_async.frames.intake import pairs  # noqa: PLC0415 - for notebooks only
        from qos_async.notebook import table  # noqa: PLC0415

        rows = [row for _, row in pairs(self)]
        kinds: set[type[Any]] = {type(row) for row in rows}
        if len(kinds) > 1 or not all(issubclass(one, Struct) for one in kinds):
            return None  # Notebooks fall back on the text.
        named = "".join(f" of {one.__name__}" for one in kinds)
        return table(rows, f"{_count(rows, 'record')}{named}, {self._told()}")

    def _told(self) -> str:
        told = _count(self, "symbol")
        if self.missing:
            more = ", …" if len(self.missing) > _NAMES else ""
            told += f"; missing: {', '.join(self.missing[:_NAMES])}{more}"
        return told

    def copy(self) -> Result[T]:
        """Make a shallow copy, ``missing`` included."""
        return Result((*self, *self.missing), self, self.kind)

    def __reduce__(self) -> tuple[object, ...]:
        return (Result, ((*self, *self.missing), dict(self), self.kind))

    def to_polars(
        self, *, numbers: Numbers = float, explode: bool = False
    ) -> pl.DataFrame:
        """Make a polars DataFrame with a row for each record, symbol after symbol.

        Arguments and errors are those of ``qos_async.frames.to_polars``.
        """
        return frames.to_polars(self, numbers=numbers, explode=explode)

    def to_pandas(
        self, *, numbers: Numbers = float, explode: bool = False
    ) -> pd.DataFrame:
        """Make a pandas DataFrame; all else as in ``to_polars``."""
        return frames.to_pandas(self, numbers=numbers, explode=explode)

    def to_arrow(self, *, numbers: Numbers = float, explode: bool = False) -> Any:
        """Make a ``pyarrow.Table``; all else as in ``to_polars``."""
        return frames.to_arrow(self, numbers=numbers, explode=explode)


def _count(things: Sized, name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"
