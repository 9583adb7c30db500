"""Records as DataFrames: one row a record, columns named as the fields.

>>> from qos_async.frames import to_polars
>>> to_polars(await client.fetch_klines("US:AAPL", interval="1d"))

The same as methods: ``result.to_polars()``, ``await client.iter_history(...).to_pandas()``,
``async for frame in trades.batches().to_arrow()``.

Types depend on the kind of record alone, never on what is in it:

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

``time`` is the record's ``timestamp``. Enumerations are words, as in ``--json``
(``"buy"``, ``"1m"``, ``"pre_market"``). What is missing is null (in pandas NaN, NaT, NA
or None, as the type has it), a ``timestamp`` or ``received_at`` of 0 too. The sessions
of a snapshot become columns such as ``pre_market_last_price``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qos_async.frames.for_arrow import schema, to_arrow
    from qos_async.frames.for_pandas import to_pandas
    from qos_async.frames.for_polars import to_polars
    from qos_async.frames.layout import columns
    from qos_async.frames.numbers import Numbers

__all__ = ["Numbers", "columns", "schema", "to_arrow", "to_pandas", "to_polars"]

_HOMES = {
    "Numbers": "numbers",
    "columns": "layout",
    "schema": "for_arrow",
    "to_arrow": "for_arrow",
    "to_pandas": "for_pandas",
    "to_polars": "for_polars",
}


def __getattr__(name: str) -> Any:
    # Lazy, as the package above: every client can make frames, and few do.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = importlib.import_module(f"{__name__}.{_HOMES[name]}")
    value = globals()[name] = getattr(home, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
