"""Bytes to records, twice as patient as msgspec alone.

The first try is msgspec's own, straight into the record. Only when that fails is
the frame read as plain JSON, mended where the notes on the protocol say that the
server varies, and tried again. So tolerance costs the usual frame nothing.

No number is infinite or NaN: nobody can compare or add up such a price.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any, Generic, TypeVar, cast

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import astuple

from qos_async.errors import DecodeError
from qos_async.models import Trade

__all__ = ["RecordDecoder", "finite_type"]

T = TypeVar("T")

_UNREADABLE = (msgspec.MsgspecError, RecursionError, ValueError, OverflowError)

# Floats as text: a price that comes as a JSON number keeps each of its digits.
_plain: msgspec.json.Decoder[Any] = msgspec.json.Decoder(float_hook=str)

# Enumerations; a value that is no number at all reads as if it were missing.
_CODES = ("d", "s", "tt")
_CODE = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_HUGE = 2**63

_MOST = sys.float_info.max
_FINITE_FLOAT = Annotated[float, Meta(ge=-_MOST, le=_MOST)]


def finite_type(numbers: type[Any]) -> Any:
    """Give the type to put into a record so that its ``numbers`` come out finite.

    ``str`` is as on the wire, whatever that is. ``Decimal`` knows no bounds: there the
    decoder looks itself.
    """
    return _FINITE_FLOAT if numbers is float else numbers


class RecordDecoder(Generic[T]):
    """Read JSON as ``type``, whose prices are of the type ``numbers``.

    Numbers may come as JSON numbers or as text (decimal either way, no digit lost),
    ``null`` counts as missing, unknown fields are skipped, unknown enumeration values
    read as ``UNKNOWN``.

    Args:
        type: What to read; its numbers are of the type ``finite(numbers)``.
        numbers: ``Decimal``, ``float`` or ``str``.
    """

    def __init__(self, type: Any, numbers: type[Any]) -> None:
        self._type = type
        self._as_text = numbers is str
        self._check = numbers is Decimal
        decoder: msgspec.json.Decoder[T] = msgspec.json.Decoder(type, strict=False)
        self.decode_strict = _checked(decoder.decode) if self._check else decoder.decode
        """msgspec's own try alone; raises msgspec's exceptions."""

    def decode(self, data: bytes) -> T:
        """Read one value.

        Raises:
            DecodeError: With the reason. It is for the caller, who knows the key, to
                show what came: that may echo it.
        """
        try:
            return self.decode_strict(data)
        except _UNREADABLE:
            pass  # The second try below says why, should it fail as well.
        try:
            mended = _normalize(_plain.decode(data), as_text=self._as_text)
            value: T = msgspec.convert(mended, self._type, strict=False)
            if self._check and not _is_finite(value):
                raise msgspec.ValidationError(_NOT_FINITE)
        except _UNREADABLE as exc:
            reason = str(exc)
        else:
            return value
        raise DecodeError(f"cannot read an answer ({reason})")


_NOT_FINITE = "a number is infinite or NaN"
_UPPER_N, _LOWER_N, _ESCAPE = b"Nn\\"


def _checked(decode: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    # Called for each frame. Nearly all are trades: there, to ask two numbers is faster
    # than to look at the text.
    def fast(data: bytes) -> Any:
        value = decode(data)
        if value.__class__ is Trade:
            size = value.size
            if value.price.is_finite() and (size is None or size.is_finite()):
                return value
        elif not _may_be_nonfinite(data) or _is_finite(value):
            return value
        raise msgspec.ValidationError(_NOT_FINITE)

    return fast


def _may_be_nonfinite(data: bytes) -> bool:
    # Whatever Decimal takes for infinite or NaN contains one of these words, in letters
    # of any size, unless JSON hides them. Most frames have not even an N.
    if _ESCAPE in data:
        return True
    if _UPPER_N not in data and _LOWER_N not in data:
        return False
    text = data.lower()
    return b"nan" in text or b"inf" in text


def _is_finite(value: object) -> bool:
    match value:
        case Decimal():
            return value.is_finite()
        case Struct():
            return all(map(_is_finite, astuple(value)))
        case list() | tuple():
            return all(map(_is_finite, cast("list[object]", value)))
        case _:
            return True


def _normalize(value: Any, *, as_text: bool) -> Any:
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        mended = {
            name: _enum_code(item)
            if name in _CODES
            else _normalize(item, as_text=as_text)
            for name, item in fields.items()
        }
        # An empty text is no number; it says as little as null.
        return {name: item for name, item in mended.items() if item not in (None, "")}
    if isinstance(value, list):
        return [_normalize(item, as_text=as_text) for item in cast("Any", value)]
    if as_text and type(value) is int:
        return str(value)
    return value


def _enum_code(value: Any) -> int | None:
    if isinstance(value, str) and _CODE.fullmatch(value):
        value = int(value)
    return value if type(value) is int and abs(value) < _HUGE else None
