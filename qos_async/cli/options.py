"""Options that several commands share, and the argparse types that check their values.

Every command module imports this one before its command is known to be wanted, so nothing
slow is imported here.
"""

from __future__ import annotations

import math
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from qos_async import _spellings, _wording, symbols
from qos_async._paths import user_path
from qos_async.cli import exits
from qos_async.cli.streams import print_message
from qos_async.cli.times import TimeSpec
from qos_async.enums import Channel, Interval

__all__ = [
    "CHANNELS",
    "INTERVALS",
    "KLINES_MAX",
    "TRADES_MAX",
    "Command",
    "CommandError",
    "Options",
    "UsageError",
    "add_connection",
    "add_format",
    "add_interval",
    "add_market",
    "add_place",
    "add_seconds",
    "add_slice",
    "add_topics",
    "any_path",
    "bounded_int",
    "channel_or_symbols",
    "did_you_mean",
    "file_format",
    "interval",
    "market",
    "market_hours",
    "missing_package",
    "output_file",
    "place",
    "port",
    "seconds",
    "seed",
    "slice_of",
    "speed",
    "start_of",
    "symbol",
    "symbol_list",
    "time_span",
    "time_spec",
]

# As in qos_async.config, which is not imported because it needs msgspec: 45 ms that every
# ``qos --help`` would take longer. A test compares them.
TRADES_MAX = 50
KLINES_MAX = 1000
_SPEED_MAX = 100.0
_PORT_MAX = 65535
_MARKET_HOURS = ("always", "real")
INTERVALS = "1m 5m 15m 30m 1h 2h 4h 1d 1w 1M 1y"
CHANNELS = ("snapshots", "trades", "depth", "klines")


class CommandError(Exception):
    """An expected failure of a command; the message says why, and what to do."""

    exit_code = exits.FAILED

    def report(self) -> int:
        """Print the message on stderr, and return the exit code."""
        print_message(f"qos: {self}")
        return self.exit_code


def missing_package(use: str, package: str, extra: str) -> CommandError:
    """Return the error for a package that is not installed."""
    return CommandError(
        f"{use} {package}, which is not installed: pip install 'qos-async[{extra}]'"
    )


class UsageError(CommandError):
    """Options that contradict each other; the message says what to type instead."""

    exit_code = exits.USAGE


class Options(Namespace):
    """The parsed command line.

    Declared here are the options of ``add_connection``, which code outside the command's
    own module reads. All other options are ``Any``, as in every ``Namespace``.
    """

    command: str = ""
    sim: bool = False
    key: str | None = None
    http_url: str | None = None
    stream_url: str | None = None
    proxy: str | None = None
    symbols_limit: int | None = None
    requests_limit: int | None = None
    no_shared_quota: bool = False
    seed: Any = None
    speed: Any = None
    """``add_connection`` has None for the default, other commands the default."""


class Command(NamedTuple):
    """A command of ``qos``.

    Attributes:
        brief: One line for ``qos --help``.
        about: The description, with examples.
        note: The end of the command's help; may be empty.
        add_arguments: Adds the command's arguments to its parser.
        run: Runs the command and returns the exit code. What is slow to import is
            imported here, so that help and usage errors appear at once.
    """

    brief: str
    about: str
    note: str
    add_arguments: Callable[[ArgumentParser], None]
    run: Callable[[Options], int]


# Groups of options


def add_connection(parser: ArgumentParser) -> None:
    """Add the options that choose the server, the key and the plan."""
    add = parser.add_argument_group("connection").add_argument
    add("--sim", action="store_true", help="a simulated server: no key, no network")
    add("--seed", type=seed, metavar="N", help="with --sim: another market (1)")
    add("--speed", type=speed, metavar="X", help="with --sim: times real time (1)")
    add("--key", metavar="KEY", help="better in QOS_API_KEY: ps shows this one")
    add("--http-url", metavar="URL", help="QOS_HTTP_URL, or https://api.qos.hk")
    add("--stream-url", metavar="URL", help="QOS_STREAM_URL, or wss://api.qos.hk/ws")
    add("--proxy", metavar="URL", help="QOS_PROXY, or none")
    add(
        "--symbols-limit",
        type=bounded_int(1_000_000),
        metavar="N",
        help="symbols at a time that your plan allows (10)",
    )
    add(
        "--requests-limit",
        type=bounded_int(1_000_000),
        metavar="N",
        help="HTTP requests a minute that your plan allows (10)",
    )
    add(
        "--no-shared-quota",
        action="store_true",
        help="do not count the HTTP requests of other commands with this key",
    )


