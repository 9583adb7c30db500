"""Tests of ``qos_async.cli.settings``."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from pathlib import Path

import pytest

from qos_async import Limits
from qos_async.cli.options import Options
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


def options(**given):
    return Options(**given)


def test_the_file_is_used_without_environment_and_options(path):
    settings = resolve(options(), {}, path=path)
    assert settings.key == "key-of-the-file"
    assert settings.http_url == "https://file.example"
    assert settings.stream_url == "wss://file.example/ws"
    assert settings.key_in == "url"
    assert settings.proxy == "http://file.example:3128"
    assert settings.limits == Limits(symbols=50, http_requests=60)
    assert settings.origins["key"] == str(path)
    assert settings.warnings == ()


def test_the_environment_overrides_the_file(path):
    environment = {"QOS_API_KEY": "key-of-env", "QOS_HTTP_URL": "https://env.example"}
    settings = resolve(options(), environment, path=path)
    assert settings.key == "key-of-env"
    assert settings.http_url == "https://env.example"
    assert settings.stream_url == "wss://file.example/ws"
    assert settings.origins["key"] == "QOS_API_KEY"


def test_options_override_environment_and_file(path):
    environment = {"QOS_API_KEY": "key-of-env", "QOS_PROXY": "http://env:1"}
    words = options(key="typed-key", proxy="http://typed:1", symbols_limit=7)
    settings = resolve(words, environment, path=path)
    assert (settings.key, settings.proxy) == ("typed-key", "http://typed:1")
    assert settings.limits == Limits(symbols=7, http_requests=60)
    assert settings.origins["key"] == "--key"


def test_a_key_on_the_command_line_warns(path):
    """Because ps shows it, and the shell's history."""
    [warning] = resolve(options(key="typed-key"), {}, path=path).warnings
    assert "ps" in warning
    assert "QOS_API_KEY" in warning
    assert "typed-key" not in warning


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_key_file_readable_by_others_warns(path, mode):
    path.chmod(mode)
    [warning] = read_file(path).warnings
    assert f"chmod 600 {path}" in warning
    assert "key-of-the-file" not in warning


def test_a_file_without_a_key_may_be_readable_by_others(path):
    path.write_text("[limits]\nsymbols = 3\n")
    path.chmod(0o644)
    assert read_file(path).warnings == ()


def test_an_empty_variable_counts_as_unset(path):
    settings = resolve(options(), {"QOS_API_KEY": ""}, path=path)
    assert settings.origins["key"] == str(path)


def test_a_missing_file_is_not_an_error(tmp_path):
    assert read_file(tmp_path / "nowhere" / "config.toml").key is None
    (tmp_path / "file").touch()
    assert read_file(tmp_path / "file" / "config.toml").key is None


