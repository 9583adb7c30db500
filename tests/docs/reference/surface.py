"""What is public, with the docstring of each name; and what is wrong with these.

Nothing but the standard library is needed here: the test suite looks at it, too.
"""

from __future__ import annotations

import ast
import builtins
import doctest
import enum
import importlib
import inspect
import re
import sys
from collections.abc import Collection, Iterator
from functools import cache, cached_property
from itertools import pairwise
from types import ModuleType
from typing import Any, NamedTuple

__all__ = [
    "MODULES",
    "PACKAGE",
    "Homes",
    "Named",
    "attributes",
    "faults",
    "surface",
    "without_attributes",
]

MODULES = (
    "qos_async",
    "qos_async.frames",
    "qos_async.markets",
    "qos_async.recordings",
    "qos_async.sim",
    "qos_async.symbols",
    "qos_async.testing",
    "qos_async.testing.virtual",
)
"""The modules that users may import from, and whose ``__all__`` is public."""

PACKAGE = "qos_async"

_SECTION = re.compile(r"^Attributes:\n((?:\n|[ \t].*(?:\n|$))+)", re.MULTILINE)
_ENTRY = re.compile(r"^    (\w+): (.*(?:\n(?:     .*|(?=\n     )))*)", re.MULTILINE)
_QUOTED = re.compile(r"(?<!`)(``?)([A-Za-z_][\w.]*)(?:\(\))?\1(?!`)")
# Other people's names that the docstrings need.
_FOREIGN = {"Decimal", "Fingerprint", "ParquetWriter"}
_LOGGERS = {"qos_async.http", "qos_async.stream"}
_OURS = re.compile(r"[A-Z]\w*[a-z]\w*|(?:fetch|iter|watch)_\w+")


class Named(NamedTuple):
    """A public name and what is written about it."""

    path: str
    text: str
    scope: dict[str, Any]
    """What the module knows in which it is written."""


def surface(modules: Collection[str] = MODULES) -> Iterator[Named]:
    """Walk over everything public: modules, their names, the members of classes."""
    for name in modules:
        module = importlib.import_module(name)
        yield Named(name, inspect.getdoc(module) or "", vars(module))
        for member in module.__all__:
            if not member.startswith("_"):
                yield from _value(module, member)


def _value(module: ModuleType, name: str) -> Iterator[Named]:
    value, path = getattr(module, name), f"{module.__name__}.{name}"
    if inspect.isclass(value):
        scope = vars(_module_of(value))
        yield Named(path, inspect.cleandoc(value.__dict__.get("__doc__") or ""), scope)
        for member, text in _Members(value).texts.items():
            yield Named(f"{path}.{member}", text, scope)
    elif inspect.isroutine(value) or hasattr(value, "__wrapped__"):
        scope = vars(_module_of(value))
        yield Named(path, inspect.getdoc(value) or "", scope)
    else:
        texts = (_source(one).literals("").get(name) for one in _homes(name, value))
        yield Named(path, next(filter(None, texts), ""), vars(module))


def _homes(name: str, value: object) -> Iterator[ModuleType]:
    """Find our modules that have a variable: one of them assigns it."""
    for path, module in sorted(sys.modules.items()):
        if path.startswith(PACKAGE) and vars(module).get(name) is value:
            yield module


def _module_of(value: Any) -> ModuleType:
    return importlib.import_module(value.__module__)


class Homes:
    """Where users find what is defined elsewhere."""

    def __init__(self, modules: Collection[str] = MODULES) -> None:
        self._modules = modules
        self._public: dict[tuple[str, str], tuple[str, str]] = {}
        self._classes: set[str] = set()
        for name in modules:
            module = importlib.import_module(name)
            for member in module.__all__:
                value = getattr(module, member)
                place = getattr(value, "__module__", None) or name
                at = place, getattr(value, "__qualname__", member)
                self._public.setdefault(at, (name, member))
                if inspect.isclass(value):
                    self._classes.add(f"{name}.{member}")

    def of(self, module: str, name: str) -> tuple[str, str] | None:
        """Give the public module and name of something; None if it has none."""
        return self._public.get((module, name))

    def shown(self, path: str) -> str:
        """Write a dotted path as users know it; what is private loses its module."""
        module, _, name = path.rpartition(".")
        if path in self._modules or module in {*self._modules, *self._classes}:
            return path
        return ".".join(self.of(module, name) or (name,))


