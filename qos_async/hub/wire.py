"""Wire of the hub: records as the JSON of the service (chapter 5)."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, cast

import msgspec

from qos_async.enums import Channel
from qos_async.models import AnyTick, Kline, Snapshot

__all__ = ["push_frame", "row_of", "slot_of"]

_encode = msgspec.json.Encoder().encode
# The two fields of a tick that the wire does not have; they follow each other.
_RECEIVED_AT, _RECOVERED = b',"received_at":', b',"recovered":'
_PREFIX = len(b'{"tp":"T",')


def push_frame(tick: AnyTick[Any]) -> bytes:
    """Return the push of a tick: the fields of the wire, without those that are None."""
    if tick.__class__ is Snapshot or None in msgspec.structs.astuple(tick):
        fields = msgspec.to_builtins(tick)
        del fields["received_at"], fields["recovered"]
        return _encode(_without_none(fields))
    # Three times as fast. No field before these two can contain their names: a quote
    # within a symbol is escaped.
    head, _, rest = _encode(tick).partition(_RECEIVED_AT)
    _, _, rest = rest.partition(_RECOVERED)
    return head + rest[rest.index(b",") :]


def row_of(frame: bytes) -> bytes:
    """Return the row that a reply has for the same state: a push without its ``tp``."""
    return b"{" + frame[_PREFIX:]


def slot_of(tick: AnyTick[Any]) -> Hashable | None:
    """Return the slot of a tick in an ``Outbox``: None for trades, which are never lost."""
    if isinstance(tick, Kline):
        return (tick.symbol, tick.interval, tick.timestamp)
    return None if tick.channel is Channel.TRADE else (tick.channel, tick.symbol)


def _without_none(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    fields = cast("dict[str, Any]", value)
    return {n: _without_none(item) for n, item in fields.items() if item is not None}
