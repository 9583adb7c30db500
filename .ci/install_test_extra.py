"""Install this checkout with its extra ``test``, less what has no wheel for this Python.

Runs with the Python of the virtual environment that it installs into. The names of the
distributions that are left out are printed; their tests are skipped with a reason.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PIP = [sys.executable, "-m", "pip", "install", "-q"]


def requirements(extra: str) -> list[str]:
    """Return the requirements of an extra, and of the extras of this project in it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    found = []
    for one in project["optional-dependencies"][extra]:
        own = re.fullmatch(r"qos-async\[(.+)\]", one)
        if own is None:
            found.append(one)
        else:
            found += [more for name in own[1].split(",") for more in requirements(name)]
    return found


def install(*wanted: str) -> bool:
    """Install from wheels only; return whether all were found."""
    command = [*PIP, "--only-binary", ":all:", *wanted]
    done = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)
    return done.returncode == 0


def main() -> None:
    """Try all at once, and one by one where that fails."""
    subprocess.run([*PIP, "-e", str(ROOT)], check=True)
    wanted = requirements("test")
    if not install(*wanted):
        for one in wanted:
            if not install(one):
                print(f"left out, has no wheel for Python {sys.version}: {one}")


if __name__ == "__main__":
    main()
