"""Fleet files: the recorders of a stream, one for each key, with their symbols."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import asdict

from qos_async import Channel, Interval, Limits, Topic, symbols
from qos_async._paths import user_text
from qos_async.cli import exits
from qos_async.cli.options import CommandError
from qos_async.cli.settings import config_path, read_file

__all__ = ["FleetError", "FleetFile", "Holder", "KeySource"]

_LEASE = 10.0
_STREAM = 'stream = "nats://host:4222/STREAM"'
_KEY = 'write key = { env = "NAME" }, key = { file = "PATH" } or key = { profile = "NAME" }'
_EXAMPLES = {
    "stream": _STREAM,
    "symbols": 'symbols = ["US:AAPL,TSLA", "HK:700"]',
    "channels": 'channels = ["trades", "depth"]',
    "intervals": 'intervals = ["1m", "1d"]',
    "lease": "lease = 10",
    "spool": 'spool = "/var/lib/qos"',
    "on_broker_loss": 'on_broker_loss = "keep"',
    "on_conflict": 'on_conflict = "retake-after 15m"',
    "limits": "limits = { symbols = 100 }",
    "holders": "[holders.NAME]",
}


class FleetError(CommandError):
    """A fleet file is invalid; the message says where, and what to write."""

    exit_code = exits.USAGE


class KeySource(Struct, frozen=True, forbid_unknown_fields=True):
    """Where a key comes from: one of these is set.

    Attributes:
        env: The name of an environment variable.
        file: The path of a file that has nothing else in it.
        profile: The name of a table ``[profiles.NAME]`` of the configuration.
    """

    env: str | None = None
    file: str | None = None
    profile: str | None = None

    def __str__(self) -> str:
        if self.env is not None:
            return self.env
        return f"profile {self.profile}" if self.file is None else self.file

    def read(self) -> str:
        """Return the key.

        Raises:
            CommandError: If it is missing.
        """
        if self.env is not None:
            key = os.environ.get(self.env, "").strip()
            missing = f"the environment variable {self.env} is not set"
        elif self.file is not None:
            path = Path(self.file).expanduser()
            try:
                key = user_text(path.read_bytes()).strip()
            except (OSError, ValueError) as error:
                why = getattr(error, "strerror", None) or "it is not text"
                raise FleetError(f"cannot read the key in {path}: {why}") from None
            missing = f"{path} is empty"
        else:
            path = config_path() or Path(os.devnull)
            key = read_file(path).profiles.get(self.profile or "", "")
            missing = f'{path} has no key of that name: add [profiles.{self.profile}], key = "..."'
        if not key:
            raise FleetError(f"there is no API key: {missing}")
        return key


class Holder(Struct, frozen=True, kw_only=True):
    """One recorder of a fleet.

    Attributes:
        name: Its name, in the stream and in the lease.
        key: Where its key comes from.
        topics: What it subscribes.
        stream: The place that it records to.
        recorder: The options of ``Recorder``.
        limits: Of its plan.
    """

    name: str
    key: KeySource
    topics: tuple[Topic, ...]
    stream: str
    recorder: dict[str, Any]
    limits: Limits


class _LimitsOfHolder(Limits, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The table ``limits`` of a holder."""


class _SharedTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What holders have in common unless they have their own."""

    stream: str | None = None
    lease: float | None = None
    spool: str | None = None
    on_broker_loss: str | None = None
    on_conflict: str | None = None


class _HolderTable(_SharedTable, frozen=True, kw_only=True, forbid_unknown_fields=True):
    key: Any = None
    symbols: tuple[str, ...] = ()
    channels: tuple[str, ...] = ("trades",)
    intervals: tuple[str, ...] = ()
    limits: _LimitsOfHolder = _LimitsOfHolder()


class FleetFile:
    """A fleet file and the holder in it that this process is.

    Args:
        path: The file.
        name: The name of the holder.

    Attributes:
        path: As passed.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path, self._name = path, name
        self._seen: bytes | None = None

    def read(self) -> Holder | None:
        """Return the holder; None if the file is as it was read before.

        Raises:
            FleetError: If it cannot be read, or is invalid.
        """
        try:
            content = self.path.read_bytes()
        except OSError as error:
            content = str(error).encode()
            if content == self._seen:
                return None
            self._seen = content
            why = error.strerror or error
            raise FleetError(f"cannot read {self.path}: {why}") from None
        if content == self._seen:
            return None
        self._seen = content
        try:
            return _Reading(self.path, user_text(content)).holder(self._name)
        except UnicodeDecodeError:
            raise FleetError(
                f"{self.path} is not UTF-8 text: save it as such"
            ) from None


