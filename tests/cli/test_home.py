"""Commands without a home directory, or one that may not be read: as without a file."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from qos_async.cli.settings import config_path
from tests.support.cli_process import ROOT

pytestmark = pytest.mark.slow

UNKNOWN_USER = 54_321
# This user may not read the Python of another one, so everything is imported before.
AS_USER = f"""
import contextlib, io, json, os, sys
from qos_async.cli import main
with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO())):
    assert main(["snapshot", "--sim", "US:AAPL", "--json"]) == 0
    assert main(["doctor", "--sim"]) == 0
"x".encode("idna")
os.environ.pop("HOME")
if "HOME_OF_USER" in os.environ:
    os.environ["HOME"] = os.environ["HOME_OF_USER"]
os.setgroups([]); os.setgid({UNKNOWN_USER}); os.setuid({UNKNOWN_USER})
for words in json.loads(sys.argv[1]):
    code = main(words)
    for stream in (sys.stdout, sys.stderr):
        print(f"exit {{code}}", file=stream, flush=True)
"""
UNKNOWN = """
import os, pwd, sys
from qos_async.cli import main
def unknown(user):
    raise KeyError(user)
pwd.getpwuid = unknown
del os.environ["HOME"]
sys.exit(main())
"""
is_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs another user id"
)


@pytest.fixture
def closed(tmp_path):
    """A home directory that only its owner may read, with a file."""
    folder = tmp_path / "home" / ".config" / "qos-async"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text("key = 5\n")
    (tmp_path / "home").chmod(0o700)
    return tmp_path / "home"


def run_all(*commands, home):
    """Return exit code, stdout and stderr of each command, run by another user."""
    done = run(json.dumps(commands), home=home)
    outputs = [re.split(r"exit \d+\n", text) for text in (done.stdout, done.stderr)]
    codes = map(int, re.findall(r"exit (\d+)\n", done.stdout))
    return list(zip(codes, *outputs, strict=False))


def run(*words, home=None, code=AS_USER, **variables):
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        cwd="/",
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "HOME": "/nonexistent",
            **({"HOME_OF_USER": str(home)} if home else {}),
            **variables,
        },
        timeout=30,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.mark.fault("F12")
@is_root
@pytest.mark.parametrize("home", [None, "/nonexistent", "relative", "closed", "file"])
def test_a_user_without_a_home_gets_what_one_without_a_file_gets(home, closed):
    place = {"closed": closed, "file": closed / ".config/qos-async/config.toml"}
    home = place.get(home, home)
    simulated, keyless, keyed = run_all(
        ["snapshot", "--sim", "US:AAPL", "--json"],
        ["snapshot", "US:AAPL"],
        ["snapshot", "US:AAPL", "--key", "k", "--http-url", "http://127.0.0.1:9"],
        home=home,
    )
    code, out, err = simulated
    assert (code, err) == (0, "")
    assert out.startswith('{"symbol":"US:AAPL"')
    code, _, err = keyless
    assert code == 3
    assert err.startswith("qos: there is no API key: set QOS_API_KEY")
    code, _, err = keyed
    assert code == 1
    assert "set QOS_API_KEY" in err


@pytest.mark.fault("F12")
def test_no_command_needs_a_home(tmp_path):
    out, page = tmp_path / "out.csv", tmp_path / "chart.html"
    words = ("history", "CF:BTCUSDT", "--interval", "1h", "--from", "1d", "--sim")
    for typed in (
        (*words, "-o", str(out)),
        ("chart", "CF:BTCUSDT", "--sim", "-o", str(page)),
        ("doctor", "--sim"),
        ("products", "US", "--sim", "--csv"),
    ):
        done = run(*typed, code=UNKNOWN)
        assert done.returncode == 0, done.stderr
    assert out.exists()
    assert page.exists()


@is_root
def test_a_file_that_may_not_be_read_is_left_out_with_a_warning():
    """As after ``sudo -u other``, which keeps ``HOME``."""
    with tempfile.TemporaryDirectory() as place:  # pytest closes its own to others.
        home = Path(place)
        path = home / ".config" / "qos-async" / "config.toml"
        path.parent.mkdir(parents=True)
        path.write_text('key = "k"\n')
        home.chmod(0o755)
        path.chmod(0o600)
        [(code, _, err)] = run_all(["snapshot", "US:AAPL"], home=home)
    assert code == 3
    first, second = err.splitlines()
    assert (
        first == f"qos: warning: cannot read {path}: Permission denied: it is left out"
    )
    assert "there is no API key" in second


def test_without_a_home_there_is_no_path_whatever_platformdirs_does(monkeypatch):
    def missing() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setattr(Path, "home", missing)
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_, **__: missing())
    assert config_path() is None
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_, **__: Path("~/x"))
    assert config_path() is None
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    assert config_path() is None
    monkeypatch.setattr(Path, "home", lambda: Path("relative"))
    assert config_path() is None