def test_the_file_is_at_the_path_of_the_xdg_specification(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert config_path() == tmp_path / "qos-async" / "config.toml"
    for invalid in (None, "", "relative"):
        if invalid is None:
            monkeypatch.delenv("XDG_CONFIG_HOME")
        else:
            monkeypatch.setenv("XDG_CONFIG_HOME", invalid)
        assert config_path() == Path.home() / ".config/qos-async/config.toml"


def test_without_platformdirs_the_file_is_in_the_same_place(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    assert config_path() == tmp_path / "qos-async" / "config.toml"


def test_a_platform_with_another_place_still_reads_the_old_file(tmp_path, monkeypatch):
    """As on macOS and Windows; with both files, the new one counts."""
    old, new = (tmp_path / name / "qos-async" for name in ("old", "new"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(old.parent))
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_, **__: new)
    assert config_path() == new / "config.toml"
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "config.toml").touch()
        assert config_path() == folder / "config.toml"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            'key = "k"\nhttp_ulr = "x"\n',
            "config.toml: http_ulr: unknown; allowed: key, http_url, stream_url, key_in,",
        ),
        ("key = 5\n", "config.toml: key: Expected `str | null`, got `int`"),
        ("limits = 5\n", "config.toml: limits: Expected `object`, got `int`"),
        ("[colours]\n", "config.toml: colours: unknown; allowed: key, http_url"),
        (
            "[limits]\nsymbol = 5\n",
            "config.toml: limits.symbol: unknown; allowed: symbols, connections,",
        ),
        (
            "[limits]\nsymbols = 0\n",
            "config.toml: limits: symbols must be a whole number from 1, not 0",
        ),
        (
            '[limits]\nsymbols = "x"\n',
            "config.toml: limits.symbols: Expected `int`, got `str`",
        ),
        ("limits.symbols = 0\n", "limits: symbols must be a whole number from 1"),
        ("limits = { symbols = 0 }\n", "limits: symbols must be a whole number from 1"),
        (
            'key_in = "pocket"\n',
            'key_in: Invalid enum value \'pocket\'; allowed: "header", "url"',
        ),
        ('key = "k"\nhttp_url = \n', "config.toml is not valid TOML: "),
        ("key = \u201cabc\u201d\n", "there is '\\u201c' (LEFT DOUBLE QUOTATION MARK)"),
        ('key = "k"\n\u00a0proxy = ""\n', "there is '\\xa0' (NO-BREAK SPACE)"),
        ('key = "k"\nhttp_url = \n', "line 2"),
    ],
)
def test_an_invalid_file_raises_with_the_entry_and_what_is_allowed(path, content, says):
    path.write_text(content)
    with pytest.raises(SettingsError) as caught:
        read_file(path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.fault("F13")
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("marks", [0, 1, 2], ids=["plain", "marked", "marked twice"])
def test_a_file_of_any_editor_is_read(path, marks, end):
    """Windows adds a byte order mark, and ends lines with two characters."""
    mark = b"\xef\xbb\xbf" * marks
    path.write_bytes(mark + FULL.replace("\n", end).encode())
    settings = read_file(path)
    assert settings.key == "key-of-the-file"
    assert settings.limits == Limits(symbols=50, http_requests=60)
    path.write_bytes(mark)
    assert read_file(path).key is None


@pytest.mark.fault("F13")
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_file_in_another_encoding_raises_a_sentence(path, encoding):
    path.write_bytes(FULL.encode(encoding))
    with pytest.raises(SettingsError, match=r"is not UTF-8 text: save it as such"):
        read_file(path)
    path.write_bytes('proxy = "http://é:1"'.encode("latin-1"))
    with pytest.raises(SettingsError, match=r"is not UTF-8 text: save it as such"):
        read_file(path)


def test_white_space_around_a_variable_is_not_part_of_it(path):
    """A key that was read from a file ends with a line feed."""
    settings = resolve(
        options(), {"QOS_API_KEY": "key\r\n", "QOS_PROXY": " "}, path=path
    )
    assert settings.key == "key"
    assert settings.origins["proxy"] == str(path)


def test_a_directory_is_left_out_with_a_warning(tmp_path):
    [warning] = read_file(tmp_path).warnings
    assert warning == f"cannot read {tmp_path}: Is a directory: it is left out"


@pytest.mark.fault("F13")
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
def test_what_is_no_file_is_left_out_with_a_warning(path, kind):
    """To open a pipe would wait for its other end, and to read a device, for ever."""
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        with socket.socket(socket.AF_UNIX) as listening, contextlib.chdir(path.parent):
            listening.bind(path.name)  # A whole path may be too long.
    settings = read_file(path)
    assert settings.key is None
    assert settings.warnings == (
        f"{path} is a pipe, a socket or a device, not a file: it is left out",
    )


def test_the_null_device_is_an_empty_file(path):
    path.unlink()
    path.symlink_to(os.devnull)
    for empty in (path, Path(os.devnull)):
        assert read_file(empty).warnings == ()


def test_a_file_that_is_no_text_raises(path):
    path.write_bytes(b'key = "\xff"')
    with pytest.raises(SettingsError, match="is not UTF-8 text"):
        read_file(path)


def test_the_repr_does_not_show_the_key(path):
    assert "key-of" not in repr(resolve(options(), {}, path=path))


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ('sort = "price"', 'watch.sort: .*allowed: "given", "symbol", "change"'),
        ('theme = "blue"', 'watch.theme: .*allowed: "dark", "light"'),
        ('alerts = ["US:AAPL"]', "watch.alerts: .* is not a symbol and a price"),
        ('alerts = ["AAPL 5"]', "watch.alerts: .*did you mean US:AAPL"),
        ('alerts = ["US:AAPL 1e99"]', "watch.alerts: '1e99' is not a price"),
    ],
)
def test_the_table_of_watch_is_checked(entry, why, path):
    path.write_text(f"[watch]\n{entry}\n")
    with pytest.raises(SettingsError, match=why):
        read_file(path)
