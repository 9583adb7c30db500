"""Other parsers: json, and orjson and pydantic if they are installed."""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import IntEnum
from importlib import import_module
from importlib.metadata import version
from typing import Any

__all__ = ["MISSING", "VERSIONS", "readers"]


def _installed(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError:
        return None


_orjson, _pydantic = _installed("orjson"), _installed("pydantic")
_FOUND = {"orjson": _orjson, "pydantic": _pydantic}
MISSING = [name for name, module in _FOUND.items() if module is None]
VERSIONS = {name: version(name) for name, module in _FOUND.items() if module}


def readers(
    record: str, data: bytes, numbers: type[Any]
) -> dict[str, Callable[[], Any]]:
    """Return the readers of ``data``, by name."""
    found: dict[str, Callable[[], Any]] = {"json": lambda: json.loads(data)}
    if _orjson is not None:
        found["orjson"] = lambda: _orjson.loads(data)
    if _pydantic is not None:
        validate = _models(numbers)[record].model_validate_json
        found["pydantic"] = lambda: validate(data)
    return found


class _Side(IntEnum):
    UNKNOWN, BUY, SELL = range(3)


class _Status(IntEnum):
    TRADING, SUSPENDED = range(2)


class _Interval(IntEnum):
    MIN_1, DAY = 1, 1001


def _models(n: type[Any]) -> dict[str, Any]:
    """Return models with the fields, names and types of the records of qos_async."""
    made: dict[str, Any] = {}

    def model(name: str, **fields: Any) -> Any:
        """Create a model from ``name=(type, alias)`` or ``name=(type, alias, default)``."""
        made[name] = _pydantic.create_model(
            name,
            __config__=_pydantic.ConfigDict(frozen=True),
            **{
                field: (kind, _pydantic.Field(*default or (...,), alias=alias))
                for field, (kind, alias, *default) in fields.items()
            },
        )
        return made[name]

    tick: dict[str, Any] = {"symbol": (str, "c"), "timestamp": (int, "ts", 0)}
    ohlc: dict[str, Any] = {"open": (n, "o"), "high": (n, "h"), "low": (n, "l")}
    level = model("level", price=(n, "p"), size=(n, "v"))
    book = tuple[level, ...]  # type: ignore[valid-type]
    model(
        "trade",
        **tick,
        price=(n, "p"),
        size=(n | None, "v", None),
        side=(_Side, "d", _Side.UNKNOWN),
    )
    model("depth 20+20", **tick, bids=(book, "b", ()), asks=(book, "a", ()))
    model(
        "kline",
        **tick,
        **ohlc,
        close=(n, "cl"),
        volume=(n | None, "v", None),
        interval=(_Interval, "kt"),
    )
    snapshot = model(
        "snapshot",
        **tick,
        **{name: (n | None, alias, None) for name, (_, alias) in ohlc.items()},
        last_price=(n | None, "lp", None),
        prev_close=(n | None, "yp", None),
        volume=(n | None, "v", None),
        turnover=(n | None, "t", None),
        status=(_Status, "s", _Status.TRADING),
    )
    model(
        "reply of 10",
        type=(str, "type", ""),
        msg=(str, "msg", ""),
        reqid=(int | None, "reqid", None),
        data=(list[snapshot], "data"),  # type: ignore[valid-type]
    )
    return made
