"""Results of ``fetch_*``: records by symbol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sized
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec import Struct

if TYPE_CHECKING:  # Optional packages; and the core stands on results, not on frames.
    import pandas as pd
    import polars as pl

    from qos_async.frames import Numbers

__all__ = ["Result"]

T = TypeVar("T")

_NAMES = 10


class Result(dict[str, T]):
    """Records keyed by canonical symbol, in the order of the request.

    Attributes:
        missing: The requested symbols that the server left out, which it does silently
            with codes that it has no data for.
        kind: The class of the records, or None if unknown. It determines the columns of
            a frame of an empty result.
    """

    __slots__ = ("kind", "missing")

    def __init__(
        self,
        requested: Iterable[str],
        found: Mapping[str, T],
        kind: type[Struct] | None = None,
    ) -> None:
        requested = tuple(requested)
        super().__init__(
            (symbol, found[symbol]) for symbol in requested if symbol in found
        )
        self.missing: tuple[str, ...] = tuple(s for s in requested if s not in found)
        self.kind = kind

    def __repr__(self) -> str:
        missing = f", missing={self.missing!r}" if self.missing else ""
        return f"Result({super().__repr__()}{missing})"

    def _repr_html_(self) -> str | None:
        from qos_async.frames.column_values import items  # noqa: PLC0415 - for notebooks only
        from qos_async.notebook import records_table  # noqa: PLC0415

        rows = [row for _, row in items(self)]
        kinds: set[type[Any]] = {type(row) for row in rows}
        if len(kinds) > 1 or not all(issubclass(one, Struct) for one in kinds):
            return None  # Notebooks fall back on the text.
        named = "".join(f" of {one.__name__}" for one in kinds)
        return records_table(
            rows, f"{_count(rows, 'record')}{named}, {self._summary()}"
        )

    def _summary(self) -> str:
        summary = _count(self, "symbol")
        if self.missing:
            more = ", …" if len(self.missing) > _NAMES else ""
            summary += f"; missing: {', '.join(self.missing[:_NAMES])}{more}"
        return summary

    def copy(self) -> Result[T]:
        """Return a shallow copy, ``missing`` included."""
        return Result((*self, *self.missing), self, self.kind)

    def __reduce__(self) -> tuple[object, ...]:
        return (Result, ((*self, *self.missing), dict(self), self.kind))

    def to_polars(
        self, *, numbers: Numbers = float, explode: bool = False
    ) -> pl.DataFrame:
        """Return a polars DataFrame with a row for each record, symbol after symbol.

        Arguments and errors are those of ``qos_async.frames.to_polars``.
        """
        from qos_async.frames import to_polars  # noqa: PLC0415 - the core needs no frames

        return to_polars(self, numbers=numbers, explode=explode)

    def to_pandas(
        self, *, numbers: Numbers = float, explode: bool = False
    ) -> pd.DataFrame:
        """Return a pandas DataFrame; all else as in ``to_polars``."""
        from qos_async.frames import to_pandas  # noqa: PLC0415 - the core needs no frames

        return to_pandas(self, numbers=numbers, explode=explode)

    def to_arrow(self, *, numbers: Numbers = float, explode: bool = False) -> Any:
        """Return a ``pyarrow.Table``; all else as in ``to_polars``."""
        from qos_async.frames import to_arrow  # noqa: PLC0415 - the core needs no frames

        return to_arrow(self, numbers=numbers, explode=explode)


def _count(things: Sized, name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"
