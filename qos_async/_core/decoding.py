"""Decoder from JSON to records: strict first, tolerant second.

1. msgspec decodes the bytes straight into the record.
2. Only if that fails, the bytes are decoded as plain JSON, normalized where the
   server's output is known to vary, and converted to the record.

So tolerance costs a well-formed frame nothing.

No decoded number is infinite, NaN or has an exponent of three digits: such a price
cannot be compared or summed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Annotated, Any, Generic, TypeVar, cast

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import astuple

from qos_async.errors import DecodeError
from qos_async.models import CHANNELS, Trade

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

# A number with an exponent of three digits is no price: sums and means of such floats
# overflow, and as text a decimal of that size fills the memory.
_EXPONENT_MAX = 99
_MAX_FLOAT = 10.0 ** (_EXPONENT_MAX + 1)
_FINITE_FLOAT = Annotated[float, Meta(gt=-_MAX_FLOAT, lt=_MAX_FLOAT)]

# What some servers send for such numbers, which is not JSON. Text is matched first: as a
# whole, also if its end is missing, so that the search takes linear time.
_BARE_WORD = re.compile(
    rb'"(?:[^"\\]|\\.)*+"?|(?<![\w.])[-+]?(?:nan|inf(?:inity)?)(?![\w.])',
    re.IGNORECASE | re.DOTALL,
)

NOT_FINITE = "a number is infinite, NaN or out of range"
_UPPER_N, _LOWER_N, _UPPER_E, _LOWER_E, _ESCAPE = b"NnEe\\"
_WORTH_JOINING = 4  # Frames.
_ALL_BUT_UPPER_NE = bytes(set(range(256)) - set(b"NE"))


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
        # For float and str this is msgspec's own method, without a Python function
        # around it.
        self._decode: Callable[[bytes], Any] = decoder.decode
        self.decode_strict = _checked(decoder.decode) if self._check else decoder.decode

    def decode_ticks(self, frames: Sequence[bytes]) -> list[T]:
        """Return the ticks of frames that arrived together, as ``decode_strict`` does.

        Their text is searched at once: nearly always none of it needs a second look.
        """
        if not self._check or len(frames) < _WORTH_JOINING:
            return list(map(self.decode_strict, frames))
        ticks = list(map(self._decode, frames))
        if _may_be_unusable(b"".join(frames), ticks):
            for data, tick in zip(frames, ticks, strict=True):
                _check(data, tick)
        return ticks

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
    def decode_checked(data: bytes) -> Any:
        value = decode(data)
        _check(data, value)
        return value

    return decode_checked


def _check(data: bytes, value: Any) -> None:
    """Raise msgspec's error if a decoded number is infinite, NaN or out of range."""
    # Nearly all frames are trades: to test the two numbers of a trade is faster than to
    # search the text. For other records it is the other way round, as a book may have
    # forty numbers.
    if value.__class__ is Trade:
        size = value.size
        if value.price.is_finite() and (size is None or size.is_finite()):
            if not (_LOWER_E in data or _UPPER_E in data or _ESCAPE in data):
                return
            # The symbol may have an E.
            if _is_in_range(value.price) and (size is None or _is_in_range(size)):
                return
    elif not (
        _may_be_nonfinite(data)
        or (value.__class__ in CHANNELS and _may_have_exponent(data, value))
    ) or is_finite(value):
        return
    raise msgspec.ValidationError(NOT_FINITE)


def _may_be_unusable(data: bytes, ticks: Sequence[Any]) -> bool:
    """Whether a number in the text of ``ticks`` may be infinite, NaN or out of range.

    Each spelling of the first two has an N, an exponent an E; JSON escapes may hide both.
    Of the keys only "nq" has one. Letters of symbols are counted, if there are any.
    """
    if _ESCAPE in data or _LOWER_N in data or _LOWER_E in data:
        return True
    if _UPPER_N not in data and _UPPER_E not in data:
        return False
    symbols = "".join([tick.symbol for tick in ticks])
    letters = len(data.translate(None, _ALL_BUT_UPPER_NE))
    return letters > symbols.count("N") + symbols.count("E")


def _may_be_nonfinite(data: bytes) -> bool:
    # Decimal accepts "NaN", "sNaN", "Inf" and "Infinity" in any case, with underscores
    # anywhere ("N_aN"). Without those, each contains "nan" or "inf", unless JSON escapes
    # hide a letter ("\u004eaN"). Most frames do not even contain an N, which two scans
    # for one byte find out.
    if _ESCAPE in data:
        return True
    if _UPPER_N not in data and _LOWER_N not in data:
        return False
    text = data.lower().replace(b"_", b"")
    return b"nan" in text or b"inf" in text


def _may_have_exponent(data: bytes, tick: Any) -> bool:
    # Keys have no E, the symbol of a tick may.
    if _LOWER_E in data:
        return True
    return _UPPER_E in data and data.count(_UPPER_E) > tick.symbol.count("E")


def _is_in_range(number: Decimal) -> bool:
    return -_EXPONENT_MAX <= number.adjusted() <= _EXPONENT_MAX


def is_finite(value: object) -> bool:
    """Whether no ``Decimal`` in a decoded value is infinite, NaN or out of range.

    Out of range are exponents of three digits: formatted, such a number fills the memory.
    """
    match value:
        case Decimal():
            return value.is_finite() and _is_in_range(value)
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
