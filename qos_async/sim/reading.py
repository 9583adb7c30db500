"""JSON from a client, taken as it comes."""

from __future__ import annotations

from typing import Any, TypeGuard, cast

import msgspec

from qos_async.sim.instruments import Row

__all__ = ["as_list", "as_row", "encode", "parse_json"]

encode = msgspec.json.encode


def parse_json(raw: bytes) -> Any:
    """Decode JSON; bytes that are none are given back as they are."""
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return raw


def as_row(value: Any) -> Row | None:
    """Take a JSON object for what it is, and anything else for None."""
    return cast("Row", value) if isinstance(value, dict) else None


def as_list(value: Any) -> list[Any]:
    """Take a JSON array for what it is, and anything else for an empty one."""
    return value if _is_list(value) else []


def _is_list(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)
