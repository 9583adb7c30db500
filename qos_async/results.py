"""Results of ``fetch_*``: records by symbol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sized
from datetime import tzinfo
from typing import TYPE_CHECKING, Any, TypeVar, overload

from msgspec import Struct

from qos_async.enums import Interval
from qos_async.symbols import canonical, suggest

if TYPE_CHECKING:  # Optional packages; and the core stands on results, not on frames.
    import pandas as pd
    import polars as pl

    from qos_async.charts import Chart
    from qos_async.frames import Numbers

__all__ = ["Result"]

T = TypeVar("T")
D = TypeVar("D")

_NAMES = 10


class _NoRecordError(KeyError):
    def __str__(self) -> str:
        return str(self.args[0])  # Of a KeyError it is the repr.


class Result(dict[str, T]):
    """Records keyed by canonical symbol, in the order of the request.

    ``result[symbol]``, ``get`` and ``in`` take every spelling that ``canonical`` takes.

    Attributes:
        missing: The requested symbols that the server left out, which it does silently
            with codes that it has no data for.
        kind: The class of the records, or None if unknown. It determines the columns of
            a frame of an empty result.
        interval: Of klines, as requested; None for other records.
    """

    __slots__ = ("interval", "kind", "missing")

    def __init__(
        self,
        requested: Iterable[str],
        found: Mapping[str, T],
        kind: type[Struct] | None = None,
        interval: Interval | None = None,
    ) -> None:
        requested = tuple(requested)
        super().__init__(
            (symbol, found[symbol]) for symbol in requested if symbol in found
        )
        self.missing: tuple[str, ...] = tuple(s for s in requested if s not in found)
        self.kind = kind
        self.interval = interval

    def __missing__(self, key: object) -> T:
        if (symbol := self._symbol(key)) is not None:
            return self[symbol]
        raise _NoRecordError(self._advice(key))

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or self._symbol(key) is not None

    @overload
    def get(self, key: str, default: None = None, /) -> T | None: ...
    @overload
    def get(self, key: str, default: T, /) -> T: ...
    @overload
    def get(self, key: str, default: D, /) -> T | D: ...
    def get(self, key: str, default: Any = None, /) -> Any:
        """Return the record of a symbol in any spelling, or ``default``."""
        try:
            return self[key]
        except KeyError:
            return default

    def _symbol(self, key: object) -> str | None:
        """Return the key that another spelling of a symbol stands for."""
        symbol = _canonical(key)
        return symbol if super().__contains__(symbol) else None

    def _advice(self, key: object) -> str:
        meant = suggest(key) if isinstance(key, str) else None
        if meant is not None and super().__contains__(meant):
            return f"no record of {key!r}: did you mean {meant!r}?"
        if _canonical(key) in self.missing:
            return f"no record of {key!r}: the service sent none, see .missing"
        has = _listed(tuple(self)) or "none"
        return f"no record of {key!r}, which was not requested; there are: {has}"

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
            summary += f"; missing: {_listed(self.missing)}"
        return summary

    def copy(self) -> Result[T]:
        """Return a shallow copy, ``missing`` included."""
        return Result((*self, *self.missing), self, self.kind, self.interval)

    def __reduce__(self) -> tuple[object, ...]:
        requested = (*self, *self.missing)
        return (Result, (requested, dict(self), self.kind, self.interval))

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

    def chart(
        self,
        *,
        title: str | None = None,
        ma: Iterable[int] | int = (20, 60),
        tz: str | tzinfo = "market",
        red_up: bool = False,
        theme: str = "auto",
    ) -> Chart:
        """Return a chart of the klines of a result with one symbol.

        >>> result = await client.fetch_klines("HK:700", interval="1d")
        >>> result.chart().save("tencent.html")

        Arguments and errors are those of ``qos_async.charts.candles``.
        """
        from qos_async.charts import candles  # noqa: PLC0415 - the core needs no charts

        return candles(self, title=title, ma=ma, tz=tz, red_up=red_up, theme=theme)


def _canonical(key: object) -> str | None:
    """Return the canonical form of a symbol; None for anything else."""
    try:
        return canonical(key) if isinstance(key, str) else None
    except ValueError:
        return None


def _listed(names: tuple[str, ...]) -> str:
    more = ", …" if len(names) > _NAMES else ""
    return f"{', '.join(names[:_NAMES])}{more}"


def _count(things: Sized, name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"
