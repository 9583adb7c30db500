"""The public names of the package, and what importing it loads."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import qos_async

SOURCE = Path(qos_async.__file__).parent
PURE = sorted(
    [
        *(SOURCE / "_core").glob("*.py"),
        *(
            SOURCE / f"{name}.py"
            for name in [
                "symbols",
                "enums",
                "models",
                "periods",
                "results",
                "config",
                "errors",
                "stats",
                "metrics",
                "topics",
            ]
        ),
    ]
)


@pytest.mark.parametrize("name", qos_async.__all__)
def test_every_public_name_is_there(name: str):
    assert getattr(qos_async, name) is not None
    assert name in dir(qos_async)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = qos_async.nonsense


def test_the_type_checker_and_the_run_time_see_the_same_names():
    tree = ast.parse((SOURCE / "__init__.py").read_text())
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        and node.module not in {"typing", "__future__", "qos_async._lazy"}
        for alias in node.names
    }
    assert imported == set(qos_async.__all__)


def test_the_version_is_written_once():
    version = importlib.import_module("qos_async._version").__version__
    assert qos_async.__version__ == version


def test_importing_the_package_and_its_core_loads_no_network_library():
    program = (
        "import sys, qos_async, qos_async._core.protocol, qos_async._core.queries;"
        "print([m for m in ('aiohttp', 'anyio', 'tenacity', 'asyncio')"
        " if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=SOURCE.parent,
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "path", PURE, ids=lambda path: path.relative_to(SOURCE).as_posix()
)
def test_the_core_has_no_await_and_no_clock(path: Path):
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Await | ast.AsyncFunctionDef | ast.AsyncFor)
        if isinstance(node, ast.Import):
            names = {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {(node.module or "").partition(".")[0]}
        else:
            continue
        assert not names & {"asyncio", "time", "random", "socket", "logging", "os"}


@pytest.mark.parametrize(
    "path", PURE, ids=lambda path: path.relative_to(SOURCE).as_posix()
)
def test_every_name_in_all_is_defined(path: Path):
    name = ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts)
    module = importlib.import_module(name.removesuffix(".__init__"))
    for public in getattr(module, "__all__", ()):
        assert hasattr(module, public)
