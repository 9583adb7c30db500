"""Type checkers agree with ``surface.py`` about the public names."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CACHE = ROOT / ".mypy_cache" / "surface"


@pytest.mark.slow
@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_the_checker_infers_the_documented_types(checker):
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f"{checker} is not installed")
    command = [sys.executable, "-m", checker]
    if checker == "mypy":
        command += ["--strict", "--config-file=", f"--cache-dir={CACHE}"]
    else:  # It may run from an environment that no shell has activated.
        command += ["--pythonpath", sys.executable]
    done = subprocess.run(
        [*command, str(HERE / "surface.py")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
