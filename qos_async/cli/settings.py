"""Settings: command line over environment over ``config.toml``."""

from __future__ import annotations

import errno
import os
import re
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct
from msgspec.structs import asdict, replace

from qos_async._paths import user_text
from qos_async.cli import exits
from qos_async.cli.options import CommandError, Options
from qos_async.config import HTTP_URL, Limits

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


class _ConfigFile(Struct, forbid_unknown_fields=True, kw_only=True):
    """The file."""

    key: str | None = None
    http_url: str | None = None
    stream_url: str | None = None
    key_in: Literal["header", "url"] | None = None
    proxy: str | None = None
    limits: _LimitsTable = _LimitsTable()


_ALLOWED = {
    "": f"allowed: {', '.join(_ConfigFile.__struct_fields__)}",
    "limits": f"allowed: {', '.join(Limits.__struct_fields__)}",
    "key_in": 'allowed: "header", "url"',
}
"""What msgspec's messages leave out."""


class Settings(Struct, frozen=True, kw_only=True):
    """How to reach the service.

    Attributes:
        key: None if none is configured.
        http_url: None for the default; so is ``stream_url``.
        key_in: ``"header"`` or ``"url"``.
        proxy: None for none.
        limits: The plan.
        quota_folder: Where commands share the HTTP quota; None if they do not.
        origins: Where each of these that is set came from, for people: ``"--key"``,
            ``"QOS_API_KEY"`` or the file's name.
        warnings: Sentences about unsafe settings.
    """

    key: str | None = None
    http_url: str | None = None
    stream_url: str | None = None
    key_in: str | None = None
    proxy: str | None = None
    limits: Limits = Limits()
    quota_folder: Path | None = None
    origins: dict[str, str] = {}
    warnings: tuple[str, ...] = ()

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
        if _is_special(path):
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
        raise SettingsError(f"{path} is not valid TOML: {error}") from None
    except msgspec.ValidationError as error:
        raise SettingsError(f"{path}: {_explained(str(error))}") from None
    return Settings(
        key=file.key,
        http_url=file.http_url,
        stream_url=file.stream_url,
        key_in=file.key_in,
        proxy=file.proxy,
        limits=Limits(**asdict(file.limits)),
        origins={name: str(path) for name in entries},
        warnings=_world_readable(path) if file.key else (),
    )


def _is_special(path: Path) -> bool:
    """Whether it is a pipe, a socket or a device: reading one may last for ever."""
    mode = path.stat().st_mode
    is_special = not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
    return is_special and not path.samefile(os.devnull)


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
    allowed = _ALLOWED.get(entry, "") if unknown or entry == "key_in" else ""
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