class _Reading:
    """The text of a file, on its way to a holder."""

    def __init__(self, path: Path, text: str) -> None:
        self._path, self._text = path, text
        self._table = ""

    def holder(self, name: str) -> Holder:
        shared, tables = self._tables()
        if name not in tables:
            known = ", ".join(sorted(tables)) or "no holder"
            raise self._error(
                "holders", f"{name} is not in it, but {known}: add [holders.{name}]"
            )
        found: dict[str, Holder] = {}
        for other in sorted(tables, key=lambda one: one != name):
            self._table = f"holders.{other}"
            found[other] = self._holder(other, shared, tables[other])
        return found[name]

    def _tables(self) -> tuple[_SharedTable, dict[str, Any]]:
        try:
            entries = tomllib.loads(self._text)
        except tomllib.TOMLDecodeError as error:
            raise FleetError(f"{self._path} is not valid TOML: {error}") from None
        holders: Any = entries.pop("holders", {})
        shared: _SharedTable = self._converted(entries, _SharedTable)
        try:
            return shared, msgspec.convert(holders, dict[str, Any])
        except msgspec.ValidationError:
            raise self._error("holders", "it is not a table") from None

    def _holder(self, name: str, shared: _SharedTable, entries: Any) -> Holder:
        table = self._converted(entries, _HolderTable)
        both = {**_given(asdict(shared)), **_given(asdict(table))}
        stream = both.get("stream")
        if stream is None:
            raise self._error("stream", "it is missing")
        options: dict[str, Any] = {
            "lease": _LEASE,
            **{
                key: both[key]
                for key in ("lease", "spool", "on_broker_loss", "on_conflict")
                if key in both
            },
        }
        self._check_options(name, stream, options)
        limits = Limits(**asdict(table.limits))
        return Holder(
            name=name,
            key=self._key(table.key),
            topics=self._topics(table, limits),
            stream=stream,
            recorder={"name": name, **options},
            limits=limits,
        )

    def _check_options(self, name: str, stream: str, options: dict[str, Any]) -> None:
        from qos_async.recordings import Recorder

        if not stream.lower().startswith(("nats://", "tls://")):
            raise self._error("stream", f"{stream!r} is not a stream")
        given: dict[str, Any] = {**options, "name": name, "spool": None}
        try:  # Without a spool nothing is made.
            Recorder(stream, **given)
        except ValueError as error:
            field = next((key for key in _EXAMPLES if str(error).startswith(key)), "")
            raise self._error(field or "stream", str(error), example=False) from None

    def _key(self, value: Any) -> KeySource:
        if isinstance(value, str):
            why = f"a key does not belong in this file: {_KEY}"
            raise self._error("key", why, example=False)
        try:
            source = msgspec.convert(value or {}, KeySource)
        except msgspec.ValidationError:
            source = KeySource()
        if [source.env, source.file, source.profile].count(None) != 2:  # noqa: PLR2004 - of three
            raise self._error("key", _KEY, example=False)
        return source

    def _topics(self, table: _HolderTable, limits: Limits) -> tuple[Topic, ...]:
        names = self._symbols(table.symbols)
        if len(names) > limits.symbols:
            raise self._error(
                "symbols",
                f"they are {len(names)}, and the plan allows {limits.symbols}: write "
                f"limits = {{ symbols = {len(names)} }} if yours allows them",
                example=False,
            )
        channels = [self._channel(text) for text in table.channels]
        if not channels:
            raise self._error("channels", "there are none")
        intervals = [self._interval(text) for text in table.intervals]
        if intervals and Channel.KLINE not in channels:
            raise self._error(
                "intervals", 'they need "klines" in channels', example=False
            )
        return tuple(
            Topic(channel, symbol, interval)
            for channel in dict.fromkeys(channels)
            for interval in (
                dict.fromkeys(intervals or [Interval.MIN_1])
                if channel is Channel.KLINE
                else [None]
            )
            for symbol in names
        )

    def _symbols(self, texts: Iterable[str]) -> tuple[str, ...]:
        try:
            names = symbols.split(*texts)
        except ValueError as error:
            raise self._error("symbols", str(error), example=False) from None
        if not names:
            raise self._error("symbols", "there are none")
        return names

    def _channel(self, text: str) -> Channel:
        try:
            return Channel(text.lower().removesuffix("s"))
        except ValueError:
            known = ", ".join(f"{one}s" if one != "depth" else one for one in Channel)
            raise self._error("channels", f"{text!r} is none of {known}") from None

    def _interval(self, text: str) -> Interval:
        try:
            return Interval.parse(text)
        except ValueError:
            raise self._error("intervals", f"{text!r} is not an interval") from None

    def _converted(self, entries: Any, kind: Any) -> Any:
        try:
            return msgspec.convert(entries, kind)
        except msgspec.ValidationError as error:
            problem, _, at = str(error).partition(" - at ")
            unknown = re.search("unknown field `(.*)`", problem)
            field = at.strip("`").removeprefix("$").removeprefix(".")
            if unknown:
                allowed = ", ".join(kind.__struct_fields__)
                if "." not in self._table:
                    allowed += ", and tables [holders.NAME]"
                problem = f"unknown; allowed: {allowed}" if not field else "unknown"
                field = f"{field}.{unknown[1]}".strip(".")
            raise self._error(field, problem) from None

    def _error(self, field: str, problem: str, *, example: bool = True) -> FleetError:
        """Return an error about a field of the present table."""
        name = re.split(r"[.\[]", field)[0]
        line = _line_of(self._text, self._table, name)
        at = f", line {line}" if line else ""
        text = ".".join(filter(None, (self._table, field)))
        hint = f": write {_EXAMPLES[name]}" if example and name in _EXAMPLES else ""
        return FleetError(f"{self._path}{at}: {text}: {problem}{hint}")


def _given(entries: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entries.items() if value is not None}


def _line_of(text: str, table: str, field: str) -> int:
    """Return the line of a field in a table, or above all tables, else of the table.

    0 if all of them are missing.
    """
    current, found = "", dict[tuple[str, str], int]()
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\s*([^\[\]]+?)\s*\]", line):
            current = re.sub(r"[\"'\s]", "", header[1])
            found.setdefault((current, ""), number)
        elif name := re.match(r"\s*[\"']?([\w-]+)[\"']?\s*[.=]", line):
            found.setdefault((current, name[1]), number)
    places = (table, field), ("", field), (table, "")
    return next((found[one] for one in places if one in found), 0)
