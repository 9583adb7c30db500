"""``tests/FAULTS.md`` and the marks of the tests list the same faults."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

_TESTS = Path(__file__).parents[1]
_ROW = re.compile(r"^\| ([A-Z][0-9]+) \|.*\| ([^|]+) \|$", re.MULTILINE)
_MARK = "pytest.mark.fault"
_NAMED = re.compile(r"`(tests/[\w/]+\.py::\w+)`")

# The matrix of the design, and what must hold throughout.
_KNOWN = {
    f"{letter}{number}"
    for letter, count in {"T": 25, "P": 26, "U": 21, "I": 18, "H": 18}.items()
    for number in range(1, count + 1)
}


@cache
def _listed() -> dict[str, list[str]]:
    """The rows of the table, and the tests that each names."""
    text = (_TESTS / "FAULTS.md").read_text()
    rows = _ROW.findall(text)
    assert len(rows) == len({row for row, _ in rows}), "a row stands there twice"
    return {row: _NAMED.findall(tests) for row, tests in rows}


@cache
def _marked() -> dict[str, set[str]]:
    """All tests, and the rows that each is marked with."""
    found: dict[str, set[str]] = {}
    for path in sorted(_TESTS.rglob("test_*.py")):
        name = path.relative_to(_TESTS.parent).as_posix()
        for test, rows in _Module(ast.parse(path.read_text())):
            found[f"{name}::{test}"] = rows
    return found


class _Module:
    """The tests of one module; marks may stand in its constants, too."""

    def __init__(self, module: ast.Module) -> None:
        self._module = module
        self._constants = {
            ast.unparse(item.targets[0]): item.value
            for item in module.body
            if isinstance(item, ast.Assign)
        }

    def __iter__(self) -> Iterator[tuple[str, set[str]]]:
        constants = self._constants
        outer = self._rows(
            [constants[name] for name in ("pytestmark",) if name in constants]
        )
        yield from self._tests(self._module.body, outer)
        for name, value in constants.items():
            if name.startswith("Test") and name.isidentifier():  # Made by Hypothesis.
                yield name, outer | self._rows([value])

    def _tests(
        self, body: list[ast.stmt], outer: set[str]
    ) -> Iterator[tuple[str, set[str]]]:
        for item in body:
            if isinstance(item, ast.ClassDef):
                rows = outer | self._rows(item.decorator_list)
                yield from self._tests(item.body, rows)
            elif not isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            elif item.name.startswith("test"):
                yield item.name, outer | self._rows(item.decorator_list)

    def _rows(self, marks: list[ast.expr]) -> set[str]:
        rows: set[str] = set()
        for part in (part for mark in marks for part in ast.walk(mark)):
            if isinstance(part, ast.Name) and part.id in self._constants:
                rows |= self._rows([self._constants[part.id]])
            elif isinstance(part, ast.Call) and ast.unparse(part.func) == _MARK:
                rows |= {ast.literal_eval(row) for row in part.args}
        return rows


def test_every_fault_of_the_design_is_listed():
    assert _listed().keys() >= _KNOWN


@pytest.mark.parametrize("row", sorted(_KNOWN | _listed().keys()))
def test_every_fault_has_a_test_that_is_marked_with_it(row):
    named = _listed()[row]
    assert named, f"{row} names no test"
    for test in named:
        assert test in _marked(), f"{row} names {test}, which does not exist"
        assert row in _marked()[test], f"{test} is not marked with {row}"


def test_no_test_is_marked_with_a_fault_that_is_not_listed():
    unknown = {
        f"{test}: {row}"
        for test, rows in _marked().items()
        for row in rows - _listed().keys()
    }
    assert not unknown


def test_every_test_in_this_folder_is_marked_with_a_fault():
    here = Path(__file__).relative_to(_TESTS.parent).as_posix()
    silent = {
        test
        for test, rows in _marked().items()
        if test.startswith("tests/faults/") and not test.startswith(here) and not rows
    }
    assert not silent
