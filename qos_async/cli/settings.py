"""Settings: command line over environment over ``config.toml``."""

from __future__ import annotations

import errno
import os
import re
import stat
import tomllib
import unicodedata
from argparse import ArgumentTypeError
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct
from msgspec.structs import asdict, replace

from qos_async._paths import is_special, user_text
from qos_async.cli import exits
from qos_async.cli.display import time_zone
from qos_async.cli.options import CommandError, Options, interval
from qos_async.cli.watch.alerts import Alert, parse_alert
from qos_async.config import HTTP_URL, Limits
from qos_async.enums import Interval
from qos_async.symbols import split

__all__ = [
    "Settings",
    "SettingsError",
    "config_path",
    "is_file_at",
    "origin_only",
    "read_file",
    "resolve",
    "server_label",
    "state_path",
]

_VARIABLES = {
    "key": "QOS_API_KEY",
    "http_url": "QOS_HTTP_URL",
    "stream_url": "QOS_STREAM_URL",
    "proxy": "QOS_PROXY",
}
_SPECIAL = "is a pipe, a socket or a device, not a file: it is left out"
_OTHERS_MAY_READ = stat.S_IRGRP | stat.S_IROTH


class SettingsError(CommandError):
    """The configuration is invalid; the message says where and why."""

    exit_code = exits.USAGE


