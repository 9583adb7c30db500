"""Wire of the hub: records as the JSON of the service (chapter 5)."""

from __future__ import annotations

from collections.abc import Hashable
from decimal import Decimal
from typing import Any, cast

import msgspec

from qos_async.models import AnyTick, Kline, Trade

__all__ = ["push_frame", "row_of", "slot_of"]

_encode = msgspec.json.Encoder().encode
# The two fields of a tick that the wire does not have; they follow each other. No field
# before them can contain this: a quote within a symbol is escaped.
_RECEIVED_AT = b',"received_at":'
_PREFIX = len(b'{"tp":"T",')


def push_frame(tick: AnyTick[Any]) -> bytes:
    """Return the push of a tick: the fields of the wire, without those that are None."""
    encoded = _encode(tick)
    # ``find`` is faster than ``in``. A symbol may contain these, too.
    # ``str`` of a small ``Decimal`` has an exponent (1.2E-7), which the wire has not.
    find = encoded.find
    if find(b"null") >= 0 or find(b"E-") >= 0 or find(b"E+") >= 0:
        fields = msgspec.to_builtins(tick, builtin_types=(Decimal,))
        del fields["received_at"], fields["recovered"]
        return _encode(_plain(fields))
    head, _, rest = encoded.partition(_RECEIVED_AT)
    return head + b"," + rest.split(b",", 2)[2]


def row_of(frame: bytes) -> bytes:
    """Return the row that a reply has for the same state: a push without its ``tp``."""
    return b"{" + frame[_PREFIX:]


def slot_of(tick: AnyTick[Any]) -> Hashable | None:
    """Return the slot of a tick in an ``Outbox``: None for trades, which are never lost."""
    if tick.__class__ is Trade:
        return None
    if isinstance(tick, Kline):
        return (tick.symbol, tick.interval, tick.timestamp)
    return (tick.channel, tick.symbol)


def _plain(value: Any) -> Any:
    """Return a value without fields that are None, and with decimals in full."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    fields = cast("dict[str, Any]", value)
    return {n: _plain(item) for n, item in fields.items() if item is not None}
