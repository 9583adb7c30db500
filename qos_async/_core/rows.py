"""Decoder of replies of many rows: an unreadable row does not cost the other rows.

1. The whole reply is decoded at once (``RecordDecoder``).
2. Only if that fails, it is decoded row by row, and an unreadable row field by field. A
   field that may be missing is left out; without one that may not be, the row is. So is
   the row of a symbol of whose klines none can be read.

Unlike in pushes, numbers as text (``str``) are checked, too.

Nothing is guessed: "1,200" may be 1200 or 1.2.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import (
    Annotated,
    Any,
    Generic,
    NamedTuple,
    TypeVar,
    cast,
    get_args,
    get_origin,
)

import msgspec
from msgspec import Meta, Struct

from qos_async._core.decoding import (
    NOT_FINITE,
    UNREADABLE,
    RecordDecoder,
    finite_type,
    is_finite,
    normalize,
    parse_plain,
)
from qos_async.errors import DecodeError
from qos_async.models import Kline, Trade

__all__ = ["GroupsDecoder", "RowsDecoder", "Unread"]

T = TypeVar("T")

# What Decimal and float accept and is finite. An exponent of three digits is of no price.
_NUMBER = r"^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,2})?\Z"
_may_be_out_of_range = re.compile(rb"[0-9.][eE][-+]?[0-9]{3}").search
_NUMBER_AS_TEXT = Annotated[str, Meta(pattern=_NUMBER)]

_PLACED_BY_TIME = (Trade, Kline)
"""Records that are of no use without their time, which is 0 if the server sent none."""


class Unread(Struct, frozen=True):
    """A value of a reply that cannot be read.

    Attributes:
        name: The symbol or market of its row, as sent; empty if that is unreadable.
        field: The name of the field on the wire; empty for a whole row.
        value: What was sent.
        lost: Whether the row was left out, not only the field.
    """

    name: str
    field: str
    value: Any
    lost: bool


class RowsDecoder(Generic[T]):
    """Decodes a list of records.

    Args:
        record: The class of the records; generic in the type of its numbers, if it has
            any.
        numbers: ``Decimal``, ``float`` or ``str``.
    """

    def __init__(self, record: Any, numbers: type[Any]) -> None:
        number: Any = _NUMBER_AS_TEXT if numbers is str else finite_type(numbers)
        kind: Any = record[number] if getattr(record, "__parameters__", ()) else record
        self._whole: RecordDecoder[list[T] | None] = RecordDecoder(
            list[kind] | None, numbers
        )
        self._salvage = _Salvage(kind, numbers)

    def decode(self, data: bytes, unread: list[Unread]) -> list[T] | None:
        """Return the records that ``data`` encodes; None for ``null``.

        Args:
            data: JSON.
            unread: Receives what cannot be read, if anything else can.

        Raises:
            DecodeError: If there are rows and not one can be read.
        """
        reason = f"cannot decode a message ({NOT_FINITE})"
        if not _may_be_out_of_range(data):
            try:
                return self._whole.decode(data)
            except DecodeError as exc:
                reason = str(exc)
        found: list[T] = list(self._salvage.rows(parse_plain(data), "", unread))
        if found:
            return found
        raise DecodeError(reason)


class GroupsDecoder(Generic[T]):
    """Decodes lists of records by name, such as the products of each market.

    Args:
        record: The class of the records, without numbers.
    """

    def __init__(self, record: type[T]) -> None:
        kind: Any = record
        self._whole: RecordDecoder[dict[str, list[T] | None] | None] = RecordDecoder(
            dict[str, list[kind] | None] | None, Decimal
        )
        self._salvage = _Salvage(record, Decimal)

    def decode(
        self, data: bytes, unread: list[Unread]
    ) -> dict[str, list[T] | None] | None:
        """Return the lists that ``data`` encodes, as ``RowsDecoder.decode`` does."""
        try:
            return self._whole.decode(data)
        except DecodeError as exc:
            reason = str(exc)
        groups: Any = parse_plain(data)
        found: dict[str, list[T] | None] = {}
        for name, rows in _items(groups):
            readable = list(self._salvage.rows(rows, name, unread))
            if readable or not rows:
                found[name] = readable
        if any(found.values()):
            return found
        raise DecodeError(reason)


def _items(value: Any) -> Iterable[tuple[str, Any]]:
    return cast("dict[str, Any]", value).items() if isinstance(value, dict) else ()


class _Field(NamedTuple):
    name: str
    type: Any
    is_required: bool
    is_optional: bool
    record: Any
    """The record that it holds, or a list of them; None for other fields."""
    is_list: bool


class _Salvage:
    """Reads what is readable of rows that were decoded as plain JSON."""

    def __init__(self, kind: Any, numbers: type[Any]) -> None:
        self._kind = kind
        self._as_text = numbers is str
        self._fields: dict[Any, tuple[_Field, ...]] = {}

    def rows(self, value: Any, name: str, unread: list[Unread]) -> Iterator[Any]:
        """Iterate over the records of the rows that can be read.

        Args:
            value: A list of rows; anything else has none.
            name: The name of rows that do not have a symbol.
            unread: Receives what cannot be read.
        """
        if not isinstance(value, list):
            if value is not None:
                unread.append(Unread(name, "", value, lost=True))
            return
        for row in cast("Any", value):
            cleaned = self._clean(
                self._kind, normalize(row, as_text=self._as_text), name, unread
            )
            if cleaned is None:
                continue
            try:
                yield self._convert(cleaned, self._kind)
            except UNREADABLE:
                sent = cleaned.get("c", name)
                unread.append(Unread(str(sent), "", row, lost=True))

    def _clean(
        self, kind: Any, row: Any, name: str, unread: list[Unread]
    ) -> dict[str, Any] | None:
        """Return a row without the fields that cannot be read; None if it is lost."""
        if not isinstance(row, dict):
            unread.append(Unread(name, "", row, lost=True))
            return None
        sent = cast("dict[str, Any]", row)
        symbol = sent.get("c", sent.get("code"))
        name = symbol if isinstance(symbol, str) else name
        if self._is_readable(sent, kind):
            return sent
        cleaned = dict(sent)
        for field in self._fields_of(kind):
            value = sent.get(field.name)
            if value is None and not field.is_required:
                continue
            if self._is_readable(value, field.type):
                continue
            told = len(unread)
            better = self._clean_nested(field, value, name, unread)
            if better is not None:
                cleaned[field.name] = better
                continue
            if len(unread) == told:
                lost = not field.is_optional
                unread.append(Unread(name, field.name, value, lost=lost))
            if not field.is_optional:
                return None
            del cleaned[field.name]
        return cleaned

    def _clean_nested(
        self, field: _Field, value: Any, name: str, unread: list[Unread]
    ) -> Any:
        """Return what is readable of a record, or of a list of records, in a field."""
        if field.record is None:
            return None
        if not field.is_list:
            is_object = isinstance(value, dict)
            return self._clean(field.record, value, name, unread) if is_object else None
        rows: list[Any] = cast("Any", value) if isinstance(value, list) else []
        found = [self._clean(field.record, row, name, unread) for row in rows]
        return [row for row in found if row is not None] or None

    def _is_readable(self, value: Any, type: Any) -> bool:
        try:
            self._convert(value, type)
        except UNREADABLE:
            return False
        return True

    def _convert(self, value: Any, type: Any) -> Any:
        found = msgspec.convert(value, type, strict=False)
        if not is_finite(found):
            raise msgspec.ValidationError(NOT_FINITE)
        return found

    def _fields_of(self, kind: Any) -> tuple[_Field, ...]:
        if kind not in self._fields:
            placed = (get_origin(kind) or kind) in _PLACED_BY_TIME
            self._fields[kind] = tuple(
                _field(info, placed=placed) for info in msgspec.structs.fields(kind)
            )
        return self._fields[kind]


def _field(info: Any, *, placed: bool) -> _Field:
    held = [one for one in get_args(info.type) or (info.type,) if one is not type(None)]
    item = held[0] if len(held) == 1 else None
    is_list = get_origin(item) is list
    record = get_args(item)[0] if is_list else item
    origin = get_origin(record) or record
    is_record = isinstance(origin, type) and issubclass(origin, Struct)
    # Not so the levels of a book: without one of them, it would show another market.
    # Without a list of all its records, such as the klines of a symbol, a row is empty.
    is_optional = info.default in (None, "") and not (is_list and is_record)
    if info.encode_name == "ts":
        is_optional = not placed
    return _Field(
        info.encode_name,
        info.type,
        info.required,
        is_optional,
        record if is_record else None,
        is_list,
    )