class _LimitsTable(Limits, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The table ``[limits]`` of the file."""


class _Profile(Struct, forbid_unknown_fields=True, kw_only=True):
    """A table ``[profiles.NAME]`` of the file: a key of a fleet."""

    key: str


class _WatchTable(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The table ``[watch]`` of the file."""

    symbols: tuple[str, ...] | str = ()
    interval: str | None = None
    sort: Literal["given", "symbol", "change", "volume"] = "given"
    alerts: tuple[str, ...] = ()
    theme: Literal["dark", "light"] = "dark"


class _ConfigFile(Struct, forbid_unknown_fields=True, kw_only=True):
    """The file."""

    key: str | None = None
    http_url: str | None = None
    stream_url: str | None = None
    key_in: Literal["header", "url"] | None = None
    proxy: str | None = None
    tz: str | None = None
    red_up: bool = False
    limits: _LimitsTable = _LimitsTable()
    profiles: dict[str, _Profile] = {}
    watch: _WatchTable = _WatchTable()


_ALLOWED = {
    "": f"allowed: {', '.join(_ConfigFile.__struct_fields__)}",
    "limits": f"allowed: {', '.join(Limits.__struct_fields__)}",
    "watch": f"allowed: {', '.join(_WatchTable.__struct_fields__)}",
    "key_in": 'allowed: "header", "url"',
    "watch.sort": 'allowed: "given", "symbol", "change", "volume"',
    "watch.theme": 'allowed: "dark", "light"',
}
"""What msgspec's messages leave out."""
_CHOICES = ("key_in", "watch.sort", "watch.theme")


class Settings(Struct, frozen=True, kw_only=True):
    """How to reach the service, and how to show what comes.

    Attributes:
        key: None if none is configured.
        http_url: None for the default; so is ``stream_url``.
        key_in: ``"header"`` or ``"url"``.
        proxy: None for none.
        limits: The plan.
        profiles: Keys by name, for ``qos record --fleet``.
        quota_folder: Where commands share the HTTP quota; None if they do not.
        origins: Where each of these that is set came from, for people: ``"--key"``,
            ``"QOS_API_KEY"`` or the file's name.
        warnings: Sentences about unsafe settings.
        tz: The time zone of what people read; None for the default of each command.
        red_up: Whether rises are red.
        watch_symbols: Canonical; those of ``qos watch``, if any.
        watch_interval: Of the candles of ``qos watch``; None for the default.
        watch_sort: The order of its rows.
        watch_alerts: The prices that it waits for.
        watch_light: Whether its theme is the light one.
    """

    key: str | None = None
    http_url: str | None = None
    stream_url: str | None = None
    key_in: str | None = None
    proxy: str | None = None
    limits: Limits = Limits()
    profiles: dict[str, str] = {}
    quota_folder: Path | None = None
    origins: dict[str, str] = {}
    warnings: tuple[str, ...] = ()
    tz: str | None = None
    red_up: bool = False
    watch_symbols: tuple[str, ...] = ()
    watch_interval: Interval | None = None
    watch_sort: str = "given"
    watch_alerts: tuple[Alert, ...] = ()
    watch_light: bool = False

    def __repr__(self) -> str:
        return "<Settings key=***>"


def config_path() -> Path | None:
    """Return the path of the file: where the platform keeps configuration.

    Elsewhere than on Linux it was in ``~/.config``, too, and is still read there. None
    if the user has no home directory.
    """
    fallback = _path_in_home()
    try:
        from platformdirs import user_config_path

        path = user_config_path("qos-async", appauthor=False) / "config.toml"
    except (ImportError, RuntimeError):  # Comes with the extra ``cli``; no home.
        return fallback
    if not path.is_absolute():  # Older versions leave a ``~`` in it.
        return fallback
    if fallback is None or is_file_at(path) or not is_file_at(fallback):
        return path
    return fallback


def is_file_at(path: Path) -> bool:
    """Return whether there is something; False where that cannot be seen."""
    return os.path.exists(path)  # noqa: PTH110 - Path.exists raises without permission


def _path_in_home() -> Path | None:
    xdg = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    # The XDG specification says to ignore relative paths.
    if xdg.is_absolute():
        return xdg / "qos-async" / "config.toml"
    try:
        home = Path.home()
    except RuntimeError:  # HOME is not set, and the user id has no account.
        return None
    path = home / ".config" / "qos-async" / "config.toml"
    return path if path.is_absolute() else None


def state_path() -> Path | None:
    """Return the folder where the platform keeps state; None without one."""
    try:
        from platformdirs import user_state_path

        path = user_state_path("qos-async", appauthor=False)
    except (ImportError, RuntimeError, OSError):  # No extra ``cli``, or no home.
        return None
    return path if path.is_absolute() else None


def resolve(
    options: Options,
    environment: Mapping[str, str] = os.environ,
    *,
    path: Path | None = None,
) -> Settings:
    """Merge the settings of the command line, the environment and the file.

    Args:
        options: Parsed with ``add_connection``.
        environment: Of the process.
        path: The file; ``config_path()`` by default. It need not exist. One that this
            user may not read, or a directory, is left out with a warning if it is known to exist.

    Raises:
        SettingsError: If the file cannot be read, or is invalid.
    """
    path = config_path() if path is None else path
    settings = Settings() if path is None else read_file(path)
    overrides = _overrides(options, environment)
    return replace(
        settings,
        **{name: value for name, (value, _) in overrides.items()},
        limits=_with_limits(settings.limits, options),
        quota_folder=None if options.no_shared_quota else state_path(),
        origins={
            **settings.origins,
            **{name: origin for name, (_, origin) in overrides.items()},
        },
        warnings=(*settings.warnings, *_warnings(options)),
    )


def read_file(path: Path) -> Settings:
    """Return the settings of the file alone; nothing is set if it does not exist.

    Raises:
        SettingsError: As for ``resolve``.
    """
    try:
        if is_special(path) and not path.samefile(os.devnull):
            return Settings(warnings=(f"{path} {_SPECIAL}",))
        entries = tomllib.loads(user_text(path.read_bytes()))
        file = msgspec.convert(entries, _ConfigFile)
    except (FileNotFoundError, NotADirectoryError):
        return Settings()
    except (PermissionError, IsADirectoryError) as error:
        ignored = f"cannot read {path}: {error.strerror}: it is left out"
        return Settings(warnings=(ignored,) if is_file_at(path) else ())
    except UnicodeDecodeError:
        raise SettingsError(f"{path} is not UTF-8 text: save it as such") from None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENAMETOOLONG):
            return Settings()  # There is no such home.
        raise SettingsError(f"cannot read {path}: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        why = f"{path} is not valid TOML: {error}{_strange_character(error, path)}"
        raise SettingsError(why) from None
    except msgspec.ValidationError as error:
        raise SettingsError(f"{path}: {_explained(str(error))}") from None
    return Settings(
        key=file.key,
        http_url=file.http_url,
        stream_url=file.stream_url,
        key_in=file.key_in,
        proxy=file.proxy,
        limits=Limits(**asdict(file.limits)),
        profiles={name: one.key for name, one in file.profiles.items()},
        origins={name: str(path) for name in entries if name != "profiles"},
        warnings=_world_readable(path) if file.key or file.profiles else (),
        **_shown(file, path),
    )


def _strange_character(error: tomllib.TOMLDecodeError, path: Path) -> str:
    """Return a note on a character that looks like another one, where the error is."""
    at = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
    if at is None:
        return ""
    lines = user_text(path.read_bytes()).split("\n")
    char = "".join(lines[int(at[1]) - 1 :][:1])[int(at[2]) - 1 :][:1]
    if char.isascii():
        return ""
    name = unicodedata.name(char, "no character of text")
    return f": there is {char!a} ({name}), where TOML takes ASCII only"


def _shown(file: _ConfigFile, path: Path) -> dict[str, Any]:
    """Return the settings of what people read, checked as the options are.

    Raises:
        SettingsError: If one of them is invalid.
    """
    entry = ""
    try:
        entry = "tz"
        tz = None if file.tz is None else time_zone(file.tz)
        entry = "watch.symbols"
        symbols = split(file.watch.symbols) if file.watch.symbols else ()
        entry = "watch.interval"
        length = file.watch.interval
        watch_interval = None if length is None else interval(length)
        entry = "watch.alerts"
        alerts = tuple(parse_alert(text) for text in file.watch.alerts)
    except (ArgumentTypeError, ValueError) as error:
        raise SettingsError(f"{path}: {entry}: {error}") from None
    return {
        "tz": tz,
        "red_up": file.red_up,
        "watch_symbols": symbols,
        "watch_interval": watch_interval,
        "watch_sort": file.watch.sort,
        "watch_alerts": alerts,
        "watch_light": file.watch.theme == "light",
    }


def origin_only(url: str) -> str:
    """Return scheme, host and port of a URL; the rest of it may be secret."""
    try:
        parts = urlsplit(url if "://" in url else f"//{url}")
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "(not a URL)"
    if not parts.hostname:
        return "(no URL)"
    scheme = f"{parts.scheme}://" if parts.scheme else ""
    return f"{scheme}{parts.hostname}{port}"


def server_label(options: Options) -> str:
    """Return a name of the server for files and charts, without secrets.

    Raises:
        SettingsError: If the configuration is invalid.
    """
    if options.sim:
        return f"simulator, seed {1 if options.seed is None else options.seed}"
    parts = urlsplit(resolve(options).http_url or HTTP_URL)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}".rstrip("/")


