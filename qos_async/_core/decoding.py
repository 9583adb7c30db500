"""Bytes to records, twice as patient as msgspec alone.

The first try is msgspec's own, straight into the record. Only when that fails is
the frame read as plain JSON, mended where the notes on the protocol say that the
server varies, and tried again. So tolerance costs the usual frame nothing.
"""

from __future__ import annotations

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
        return {
            name: _mend(item, as_text=as_text)
            for name, item in fields.items()
            if item is not None and not (name in _CODES and not _is_number(item))
        }
    if isinstance(value, list):
        return [_mend(item, as_text=as_text) for item in cast("Any", value)]
    if as_text and type(value) is int:
        return str(value)
    return value


def _is_number(value: Any) -> bool:
    return type(value) is int or (isinstance(value, str) and _digits(value))


def _digits(text: str) -> bool:
    return text.removeprefix("-").isdecimal()
