"""What PyInstaller and its kind find: they read import statements, and no files."""

from __future__ import annotations

import ast
from functools import cache
from modulefinder import ModuleFinder
from pathlib import Path

import pytest

from tests.support.markdown import ROOT

PACKAGE = ROOT / "qos_async"
# Each optional package, and a module of ours that needs it.
OPTIONAL = {
    "exchange_calendars": "qos_async.markets.sessions",
    "matplotlib.figure": "qos_async.charts.picture",
    "matplotlib.ticker": "qos_async.charts.picture",
    "pandas": "qos_async.frames.packages",
    "platformdirs": "qos_async.cli.settings",
    "plotly.graph_objects": "qos_async.charts.html",
    "polars": "qos_async.frames.packages",
    "pyarrow": "qos_async.frames.packages",
    "pyarrow.parquet": "qos_async.recordings.parquet",
    "rich.console": "qos_async.cli.tables",
    "textual.app": "qos_async.cli.watch.app",
}


@cache
def finder() -> ModuleFinder:
    """Search as packagers do, from the program, among our own modules."""
    found = ModuleFinder(path=[str(ROOT)])
    found.run_script(str(PACKAGE / "__main__.py"))
    return found


@pytest.mark.fault("F27")
def test_every_module_of_the_program_is_found():
    ours = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in PACKAGE.rglob("*.py")
    }
    # A program does not need the pytest plugin, which is loaded by an entry point.
    # The program does not reach the stream yet.
    apart = ("qos_async.testing", "qos_async.jetstream")
    ours = {name for name in ours if not name.startswith(apart)}
    assert ours - finder().modules.keys() == {"qos_async.__main__"}


@pytest.mark.fault("F27")
@pytest.mark.parametrize(("package", "module"), OPTIONAL.items())
def test_every_optional_package_is_imported_by_a_statement(package: str, module: str):
    importers = finder().badmodules.get(package) or finder().badmodules.get(
        package.partition(".")[0], {}
    )
    assert module in importers


def test_a_zstandard_library_is_imported_by_a_statement():
    importers = {**finder().badmodules, **finder().modules}
    assert {"backports", "backports.zstd", "compression"} & importers.keys()


def test_nothing_is_imported_by_a_name_in_a_variable_but_our_own_modules():
    """Those that are loaded lazily have a statement for type checkers, too."""
    lazy = {PACKAGE / "_lazy.py"}
    found = {
        path
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).rpartition(".")[2] in ("import_module", "__import__")
    }
    assert found == lazy


def test_the_package_has_no_files_that_are_not_modules():
    """Except the mark for type checkers, which a program does not need."""
    others = {
        path.relative_to(PACKAGE)
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert others == {Path("py.typed")}
