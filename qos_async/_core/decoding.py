"""Bytes to records, twice as patient as msgspec alone.

The first try is msgspec's own, straight into the record. Only when that fails is
the frame read as plain JSON, mended where the notes on the protocol say that the
server varies, and tried again. So tolerance costs the usual frame nothing.
"""

from __future__ import annotations

import re
from typing import Any, Generic, TypeVar, cast

import msgspec

from qos_async.errors import DecodeError

__all__ = ["Decoder"]

T = TypeVar("T")

_UNREADABLE = (msgspec.MsgspecError, RecursionError, ValueError, OverflowError)

# Floats as text: a price that comes as a JSON number keeps each of its digits.
_plain: msgspec.json.Decoder[Any] = msgspec.json.Decoder(float_hook=str)

# Enumerations; a value that is no number at all reads as if it were missing.
_CODES = ("d", "s", "tt")
_CODE = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_HUGE = 2**63


class Decoder(Generic[T]):
    """Read JSON as ``type``, whose prices are of the type ``numbers``.

    Numbers may come as JSON numbers or as text (decimal either way, no digit lost),
    ``null`` counts as missing, unknown fields are skipped, unknown enumeration values
    read as ``UNKNOWN``.
    """

    def __init__(self, type: Any, numbers: type[Any]) -> None:
        self._type = type
        self._as_text = numbers is str
        self._decoder: msgspec.json.Decoder[T] = msgspec.json.Decoder(
            type, strict=False
        )
        self.fast = self._decoder.decode
        """msgspec's own try alone; raises msgspec's exceptions."""

    def decode(self, data: bytes) -> T:
        """Read one value.

        Raises:
            DecodeError: With the reason. It is for the caller, who knows the key, to
                show what came: that may echo it.
        """
        try:
            return self.fast(data)
        except _UNREADABLE:
            pass  # The second try below says why, should it fail as well.
        try:
            mended = _mend(_plain.decode(data), as_text=self._as_text)
            value: T = msgspec.convert(mended, self._type, strict=False)
        except _UNREADABLE as exc:
            reason = str(exc)
        else:
            return value
        raise DecodeError(f"cannot read an answer ({reason})")


def _mend(value: Any, *, as_text: bool) -> Any:
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        mended = {
            name: _code(item) if name in _CODES else _mend(item, as_text=as_text)
            for name, item in fields.items()
        }
        # An empty text is no number; it says as little as null.
        return {name: item for name, item in mended.items() if item not in (None, "")}
    if isinstance(value, list):
        return [_mend(item, as_text=as_text) for item in cast("Any", value)]
    if as_text and type(value) is int:
        return str(value)
    return value


def _code(value: Any) -> int | None:
    if isinstance(value, str) and _CODE.fullmatch(value):
        value = int(value)
    return value if type(value) is int and abs(value) < _HUGE else None
