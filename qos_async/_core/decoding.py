"""Decoder from JSON to records: strict first, tolerant second.

1. msgspec decodes the bytes straight into the record.
2. Only if that fails, the bytes are decoded as plain JSON, normalized where the
   server's output is known to vary, and converted to the record.

So tolerance costs a well-formed frame nothing.

No decoded number is infinite or NaN: such a price cannot be compared or summed.
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

__all__ = [
    "NOT_FINITE",
    "UNREADABLE",
    "RecordDecoder",
    "finite_type",
    "is_finite",
    "normalize",
    "parse_plain",
    "quote_bare_words",
]

T = TypeVar("T")

UNREADABLE = (msgspec.MsgspecError, RecursionError, ValueError, OverflowError)
"""What msgspec raises for data that it cannot decode or convert."""

# Floats are decoded as text: a price sent as a JSON number keeps all its digits.
_plain: msgspec.json.Decoder[Any] = msgspec.json.Decoder(float_hook=str)

# The enumerated fields: direction (section 2.2), suspension, US session (2.3). A value
# that is not an integer reads as missing, so that it does not cost the whole record.
_CODES = ("d", "s", "tt")
_CODE = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_HUGE = 2**63

_MAX_FLOAT = sys.float_info.max
_FINITE_FLOAT = Annotated[float, Meta(ge=-_MAX_FLOAT, le=_MAX_FLOAT)]

# What some servers send for such numbers, which is not JSON. Text is matched first: as a
# whole, also if its end is missing, so that the search takes linear time.
_BARE_WORD = re.compile(
    rb'"(?:[^"\\]|\\.)*+"?|(?<![\w.])[-+]?(?:nan|inf(?:inity)?)(?![\w.])',
    re.IGNORECASE | re.DOTALL,
)

NOT_FINITE = "a number is infinite, NaN or out of range"
_EXPONENT_MAX = 99
_UPPER_N, _LOWER_N, _ESCAPE = b"Nn\\"


class RecordDecoder(Generic[T]):
    """Decodes JSON into ``type``, whose prices are of the type ``numbers``.

    Numbers may be sent as JSON numbers or as text (decimal either way, no digit lost),
    ``null`` counts as missing, unknown fields are skipped, unknown enumeration values
    read as ``UNKNOWN``.

    Attributes:
        decode_strict: The first attempt alone. Raises msgspec's exceptions.

    Args:
        type: The type to decode; its numbers are of ``finite_type(numbers)``.
        numbers: ``Decimal``, ``float`` or ``str``.
    """

    def __init__(self, type: Any, numbers: type[Any]) -> None:
        self._type = type
        self._as_text = numbers is str
        self._check = numbers is Decimal
        decoder: msgspec.json.Decoder[T] = msgspec.json.Decoder(type, strict=False)
        # Called for each frame: for float and str this is msgspec's own method, without
        # a Python function around it.
        self.decode_strict = _checked(decoder.decode) if self._check else decoder.decode

    def decode(self, data: bytes) -> T:
        """Return the value that ``data`` encodes.

        Raises:
            DecodeError: With the reason, but without the data: it may echo the API key,
                which only the caller can redact.
        """
        try:
            return self.decode_strict(data)
        except UNREADABLE:
            pass  # If the tolerant attempt fails too, its reason is the clearer one.
        try:
            normalized = normalize(_plain.decode(data), as_text=self._as_text)
            value: T = msgspec.convert(normalized, self._type, strict=False)
            if self._check and not is_finite(value):
                raise msgspec.ValidationError(NOT_FINITE)
        except UNREADABLE as exc:
            reason = str(exc)
        else:
            return value
        raise DecodeError(f"cannot decode a message ({reason})")


def finite_type(numbers: type[Any]) -> Any:
    """Return the type of a record's numbers that makes msgspec reject infinity and NaN.

    Only ``float`` needs another type. ``str`` keeps the text of pushes unchecked, and
    msgspec has no bounds for ``Decimal``: there ``RecordDecoder`` checks the values.
    """
    return _FINITE_FLOAT if numbers is float else numbers


def _checked(decode: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    # Called for each frame. Nearly all frames are trades: to test the two numbers of a
    # trade is faster than to search the text. For other records it is the other way
    # round, as a book may have forty numbers.
    def fast(data: bytes) -> Any:
        value = decode(data)
        if value.__class__ is Trade:
            size = value.size
            if value.price.is_finite() and (size is None or size.is_finite()):
                return value
        elif not _may_be_nonfinite(data) or is_finite(value):
            return value
        raise msgspec.ValidationError(NOT_FINITE)

    return fast


def _may_be_nonfinite(data: bytes) -> bool:
    # Decimal accepts "NaN", "sNaN", "Inf" and "Infinity" in any case. Each contains
    # "nan" or "inf", unless JSON escapes hide a letter ("\u004eaN"). Most frames do not
    # even contain an N, which two scans for one byte find out.
    if _ESCAPE in data:
        return True
    if _UPPER_N not in data and _LOWER_N not in data:
        return False
    text = data.lower()
    return b"nan" in text or b"inf" in text


def is_finite(value: object) -> bool:
    """Whether no ``Decimal`` in a decoded value is infinite, NaN or out of range.

    Out of range are exponents of three digits: formatted, such a number fills the memory.
    """
    match value:
        case Decimal():
            exponent = value.as_tuple().exponent
            return isinstance(exponent, int) and abs(exponent) <= _EXPONENT_MAX
        case Struct():
            return all(map(is_finite, astuple(value)))
        case list() | tuple():
            return all(map(is_finite, cast("list[object]", value)))
        case _:
            return True


def parse_plain(data: bytes) -> Any:
    """Return the plain JSON that ``data`` encodes, with floats as text; else None."""
    try:
        return _plain.decode(data)
    except UNREADABLE:
        return None


def quote_bare_words(data: bytes) -> bytes | None:
    """Return data with text instead of bare ``NaN`` and ``Infinity``; None if it has none.

    So only the field or the row is unreadable, and not the whole reply.
    """
    quoted = _BARE_WORD.sub(_quoted, data)
    return None if quoted == data else quoted


def _quoted(match: re.Match[bytes]) -> bytes:
    found = match[0]
    return found if found.startswith(b'"') else b'"%b"' % found


def normalize(value: Any, *, as_text: bool) -> Any:
    """Return plain JSON without what the server's output is known to vary in.

    Args:
        value: From ``parse_plain``.
        as_text: Whether numbers are to be text.
    """
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        normalized = {
            name: _enum_code(item)
            if name in _CODES
            else normalize(item, as_text=as_text)
            for name, item in fields.items()
        }
        # Empty text is sent for a missing number and means the same as null.
        return {
            name: item for name, item in normalized.items() if item not in (None, "")
        }
    if isinstance(value, list):
        return [normalize(item, as_text=as_text) for item in cast("Any", value)]
    if as_text and type(value) is int:
        return str(value)
    return value


def _enum_code(value: Any) -> int | None:
    if isinstance(value, str) and _CODE.fullmatch(value):
        value = int(value)
    return value if type(value) is int and abs(value) < _HUGE else None
