"""Class documentation as users see the class: under its public name, with all members."""

from __future__ import annotations

import enum
import inspect
import typing
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from pdoc import doc

from public_names import PACKAGE, PublicPaths, without_attributes

__all__ = ["ClassPage", "name_defaults"]


class ClassPage:
    """Rewrites pdoc's view of one class, in place.

    Members inherited from private base classes become members of the class; members of
    classes outside the package are dropped. Entries of the docstring's ``Attributes``
    section move to the attributes themselves.
    """

    def __init__(
        self, paths: PublicPaths, shown: doc.Class, texts: Mapping[str, str]
    ) -> None:
        self._paths = paths
        self._shown = shown
        self._texts = texts
        self._hints = typing.get_type_hints(shown.obj) if _is_struct(shown.obj) else {}

    def prepare(self) -> None:
        """Apply the changes."""
        for name, member in list(self._shown.members.items()):
            origin = self._public_origin(*member.taken_from)
            if origin is None:
                del self._shown.members[name]
                continue
            member.taken_from = origin
            if isinstance(member, doc.Variable):
                self._document(member)
            elif isinstance(member, doc.Function):
                name_defaults(member)
        self._shown.docstring = without_attributes(self._shown.docstring)
        self._shown.bases = list(self._bases())
        self._show_field_defaults()

    def _public_origin(self, module: str, path: str) -> tuple[str, str] | None:
        if module.partition(".")[0] != PACKAGE:
            return None
        owner, _, name = path.rpartition(".")
        shown = self._shown
        public = self._paths.of(module, owner)
        if public is None or (module, owner) == (shown.obj.__module__, shown.name):
            return shown.modulename, f"{shown.qualname}.{name}"
        return public[0], f"{public[1]}.{name}"

    def _document(self, variable: doc.Variable) -> None:
        variable.docstring = self._texts.get(variable.fullname, "")
        if variable.name in self._hints:
            variable.annotation = self._hints[variable.name]
        if isinstance(variable.default_value, enum.Enum):
            variable.default_value_str = repr(variable.default_value.value)

    def _bases(self) -> Iterator[tuple[str, str, str]]:
        for module, name, text in self._shown.bases:
            if module.partition(".")[0] != PACKAGE:
                if module != "typing":
                    yield module, name, text
            elif public := self._paths.of(module, name):
                yield *public, ".".join(public)

    def _show_field_defaults(self) -> None:
        if not _is_struct(self._shown.obj):
            return
        for field in msgspec.structs.fields(self._shown.obj):
            default = field.default
            if field.default_factory is not msgspec.NODEFAULT:
                default = field.default_factory()
            variable = self._shown.members.get(field.name)
            if isinstance(variable, doc.Variable) and default is not msgspec.NODEFAULT:
                variable.default_value_str = repr(_named(default))


def name_defaults(function: doc.Function) -> None:
    """Show defaults that are classes or enumeration members by their names."""
    parameters = [
        parameter.replace(default=_named(parameter.default))
        for parameter in function.signature.parameters.values()
    ]
    function.signature = function.signature.replace(parameters=parameters)


class _Literal:
    """A default whose ``repr`` is a name, without angle brackets."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _named(value: Any) -> Any:
    if value is inspect.Parameter.empty:
        return value
    if isinstance(value, enum.Enum):
        return _Literal(f"{type(value).__name__}.{value.name}")
    return _Literal(value.__name__) if inspect.isclass(value) else value


def _is_struct(kind: type) -> bool:
    return issubclass(kind, msgspec.Struct)