def add_market(parser: ArgumentParser) -> None:
    """Add the options of a simulated market."""
    add = parser.add_argument
    add("--seed", type=seed, default=1, metavar="N", help="another market (1)")
    add(
        "--speed",
        type=speed,
        default=1.0,
        metavar="X",
        help=f"market seconds per second, up to {_SPEED_MAX:g} (1)",
    )


def add_format(parser: ArgumentParser) -> Any:
    """Add ``--json`` and ``--csv``, and return their group: one of them is allowed."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--json", action="store_true", help="one JSON object per line")
    group.add_argument("--csv", action="store_true", help="CSV with a header")
    return group


def add_place(parser: ArgumentParser) -> None:
    """Add the recording to read."""
    about = "a recording, one of its files, or a stream: nats://host:4222/STREAM"
    parser.add_argument("place", type=place, metavar="PLACE", help=about)


def add_topics(parser: ArgumentParser, *, optional: bool = False) -> None:
    """Add channels, symbols and the interval of klines."""
    parser.add_argument(
        "words",
        type=channel_or_symbols,
        nargs="*" if optional else "+",
        metavar="CHANNEL or SYMBOL",
        help="such as trades, or US:AAPL,TSLA",
    )
    parser.add_argument(
        "--channel",
        type=_channel,
        action="append",
        default=[],
        metavar="C",
        help="the same as CHANNEL; may be repeated",
    )
    parser.add_argument(
        "-i", "--interval", type=interval, metavar="I", help="of klines (1m)"
    )


def add_seconds(parser: ArgumentParser) -> None:
    """Add ``--seconds`` without a default."""
    parser.add_argument(
        "--seconds", type=seconds, metavar="S", help="stop after that many seconds"
    )


def add_slice(parser: ArgumentParser) -> None:
    """Add ``--from`` and ``--to``, by the time of receipt."""
    add = parser.add_argument
    add(
        "--from",
        dest="since",
        type=time_spec,
        metavar="T",
        help="only from then on: a day (UTC), a time, or a span back from now",
    )
    add("--to", dest="until", type=time_spec, metavar="T", help="only until then")


def start_of(options: Options) -> datetime | None:
    """Return ``--from``.

    Raises:
        UsageError: If it is out of range.
    """
    import time

    since: TimeSpec | None = options.since
    try:
        now = time.time()
        return since and datetime.fromtimestamp(since.start(UTC, now), UTC)
    except ValueError as error:
        raise UsageError(str(error)) from None


def slice_of(options: Options) -> tuple[datetime | None, datetime | None]:
    """Return ``--from`` and ``--to``.

    Raises:
        UsageError: If there is no time between them.
    """
    import time

    start, until = start_of(options), options.until
    try:
        end = until and datetime.fromtimestamp(until.end(UTC, time.time()), UTC)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if start and end and start >= end:
        raise UsageError(f"--from {options.since.text} is not before --to {until.text}")
    return start, end


def add_interval(parser: ArgumentParser, default: Interval | None = None) -> None:
    """Add ``--interval`` of klines; required without a default."""
    shown = f" ({default.short})" if default else ""
    parser.add_argument(
        "-i",
        "--interval",
        type=interval,
        default=default,
        required=default is None,
        metavar="I",
        help=f"{INTERVALS}{shown}",
    )


def did_you_mean(text: str, known: Iterable[str]) -> str:
    """Return ``; did you mean snapshot?`` for the nearest known word; empty without one."""
    from difflib import get_close_matches

    bare = {word.lstrip("-"): word for word in known}  # Dashes make all options alike.
    begun = [word for word in bare.values() if word.startswith(text)]
    close = begun or [bare[one] for one in get_close_matches(text.lstrip("-"), bare, 1)]
    return _wording.did_you_mean(*close[:1])


# Types of argparse


def seconds(text: str) -> float:
    """Parse a duration."""
    value = _float(text)
    if not 0 < value < math.inf:
        raise ArgumentTypeError(
            f"{text!r} is not a number of seconds above 0: try --seconds 15"
        )
    return value


def speed(text: str, maximum: float = _SPEED_MAX) -> float:
    """Parse a multiple of real time."""
    value = _float(text)
    if not (0 < value <= maximum and value < math.inf):
        bound = "" if maximum == math.inf else f" and up to {maximum:g}"
        raise ArgumentTypeError(
            f"{text!r} is not a speed above 0{bound}: "
            "1 is real time, --speed 10 is ten times as fast"
        )
    return value


def seed(text: str) -> int:
    """Parse the seed of a market."""
    value = _integer(text)
    if value is None or value < 0:
        raise ArgumentTypeError(
            f"{text!r} is not a whole number from 0: each one, such as --seed 7, "
            "generates another market"
        )
    return value


def market_hours(text: str) -> str:
    """Parse when a simulated market trades."""
    if text not in _MARKET_HOURS:
        raise ArgumentTypeError(
            f"{text!r} is not one of always and real: --hours real closes each market "
            "outside of its hours"
        )
    return text


def port(text: str) -> int:
    """Parse a port to listen on."""
    value = _integer(text)
    if value is None or not 0 <= value <= _PORT_MAX:
        raise ArgumentTypeError(
            f"{text!r} is not a port from 0 to {_PORT_MAX}: try --port 8765, "
            "or --port 0 for any free one"
        )
    return value


def symbol(text: str) -> str:
    """Parse ``"US:AAPL"`` as a canonical symbol."""
    try:
        return symbols.canonical(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def symbol_list(text: str) -> tuple[str, ...]:
    """Parse ``"US:AAPL"`` or ``"US:AAPL,TSLA"`` as canonical symbols."""
    try:
        return symbols.split(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def market(text: str) -> str:
    """Parse a market; only the server knows which markets exist."""
    if not (text.isascii() and text.isalpha()):
        raise ArgumentTypeError(f"{text!r} is not a market: try US or HK")
    return text.upper()


def interval(text: str) -> Interval:
    """Parse the interval of klines."""
    try:
        return Interval.parse(text)
    except ValueError:
        raise ArgumentTypeError(
            f"{text!r} is not an interval: take one of {INTERVALS}"
            f"{_spellings.interval_advice(text)}"
        ) from None


def time_spec(text: str) -> TimeSpec:
    """Parse a day, a point in time, or a span back from now."""
    try:
        return TimeSpec.parse(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def time_span(options: Options, now: float) -> tuple[int | None, int]:
    """Return ``--from``, None without it, and ``--to``, at most now, in epoch seconds.

    Raises:
        UsageError: If there is no time between them.
    """
    from qos_async.periods import market_zone  # With time zones: not for ``--help``.

    zone = market_zone(symbols.market_of(options.symbol))
    since, until = options.since, options.until
    try:
        start = since.start(zone, now) if since else None
        end = min(until.end(zone, now), int(now)) if until else int(now)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if since and start is not None:
        if start >= now:
            raise UsageError(f"--from {since.text} is in the future")
        if until and start >= end:
            raise UsageError(f"--from {since.text} is not before --to {until.text}")
    return start, end


def bounded_int(maximum: int) -> Callable[[str], int]:
    """Return a type for whole numbers from 1 to ``maximum``."""

    def parse(text: str) -> int:
        value = _integer(text)
        if value is None or not 1 <= value <= maximum:
            raise ArgumentTypeError(
                f"{text!r} is not a whole number from 1 to {maximum}"
            )
        return value

    return parse


def any_path(text: str) -> Path:
    """Parse a path; shells leave the ``~`` of ``--output=~/x`` to the program."""
    try:
        return user_path("the path", text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def place(text: str) -> Path | str:
    """Parse a directory, or a stream as text."""
    if not text.lower().startswith(("nats://", "tls://")):
        return any_path(text)
    from qos_async.jetstream.places import parse_place

    try:
        parse_place(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None
    return text


def output_file(*suffixes: str) -> Callable[[str], Path]:
    """Return a type for files to write that end in one of ``suffixes``."""
    allowed = f"{', '.join(suffixes[:-1])} or {suffixes[-1]}"

    def parse(text: str) -> Path:
        path = any_path(text)
        if file_format(path) not in suffixes:
            raise ArgumentTypeError(f"{text!r} should end in {allowed}")
        return path

    return parse


def file_format(path: Path) -> str:
    """Return the suffix that names the format, in small letters: ``B.CSV`` is CSV."""
    return path.suffix.lower()


def _channel(text: str) -> Channel:
    """Parse a channel, also in the plural: ``"trade"`` or ``"trades"``."""
    for one in Channel:
        if text.lower().removesuffix("s") == one:
            return one
    meant = _spellings.CHANNELS_ELSEWHERE.get(text.lower(), text)
    raise ArgumentTypeError(
        f"{text!r} is not a channel: take one of {', '.join(CHANNELS)}"
        f"{_spellings.channels_advice(text) or did_you_mean(meant, CHANNELS)}"
    )


def channel_or_symbols(text: str) -> Channel | tuple[str, ...]:
    """Parse a word; one of letters only is a channel, any other holds symbols."""
    return _channel(text) if _spellings.is_channel(text) else symbol_list(text)


def _float(text: str) -> float:
    with suppress(ValueError):
        return float(text)
    return math.nan


def _integer(text: str) -> int | None:
    with suppress(ValueError):
        return int(text)
    return None