class _Members:
    """The public members of a class, those of our other classes included."""

    def __init__(self, kind: type) -> None:
        self._kind = kind
        self._bases = [
            base
            for base in kind.__mro__
            if base.__module__.partition(".")[0] == kind.__module__.partition(".")[0]
        ]

    @cached_property
    def texts(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for base in self._bases:
            told = _source(_module_of(base)).literals(base.__qualname__)
            told = {**attributes(inspect.cleandoc(base.__doc__ or "")), **told}
            for name in self._names(base):
                text = told.get(name) or self._docstring(base, name)
                found[name] = found.get(name) or text
        return found

    def _names(self, base: type) -> list[str]:
        names = [*inspect.get_annotations(base), *vars(base)]
        names += attributes(inspect.cleandoc(base.__dict__.get("__doc__") or ""))
        return [name for name in dict.fromkeys(names) if not name.startswith("_")]

    @staticmethod
    def _docstring(base: type, name: str) -> str:
        value = base.__dict__.get(name)
        if isinstance(value, (property, cached_property, classmethod, staticmethod)):
            return inspect.getdoc(value) or ""
        if inspect.isfunction(value) or (
            inspect.isclass(value) and not isinstance(value, enum.Enum)
        ):
            return inspect.cleandoc(value.__doc__ or "")
        return ""


class _Source:
    """The text of a module: it has what is written below an assignment."""

    def __init__(self, module: ModuleType) -> None:
        self._tree = ast.parse(inspect.getsource(module))

    def literals(self, qualname: str) -> dict[str, str]:
        """Give the docstrings that stand below the assignments of a class."""
        body: list[ast.stmt] = self._tree.body
        for part in filter(None, qualname.split(".")):
            inner = [
                one
                for one in body
                if isinstance(one, ast.ClassDef) and one.name == part
            ]
            body = inner[0].body if inner else []
        return dict(_literals(body))


@cache
def _source(module: ModuleType) -> _Source:
    return _Source(module)


def _literals(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for above, below in pairwise(body):
        match above, below:
            case (
                (
                    ast.Assign(targets=[ast.Name(id=name)])
                    | ast.AnnAssign(target=ast.Name(id=name))
                ),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                yield name, inspect.cleandoc(text)
            case _:
                pass


def attributes(text: str) -> dict[str, str]:
    """Give the entries of a docstring's section ``Attributes``."""
    section = _SECTION.search(text)
    return (
        {
            name: inspect.cleandoc(about)
            for name, about in _ENTRY.findall(section[1].rstrip())
        }
        if section
        else {}
    )


def without_attributes(text: str) -> str:
    """Give a docstring without its section ``Attributes``."""
    return _SECTION.sub("", text).rstrip()


def faults(names: Collection[Named]) -> list[str]:
    """List what is wrong: nothing written, a dead reference, a broken example."""
    known = {name.path for name in names}
    ends = {part for path in known for part in path.split(".")}
    found = []
    for name in names:
        if not name.text:
            found.append(f"{name.path}: nothing is written about it")
        found += [f"{name.path}: {why}" for why in _dead(name, known, ends)]
        found += [f"{name.path}: {why}" for why in _broken(name.text)]
    return found


def _dead(name: Named, known: set[str], ends: set[str]) -> Iterator[str]:
    for quoted in dict.fromkeys(_QUOTED.findall(name.text)):
        word = quoted[1]
        head = word.partition(".")[0]
        if head == PACKAGE:
            alive = word in known | _LOGGERS
        elif "." in word and head in ends and head[:1].isupper():
            alive = any(path.endswith(f".{word}") for path in known)
        elif _OURS.fullmatch(word):
            alive = word in ends | _FOREIGN | name.scope.keys() | vars(builtins).keys()
        else:
            continue
        if not alive:
            yield f"`{word}` is not a public name"


def _broken(text: str) -> Iterator[str]:
    try:
        examples = doctest.DocTestParser().get_examples(text)
        for example in examples:
            compile(example.source, "<example>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except (SyntaxError, ValueError) as error:
        yield f"its example is not Python: {error}"
