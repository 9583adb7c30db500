"""Public names of the package with their docstrings, and the checks on these.

Requires only the standard library: the test suite imports this module as well.
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
    "PublicName",
    "PublicPaths",
    "attributes",
    "problems",
    "public_names",
    "without_attributes",
]

MODULES = (
    "qos_async",
    "qos_async.charts",
    "qos_async.frames",
    "qos_async.hub",
    "qos_async.markets",
    "qos_async.recordings",
    "qos_async.sim",
    "qos_async.symbols",
    "qos_async.testing",
    "qos_async.testing.virtual",
)
"""The modules that users import from; the names in their ``__all__`` are public."""

PACKAGE = "qos_async"

_SECTION = re.compile(r"^Attributes:\n((?:\n|[ \t].*(?:\n|$))+)", re.MULTILINE)
_ENTRY = re.compile(r"^    (\w+): (.*(?:\n(?:     .*|(?=\n     )))*)", re.MULTILINE)
_QUOTED = re.compile(r"(?<!`)(``?)([A-Za-z_][\w.]*)(?:\(\))?\1(?!`)")
# Names of other packages that the docstrings mention.
_FOREIGN = {"Decimal", "Fingerprint", "ParquetWriter"}
_LOGGERS = {"qos_async.http", "qos_async.stream"}
_OURS = re.compile(r"[A-Z]\w*[a-z]\w*|(?:fetch|iter|watch)_\w+")


class PublicName(NamedTuple):
    """A public name and its documentation."""

    path: str
    text: str
    scope: dict[str, Any]
    """The namespace of the module that defines it."""


def public_names(modules: Collection[str] = MODULES) -> Iterator[PublicName]:
    """Iterate over all public names: modules, their names, members of classes."""
    for name in modules:
        module = importlib.import_module(name)
        yield PublicName(name, inspect.getdoc(module) or "", vars(module))
        for member in module.__all__:
            if not member.startswith("_"):
                yield from _value(module, member)


def _value(module: ModuleType, name: str) -> Iterator[PublicName]:
    value, path = getattr(module, name), f"{module.__name__}.{name}"
    if inspect.isclass(value):
        scope = vars(_module_of(value))
        yield PublicName(
            path, inspect.cleandoc(value.__dict__.get("__doc__") or ""), scope
        )
        for member, text in _Members(value).texts.items():
            yield PublicName(f"{path}.{member}", text, scope)
    elif inspect.isroutine(value) or hasattr(value, "__wrapped__"):
        scope = vars(_module_of(value))
        yield PublicName(path, inspect.getdoc(value) or "", scope)
    else:
        texts = (
            _source(one).literals("").get(name) for one in _modules_with(name, value)
        )
        yield PublicName(path, next(filter(None, texts), ""), vars(module))


def _modules_with(name: str, value: object) -> Iterator[ModuleType]:
    """Iterate over the package's modules that have a variable: one assigns it."""
    for path, module in sorted(sys.modules.items()):
        if path.startswith(PACKAGE) and vars(module).get(name) is value:
            yield module


def _module_of(value: Any) -> ModuleType:
    return importlib.import_module(value.__module__)


class PublicPaths:
    """Maps the place where an object is defined to the path that users import."""

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
        """Return the public module and name of an object; None for a private one."""
        return self._public.get((module, name))

    def shown(self, path: str) -> str:
        """Return a dotted path as users import it; a private name loses its module."""
        module, _, name = path.rpartition(".")
        if path in self._modules or module in {*self._modules, *self._classes}:
            return path
        return ".".join(self.of(module, name) or (name,))


class _Members:
    """The public members of a class, including those of base classes of the package."""

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
            below = _source(_module_of(base)).literals(base.__qualname__)
            texts = {**attributes(inspect.cleandoc(base.__doc__ or "")), **below}
            for name in self._names(base):
                text = texts.get(name) or self._docstring(base, name)
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
    """The source of a module, for docstrings below assignments."""

    def __init__(self, module: ModuleType) -> None:
        self._tree = ast.parse(inspect.getsource(module))

    def literals(self, qualname: str) -> dict[str, str]:
        """Return the docstrings below the assignments of a class (``""``: the module)."""
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
    """Return the entries of a docstring's section ``Attributes``."""
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
    """Return a docstring without its section ``Attributes``."""
    return _SECTION.sub("", text).rstrip()


def problems(names: Collection[PublicName]) -> list[str]:
    """Return missing docstrings, dead references and examples that do not parse."""
    known = {name.path for name in names}
    ends = {part for path in known for part in path.split(".")}
    found = []
    for name in names:
        if not name.text:
            found.append(f"{name.path}: no docstring")
        found += [f"{name.path}: {why}" for why in _dead_references(name, known, ends)]
        found += [f"{name.path}: {why}" for why in _broken_examples(name.text)]
    return found


def _dead_references(
    name: PublicName, known: set[str], ends: set[str]
) -> Iterator[str]:
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


def _broken_examples(text: str) -> Iterator[str]:
    try:
        examples = doctest.DocTestParser().get_examples(text)
        for example in examples:
            compile(example.source, "<example>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except (SyntaxError, ValueError) as error:
        yield f"the example is not Python: {error}"
