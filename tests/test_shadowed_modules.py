"""A file of the user's own that hides a module of the standard library."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.fault("F14")


def run(folder: Path, statement: str) -> str:
    """Run a program in ``folder`` and return what it wrote to stderr."""
    (folder / "bot.py").write_text(statement + "\n")
    done = subprocess.run(
        [sys.executable, "bot.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        # Coverage would import the real modules first.
        env={n: v for n, v in os.environ.items() if not n.startswith("COVERAGE")},
    )
    assert done.returncode == 1, done
    return done.stderr


@pytest.mark.parametrize("hidden", ["calendar", "logging", "ssl", "asyncio", "json"])
@pytest.mark.parametrize(
    "statement", ["from qos_async import Client", "import qos_async; qos_async.Client"]
)
def test_the_error_shows_what_is_hidden_and_by_which_file(tmp_path, hidden, statement):
    (tmp_path / f"{hidden}.py").write_text("mine = 1\n")
    shown = run(tmp_path, statement)
    assert f"{tmp_path / hidden}.py" in shown
    assert "cannot import name 'Client'" not in shown
    if hidden != "json":  # A hidden json fails with an ImportError of its own.
        assert "AttributeError" in shown
        assert "give it another name" in shown.splitlines()[-1]


@pytest.mark.parametrize(
    "statement",
    [
        "from qos_async.frames import to_polars",
        "from qos_async.testing import SimLoop",
        "from qos_async import Recorder",
        "from qos_async import replay",
    ],
)
def test_the_other_packages_show_it_too(tmp_path, statement):
    (tmp_path / "datetime.py").write_text("mine = 1\n")
    (tmp_path / "asyncio.py").write_text("mine = 1\n")
    shown = run(tmp_path, statement)
    assert "cannot import name 'to_polars'" not in shown
    assert "datetime" in shown or "asyncio" in shown


def test_a_module_that_works_has_an_attribute_error_for_unknown_names(tmp_path):
    shown = run(tmp_path, "import qos_async; qos_async.Klient")
    assert "AttributeError: module 'qos_async' has no attribute 'Klient'" in shown
