"""Showing a class where it is public, as its users see it."""

from __future__ import annotations

import enum
import inspect
import typing
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from pdoc import doc

from tests.docs.reference.surface import PACKAGE, Homes, without_attributes

__all__ = ["Settler"]


class _Word:
    """A default that is shown as a word, not as a ``repr`` in angle brackets."""

    def __init__(self, word: str) -> None:
        self._word = word

    def __repr__(self) -> str:
        return self._word


class Settler:
    """Lets members of private base classes be a class's own, and drops foreign ones.

    What is written in the section ``Attributes`` goes to each of them.
    """

    def __init__(
        self, homes: Homes, shown: doc.Class, texts: Mapping[str, str]
    ) -> None:
        self._homes = homes
        self._shown = shown
        self._texts = texts
        self._hints = typing.get_type_hints(shown.obj) if _is_struct(shown.obj) else {}

    def settle(self) -> None:
        """Do it, in place."""
        for name, member in list(self._shown.members.items()):
            home = self._home(*member.taken_from)
            if home is None:
                del self._shown.members[name]
                continue
            member.taken_from = home
            if isinstance(member, doc.Variable):
                self._tell(member)
            elif isinstance(member, doc.Function):
                self.show_defaults(member)
        self._shown.docstring = without_attributes(self._shown.docstring)
        self._shown.bases = list(self._bases())
        self._defaults()

    @staticmethod
    def show_defaults(function: doc.Function) -> None:
        """Write defaults that are classes or members of enumerations by their names."""
        parameters = [
            parameter.replace(default=_worded(parameter.default))
            for parameter in function.signature.parameters.values()
        ]
        function.signature = function.signature.replace(parameters=parameters)

    def _home(self, module: str, path: str) -> tuple[str, str] | None:
        if module.partition(".")[0] != PACKAGE:
            return None
        owner, _, name = path.rpartition(".")
        shown = self._shown
        public = self._homes.of(module, owner)
        if public is None or (module, owner) == (shown.obj.__module__, shown.name):
            return shown.modulename, f"{shown.qualname}.{name}"
        return public[0], f"{public[1]}.{name}"

    def _tell(self, variable: doc.Variable) -> None:
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
            elif public := self._homes.of(module, name):
                yield *public, ".".join(public)

    def _defaults(self) -> None:
        if not _is_struct(self._shown.obj):
            return
        for field in msgspec.structs.fields(self._shown.obj):
            default = field.default
            if field.default_factory is not msgspec.NODEFAULT:
                default = field.default_factory()
            variable = self._shown.members.get(field.name)
            if isinstance(variable, doc.Variable) and default is not msgspec.NODEFAULT:
                variable.default_value_str = repr(_worded(default))


def _is_struct(kind: type) -> bool:
    return issubclass(kind, msgspec.Struct)


def _worded(value: Any) -> Any:
    if value is inspect.Parameter.empty:
        return value
    if isinstance(value, enum.Enum):
        return _Word(f"{type(value).__name__}.{value.name}")
    return _Word(value.__name__) if inspect.isclass(value) else value
