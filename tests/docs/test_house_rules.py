"""Rules of CONTRIBUTING that a machine can check: names, words and sizes."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.markdown import ROOT

PACKAGE = ROOT / "qos_async"
PAGES = (
    *("README.md", "llms.txt", "CHANGELOG.md", "examples/README.md"),
    "examples/hub.md",
    "examples/fleet.md",
    *("benchmarks/README.md", "tests/FAULTS.md"),
    *(".github/CONTRIBUTING.md", ".github/SECURITY.md"),
)
# A package, or the modules that lie flat in a folder.
AREAS = sorted(
    {
        path.parent.relative_to(ROOT).as_posix()
        for folder in ("qos_async", "tests", "examples", "benchmarks", ".github")
        for path in (ROOT / folder).rglob("*.py")
    }
)

# Components are not people, data flow is not speech, and prose is literal.
BANNED = re.compile(
    r"\b(?:whoever|whom|nobody|somebody|anybody|everybody"
    r"|told|untold|hears|heard|overheard|hearsay"
    r"|wish(?:es|ed)?|goodbyes?|polite(?:ly)?|guilty|pardon(?:s|ed)?"
    r"|heal(?:s|ed|ing)?|(?-i:is|are) (?-i:none)|be had|ma[dk]e good|rid of)\b"
    r"|\A(?:Give|Tell|Say)s?\b",
    re.IGNORECASE,
)
FILE_LINES, CLASS_LINES, CLASS_ATTRIBUTES, FUNCTION_LINES = 500, 300, 14, 40

_FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef
_DOCUMENTED = ast.Module | ast.ClassDef | _FUNCTION
_DIRECTIVE = re.compile(r"#\s*(?:noqa|type:|pyright|pragma|fmt)")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the docstrings, comments and names of tests of a module, with their lines."""
    for node in ast.walk(tree(path)):
        if isinstance(node, _DOCUMENTED) and (text := ast.get_docstring(node)):
            yield node.body[0].lineno, text
        if isinstance(node, _FUNCTION) and node.name.startswith("test_"):
            yield node.lineno, node.name.replace("_", " ")
    source = io.StringIO(path.read_text("utf-8"))
    for token in tokenize.generate_tokens(source.readline):
        if token.type == tokenize.COMMENT and not _DIRECTIVE.match(token.string):
            yield token.start[0], token.string.lstrip("# ")


def banned(path: Path, texts: Iterator[tuple[int, str]]) -> list[str]:
    """Return ``file:line: word`` for each banned word."""
    name = path.relative_to(ROOT).as_posix()
    return [
        f"{name}:{line + text.count(chr(10), 0, match.start())}: {match[0]}"
        for line, text in texts
        for match in BANNED.finditer(text)
    ]


@pytest.mark.parametrize("area", AREAS)
def test_docstrings_comments_and_test_names_are_plain_technical_english(area):
    paths = sorted((ROOT / area).glob("*.py"))
    found = [hit for path in paths for hit in banned(path, prose(path))]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("page", PAGES)
def test_pages_are_plain_technical_english(page):
    # Code spans may name tests, and code has comments of its own.
    text = re.sub(r"`[^`\n]+`", "``", (ROOT / page).read_text("utf-8"))
    found = banned(ROOT / page, enumerate(text.splitlines(), 1))
    assert not found, "\n" + "\n".join(found)


def test_class_names_are_unique_outside_the_screen_of_qos_watch():
    places = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        if PACKAGE / "cli" / "watch" in path.parents:
            continue
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef):
                place = f"{path.relative_to(ROOT).as_posix()}:{node.lineno}"
                places[node.name].append(place)
    found = [
        f"{name}: {', '.join(where)}"
        for name, where in sorted(places.items())
        if len(where) > 1
    ]
    assert not found, "\n" + "\n".join(found)


def sizes(path: Path) -> Iterator[tuple[str, int, int]]:
    """Yield what is measured in a module, its size, and the bound."""
    name = path.relative_to(ROOT).as_posix()
    yield f"{name}: lines", len(path.read_text("utf-8").splitlines()), FILE_LINES
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ClassDef):
            place = f"{name}:{node.lineno}: {node.name}"
            yield f"{place}: lines", length(node, node), CLASS_LINES
            yield f"{place}: attributes", len(attributes(node)), CLASS_ATTRIBUTES
        elif isinstance(node, _FUNCTION):
            body = node.body[bool(ast.get_docstring(node)) :] or node.body
            place = f"{name}:{node.lineno}: {node.name}"
            yield f"{place}: lines", length(body[0], node), FUNCTION_LINES


def length(first: ast.stmt, last: ast.stmt) -> int:
    return (last.end_lineno or last.lineno) - first.lineno + 1


def attributes(kind: ast.ClassDef) -> set[str]:
    """Return the attributes that a class assigns on ``self``."""
    return {
        target.attr
        for node in ast.walk(kind)
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Attribute)
        and isinstance(target.value, ast.Name)
        and target.value.id == "self"
    }


def test_files_classes_and_functions_have_a_readable_size():
    found = [
        f"{what}: {size}, at most {bound}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for what, size, bound in sizes(path)
        if size > bound
    ]
    assert not found, "\n" + "\n".join(found)
