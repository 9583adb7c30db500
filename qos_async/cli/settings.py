"""What is configured: arguments over environment over ``config.toml``."""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from qos_async.config import Limits

__all__ = [
    "Asked",
    "Settings",
    "SettingsError",
    "bare",
    "config_path",
    "read_file",
    "resolve",
]

_FOLDER, _FILE = "qos-async", "config.toml"
_ENTRIES: dict[str, type] = {
    "key": str,
    "http_url": str,
    "stream_url": str,
    "key_in": str,
    "proxy": str,
    "limits": dict,
}
_TEXTS = ("key", "http_url", "stream_url", "key_in", "proxy")
_VARIABLES = {
    "key": "QOS_API_KEY",
    "http_url": "QOS_HTTP_URL",
    "stream_url": "QOS_STREAM_URL",
    "proxy": "QOS_PROXY",
}
_OTHERS_MAY_READ = stat.S_IRGRP | stat.S_IROTH


class SettingsError(Exception):
    """The configuration cannot be used; the sentence says where and why."""


class Asked(Protocol):
    """What the command line may say about the connection; None: nothing."""

    key: str | None
    http_url: str | None
    stream_url: str | None
    proxy: str | None
    symbols_limit: int | None
    requests_limit: int | None


class Settings(Struct, frozen=True, kw_only=True):
    """How to reach the service.

    Attributes:
        key: None if there is none anywhere.
        http_url: None for the default; so is ``stream_url``.
        key_in: ``"header"`` or ``"url"``.
        proxy: None for none.
        limits: The plan.
        origins: Where each of these that is set came from, for people: ``"--key"``,
            ``"QOS_API_KEY"`` or the file's name.
        warnings: Sentences about what is unwise.
    """

    key: str | None = None
    http_url: str | None = None
    stream_url: str | None = None
    key_in: str | None = None
    proxy: str | None = None
    limits: Limits = Limits()
    origins: dict[str, str] = {}
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return "<Settings key=***>"


def config_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Give the file's place: ``$XDG_CONFIG_HOME``, or ``~/.config``."""
    home = environment.get("XDG_CONFIG_HOME", "")
    # The standard says to ignore what is not absolute.
    folder = Path(home) if Path(home).is_absolute() else Path.home() / ".config"
    return folder / _FOLDER / _FILE


def resolve(
    asked: Asked,
    environment: Mapping[str, str] = os.environ,
    *,
    path: Path | None = None,
) -> Settings:
    """Put together what the command line, the environment and the file say.

    Args:
        asked: The command line.
        environment: Of the process.
        path: The file; where ``config_path`` says by default. It need not exist.

    Raises:
        SettingsError: The file cannot be read, or says what nobody understands.
    """
    settings = read_file(config_path(environment) if path is None else path)
    said = _said(asked, environment)
    return replace(
        settings,
        **{name: value for name, (value, _) in said.items()},
        limits=_limited(settings.limits, asked),
        origins={**settings.origins, **{name: at for name, (_, at) in said.items()}},
        warnings=(*settings.warnings, *_unwise(asked, environment)),
    )


def read_file(path: Path) -> Settings:
    """Read the file alone; nothing is set if there is none.

    Raises:
        SettingsError: As for ``resolve``.
    """
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return Settings()
    except NotADirectoryError:
        return Settings()
    except UnicodeDecodeError:
        raise SettingsError(f"{path} is not UTF-8 text: save it as such") from None
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from None
    try:
        entries = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from None
    fail = _complaint(path, text)
    _check(entries, fail)
    texts: dict[str, Any] = {name: entries[name] for name in _TEXTS if name in entries}
    return Settings(
        **texts,
        limits=_limits(entries.get("limits", {}), fail),
        origins={name: str(path) for name in entries},
        warnings=_open_to_others(path) if "key" in entries else (),
    )


def bare(url: str) -> str:
    """Give scheme, host and port; whatever else is in an address may be secret."""
    try:
        parts = urlsplit(url if "://" in url else f"//{url}")
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "(not a URL)"
    if not parts.hostname:
        return "(no URL)"
    scheme = f"{parts.scheme}://" if parts.scheme else ""
    return f"{scheme}{parts.hostname}{port}"


_Fail = Callable[[str, str, str], SettingsError]


def _check(entries: Mapping[str, object], fail: _Fail) -> None:
    for name, value in entries.items():
        kind = _ENTRIES.get(name)
        if kind is None:
            raise fail("", name, f"is not known; there are {', '.join(_ENTRIES)}")
        if not isinstance(value, kind):
            wanted = "a text in quotes" if kind is str else "a table, [limits]"
            raise fail("", name, f"must be {wanted}")
    if entries.get("key_in", "header") not in ("header", "url"):
        raise fail("", "key_in", 'must be "header" or "url"')


def _limits(table: Mapping[str, object], fail: _Fail) -> Limits:
    known = Limits.__struct_fields__
    for name in table:
        if name not in known:
            raise fail("limits", name, f"is not known; there are {', '.join(known)}")
    try:
        return Limits(**msgspec.convert(table, dict[str, Any]))
    except ValueError as error:
        # Its message begins with the name of the limit.
        name, _, says = str(error).partition(" ")
        raise fail("limits", name, says) from None


def _said(asked: Asked, environment: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Give what is said outside of the file, and where."""
    variables = {
        name: (environment[variable], variable)
        for name, variable in _VARIABLES.items()
        if environment.get(variable)
    }
    words = {
        name: (value, f"--{name.replace('_', '-')}")
        for name in _VARIABLES
        if (value := getattr(asked, name)) is not None
    }
    return {**variables, **words}


def _limited(limits: Limits, asked: Asked) -> Limits:
    wanted = {"symbols": asked.symbols_limit, "http_requests": asked.requests_limit}
    given = {name: value for name, value in wanted.items() if value is not None}
    return replace(limits, **given) if given else limits


def _unwise(asked: Asked, environment: Mapping[str, str]) -> tuple[str, ...]:
    if asked.key is None:
        return ()
    warning = (
        "--key shows the API key to everybody on this machine who runs ps, and your "
        "shell writes it down: set QOS_API_KEY, or put the key into "
        f"{config_path(environment)}"
    )
    return (warning,)


def _open_to_others(path: Path) -> tuple[str, ...]:
    if os.name != "posix" or not path.stat().st_mode & _OTHERS_MAY_READ:
        return ()
    return (f"others may read the API key in {path}: chmod 600 {path}",)


def _complaint(path: Path, text: str) -> _Fail:
    def fail(table: str, name: str, says: str) -> SettingsError:
        entry = f"{table}.{name}" if table else name
        return SettingsError(f"{path}{_line(text, table, name)}: {entry} {says}")

    return fail


def _line(text: str, table: str, name: str) -> str:
    """Find the line that sets an entry: tomllib does not tell."""
    wanted = (
        {("", f"{table}.{name}"), ("", table), (table, name)} if table else {("", name)}
    )
    inside = ""
    for number, line in enumerate(text.splitlines(), 1):
        entry = line.strip()
        if entry.startswith("["):
            inside = entry.strip("[]").strip()
            if not table and inside == name:
                return f", line {number}"
        word = entry.partition("=")[0].strip().strip("\"'")
        if (inside, word) in wanted:
            return f", line {number}"
    return ""
