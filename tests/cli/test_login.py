"""``qos login``: the key is tested, and stored without touching the rest of the file."""

from __future__ import annotations

import io
import stat
import sys
import tomllib

import pytest

from qos_async import AuthenticationError, Client
from qos_async.cli.key_file import write_key, write_table
from qos_async.cli.options import CommandError

BEFORE = """\
# My settings
key = "old" # of the desk
tz = "local"

[limits]
# key = "not this one"
symbols = 50
"""


@pytest.fixture
def served(live, monkeypatch):
    """The service, with no key in the environment."""
    monkeypatch.delenv("QOS_API_KEY")
    return live


def login(qos, monkeypatch, text, *words):
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    return qos("login", *words)


def test_a_piped_key_is_tested_and_stored(served, qos, home, monkeypatch):
    before = tomllib.loads(home.read_text())
    ran = login(qos, monkeypatch, f"{served.sim.key}\n")
    assert (ran.code, ran.err) == (0, "")
    assert "the key was accepted" in ran.out
    assert "the plan seems to include: US, HK, SH, SZ, CF" in ran.out
    assert served.sim.key not in ran.out
    assert tomllib.loads(home.read_text()) == {**before, "key": served.sim.key}
    assert stat.S_IMODE(home.stat().st_mode) == 0o600
    assert qos("snapshot", "US:AAPL").code == 0


def test_one_request_tests_the_key(served, qos, monkeypatch):
    before = len(served.sim.requests)
    login(qos, monkeypatch, served.sim.key)
    assert len(served.sim.requests) == before + 1


@pytest.mark.fault("Y4")
def test_a_rejected_key_is_not_stored(served, qos, home, monkeypatch):
    before = home.read_text()
    ran = login(qos, monkeypatch, "a-wrong-key")
    assert ran.code == 3
    assert "rejected the API key" in ran.err
    assert "the key was not stored" in ran.err
    assert "a-wrong-key" not in ran.err
    assert home.read_text() == before


@pytest.mark.parametrize(
    "asked",
    [
        ("", [], 2, "no key was given"),
        ("a b", [], 3, "without spaces"),
        ("k", ["--sim"], 2, "--sim needs no key"),
        ("k", ["--key", "k"], 2, "--key is shown by ps"),
        ("k", ["--http-url", "http://127.0.0.1:1"], 1, "the key was not stored"),
    ],
)
def test_what_cannot_be_stored(asked, qos, home, monkeypatch):
    text, words, code, says = asked
    before = home.read_text()
    ran = login(qos, monkeypatch, text, *words)
    assert ran.code == code
    assert says in ran.err
    assert home.read_text() == before


def test_without_a_check_nothing_is_sent(qos, home, monkeypatch):
    words = ("--no-check", "--http-url", "http://127.0.0.1:1")
    assert login(qos, monkeypatch, "some-key", *words).code == 0
    assert tomllib.loads(home.read_text())["key"] == "some-key"


def test_a_key_of_the_environment_is_mentioned(live, qos, monkeypatch):
    ran = login(qos, monkeypatch, live.sim.key)
    assert "QOS_API_KEY is set, and is used instead of the file" in ran.err


@pytest.mark.fault("Y4")
def test_comments_and_other_entries_stay(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(BEFORE)
    path.chmod(0o644)
    write_key(path, 'new"\\')
    assert path.read_text() == BEFORE.replace('"old"', '"new\\"\\\\"')
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("before", ["", "# nothing yet\n", "[limits]\nsymbols = 5\n"])
def test_a_file_without_a_key_gets_one(before, tmp_path):
    path = tmp_path / "new" / "config.toml"
    if before:
        path.parent.mkdir()
        path.write_text(before)
    write_key(path, "k")
    assert path.read_text() == f'key = "k"\n{before}'
    assert [one.name for one in path.parent.iterdir()] == ["config.toml"]


def test_a_link_stays_a_link(tmp_path):
    real, link = tmp_path / "real.toml", tmp_path / "config.toml"
    real.write_text("")
    link.symlink_to(real)
    write_key(link, "k")
    assert link.is_symlink()
    assert real.read_text() == 'key = "k"\n'


@pytest.mark.fault("Y4")
def test_a_key_on_several_lines_is_not_replaced(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text('key = """\nold"""\n')
    with pytest.raises(CommandError, match="cannot replace the key"):
        write_key(path, "k")
    assert "old" in path.read_text()


def test_a_client_without_a_key_names_where_to_get_one(monkeypatch):
    monkeypatch.delenv("QOS_API_KEY", raising=False)
    with pytest.raises(AuthenticationError, match=r"given out at https://qos\.hk"):
        Client()


WATCH = """\
key = "k"  # of the desk

[watch] # mine
# the desk
symbols = [
  "US:AAPL",  # Apple
  "HK:700",
]
interval = "5m"  # short

tz = 1

[limits]
symbols = 50
"""


def test_a_table_is_written_and_comments_and_the_rest_stay(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(WATCH)
    new = {"symbols": ["US:A"], "interval": "1m", "sort": "change", "alerts": []}
    write_table(path, "watch", new)
    assert (
        path.read_text()
        == """\
key = "k"  # of the desk

[watch] # mine
# the desk
# Apple
symbols = ["US:A"]
interval = "1m"  # short

tz = 1
sort = "change"
alerts = []

[limits]
symbols = 50
"""
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    once = path.read_text()
    write_table(path, "watch", new)
    assert path.read_text() == once


@pytest.mark.parametrize("before", ["", 'key = "k"\n', "[limits]\nsymbols = 5"])
def test_a_file_without_the_table_gets_it_at_its_end(before, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(before)
    write_table(path, "watch", {"sort": "change"})
    assert path.read_text().startswith(before)
    assert tomllib.loads(path.read_text()) == {
        **tomllib.loads(before),
        "watch": {"sort": "change"},
    }


@pytest.mark.parametrize(
    "before",
    ["watch.symbols = []\n", "watch = {sort = 'given'}\n", "watch = 1\n", "[watch"],
)
def test_a_table_in_another_form_is_not_replaced(before, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(before)
    with pytest.raises(CommandError, match=r"begin the table with a line \[watch\]"):
        write_table(path, "watch", {"sort": "change"})
    assert path.read_text() == before