def _explained(message: str) -> str:
    """Rewrite msgspec's ``problem - at `$.entry``` as ``entry: problem; allowed: ...``."""
    problem, _, at = message.partition(" - at ")
    entry = at.strip("`").removeprefix("$").removeprefix(".")
    unknown = re.search("unknown field `(.*)`", problem)
    allowed = _ALLOWED.get(entry, "") if unknown or entry in _CHOICES else ""
    if unknown:
        entry = f"{entry}.{unknown[1]}".lstrip(".")
        problem = "unknown"
    return "; ".join(filter(None, (f"{entry}: {problem}", allowed)))


def _overrides(
    options: Options, environment: Mapping[str, str]
) -> dict[str, tuple[str, str]]:
    """Return what is set outside of the file, and where."""
    variables = {
        name: (value, variable)
        for name, variable in _VARIABLES.items()
        if (value := environment.get(variable, "").strip())  # Files end in a line feed.
    }
    typed = {
        name: (value, f"--{name.replace('_', '-')}")
        for name in _VARIABLES
        if (value := getattr(options, name)) is not None
    }
    return {**variables, **typed}


def _with_limits(limits: Limits, options: Options) -> Limits:
    typed: dict[str, Any] = {
        "symbols": options.symbols_limit,
        "http_requests": options.requests_limit,
    }
    return replace(limits, **{k: v for k, v in typed.items() if v is not None})


def _warnings(options: Options) -> tuple[str, ...]:
    if options.key is None:
        return ()
    path = config_path()
    warning = (
        "--key shows the API key to all users of this machine who run ps, and your shell "
        "stores it: set QOS_API_KEY"
    )
    return (f"{warning}, or put the key into {path}" if path else warning,)


def _world_readable(path: Path) -> tuple[str, ...]:
    if os.name != "posix" or not path.stat().st_mode & _OTHERS_MAY_READ:
        return ()
    return (f"other users may read the API key in {path}: chmod 600 {path}",)
