"""DataFrames of records: one row per record, columns named as the fields.

>>> from qos_async.frames import to_polars
>>> to_polars(await client.fetch_klines("US:AAPL", interval="1d"))

Also as methods: ``result.to_polars()``, ``await client.iter_history(...).to_pandas()``,
``async for frame in trades.batches().to_arrow()``.

Types depend only on the kind of record, never on its values:

| field           | polars           | pandas                    | pyarrow            |
|-----------------|------------------|---------------------------|--------------------|
| ``time``        | Datetime us, UTC | datetime64[us, UTC]       | timestamp[us, UTC] |
| ``received_at`` | Datetime ns, UTC | datetime64[ns, UTC]       | timestamp[ns, UTC] |
| numbers         | Float64          | float64                   | double             |
| … ``Decimal``   | Decimal(38, 18)  | object, of ``Decimal``    | decimal128(38, 18) |
| … ``str``       | String           | str                       | string             |
| enumerations    | Enum             | category                  | dictionary         |
| text            | String           | str                       | string             |
| whole numbers   | Int64            | Int64                     | int64              |
| flags           | Boolean          | bool                      | bool               |
| dates           | Date             | datetime64[us]            | date32             |
| depth levels    | List of Struct   | object, of lists of dicts | list of struct     |

``time`` is the record's ``timestamp``. Enumerations are words, as in ``to_dict()``
(``"buy"``, ``"1m"``, ``"pre_market"``). Missing values are null (in pandas NaN, NaT, NA
or None, depending on the type), and so is a ``timestamp`` or ``received_at`` of 0. The
sessions of a snapshot become columns such as ``pre_market_last_price``.

Frames of live ticks have the columns ``received_at`` and ``recovered``; those of fetched
records have not. Where a bar is of a day or longer, there is a column ``date``: the
trading date in the time zone of its market, which is not always that of ``time``, in UTC.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qos_async._lazy import import_attribute

if TYPE_CHECKING:
    from qos_async.frames.arrow import schema, to_arrow
    from qos_async.frames.column_types import Numbers, columns
    from qos_async.frames.pandas import to_pandas
    from qos_async.frames.polars import to_polars

__all__ = ["Numbers", "columns", "schema", "to_arrow", "to_pandas", "to_polars"]

_LAZY = {
    "Numbers": "column_types",
    "columns": "column_types",
    "schema": "arrow",
    "to_arrow": "arrow",
    "to_pandas": "pandas",
    "to_polars": "polars",
}


def __getattr__(name: str) -> Any:
    # Lazy, as qos_async itself: every client can make frames, and few do.
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = import_attribute(f"{__name__}.{_LAZY[name]}", name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
