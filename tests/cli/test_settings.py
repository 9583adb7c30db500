"""What is configured, and by whom: arguments over environment over the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from qos_async import Limits
from qos_async.cli.connecting import Connection
from qos_async.cli.settings import SettingsError, config_path, read_file, resolve

FULL = """\
key = "key-of-the-file"
http_url = "https://file.example"
stream_url = "wss://file.example/ws"
key_in = "url"
proxy = "http://file.example:3128"

[limits]
symbols = 50
http_requests = 60
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(FULL)
    path.chmod(0o600)
    return path


def asked(**options):
    return Connection(**options)


def test_the_file_says_what_nobody_else_does(path):
    settings = resolve(asked(), {}, path=path)
    assert settings.key == "key-of-the-file"
    assert settings.http_url == "https://file.example"
    assert settings.stream_url == "wss://file.example/ws"
    assert settings.key_in == "url"
    assert settings.proxy == "http://file.example:3128"
    assert settings.limits == Limits(symbols=50, http_requests=60)
    assert settings.origins["key"] == str(path)
    assert settings.warnings == ()


def test_the_environment_comes_before_the_file(path):
    environment = {"QOS_API_KEY": "key-of-env", "QOS_HTTP_URL": "https://env.example"}
    settings = resolve(asked(), environment, path=path)
    assert settings.key == "key-of-env"
    assert settings.http_url == "https://env.example"
    assert settings.stream_url == "wss://file.example/ws"
    assert settings.origins["key"] == "QOS_API_KEY"


def test_arguments_come_before_everything(path):
    environment = {"QOS_API_KEY": "key-of-env", "QOS_PROXY": "http://env:1"}
    words = asked(key="key-typed", proxy="http://typed:1", symbols_limit=7)
    settings = resolve(words, environment, path=path)
    assert (settings.key, settings.proxy) == ("key-typed", "http://typed:1")
    assert settings.limits == Limits(symbols=7, http_requests=60)
    assert settings.origins["key"] == "--key"


def test_a_key_that_was_typed_is_warned_about(path):
    """Ps shows it, and the shell's history."""
    [warning] = resolve(asked(key="key-typed"), {}, path=path).warnings
    assert "ps" in warning
    assert "QOS_API_KEY" in warning
    assert "key-typed" not in warning


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_file_with_a_key_that_others_may_read_is_warned_about(path, mode):
    path.chmod(mode)
    [warning] = read_file(path).warnings
    assert f"chmod 600 {path}" in warning
    assert "key-of-the-file" not in warning


def test_a_file_without_a_key_may_be_read_by_all(path):
    path.write_text("[limits]\nsymbols = 3\n")
    path.chmod(0o644)
    assert read_file(path).warnings == ()


def test_an_empty_variable_is_as_good_as_none(path):
    settings = resolve(asked(), {"QOS_API_KEY": ""}, path=path)
    assert settings.origins["key"] == str(path)


def test_no_file_is_no_error(tmp_path):
    assert read_file(tmp_path / "nowhere" / "config.toml").key is None
    (tmp_path / "file").touch()
    assert read_file(tmp_path / "file" / "config.toml").key is None


def test_the_file_is_where_the_standard_says(tmp_path):
    assert config_path({"XDG_CONFIG_HOME": str(tmp_path)}).parents[1] == tmp_path
    for useless in ({}, {"XDG_CONFIG_HOME": ""}, {"XDG_CONFIG_HOME": "relative"}):
        assert config_path(useless) == Path.home() / ".config/qos-async/config.toml"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('key = "k"\nhttp_ulr = "x"\n', "config.toml, line 2: http_ulr is not known"),
        ("\nkey = 5\n", "config.toml, line 2: key must be a text in quotes"),
        ("limits = 5\n", "config.toml, line 1: limits must be a table, [limits]"),
        ("\n[colours]\n", "config.toml, line 2: colours is not known"),
        ("[limits]\nsymbol = 5\n", "line 2: limits.symbol is not known; there are"),
        ("[limits]\n\nsymbols = 0\n", "line 3: limits.symbols must be a whole number"),
        ('[limits]\nsymbols = "x"\n', "line 2: limits.symbols must be a whole number"),
        ("limits.symbols = 0\n", "line 1: limits.symbols must be"),
        ("limits = { symbols = 0 }\n", "line 1: limits.symbols must be"),
        ('key_in = "pocket"\n', 'line 1: key_in must be "header" or "url"'),
        ('key = "k"\nhttp_url = \n', "config.toml is not valid TOML: "),
        ('key = "k"\nhttp_url = \n', "line 2"),
    ],
)
def test_what_nobody_understands_is_told_with_its_line(path, content, says):
    path.write_text(content)
    with pytest.raises(SettingsError) as caught:
        read_file(path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_that_cannot_be_read_is_told(path, tmp_path):
    with pytest.raises(SettingsError, match=r"cannot read .*: Is a directory"):
        read_file(tmp_path)
    path.write_bytes(b'key = "\xff"')
    with pytest.raises(SettingsError, match="is not UTF-8 text"):
        read_file(path)


def test_the_key_does_not_show(path):
    """Not even when somebody prints the settings."""
    assert "key-of" not in repr(resolve(asked(), {}, path=path))
