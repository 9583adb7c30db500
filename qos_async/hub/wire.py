"""Wire of the hub: records as the JSON of the service (chapter 5)."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import msgspec

from qos_async._core.wire import push_row
from qos_async.models import AnyTick, Kline, Trade

__all__ = ["push_frame", "row_of", "slot_of"]

_encode = msgspec.json.Encoder().encode
# The first of three fields of a tick that the wire does not have; they follow each other.
# No field before them can contain this: a quote within a symbol is escaped.
_RECEIVED_AT = b',"received_at":'
_PREFIX = len(b'{"tp":"T",')


def push_frame(tick: AnyTick[Any]) -> bytes:
    """Return the push of a tick: the fields of the wire, without those that are None."""
    encoded = _encode(tick)
    # ``find`` is faster than ``in``. A symbol may contain these, too.
    # A small ``Decimal`` is encoded with an exponent.
    find = encoded.find
    if find(b"null") >= 0 or find(b"E-") >= 0 or find(b"E+") >= 0:
        return bytes(push_row(tick))
    head, _, rest = encoded.partition(_RECEIVED_AT)
    return head + b"," + rest.split(b",", 3)[3]


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
