"""The values that options take, checked, with sentences that say what to do."""

from __future__ import annotations

import math
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from pathlib import Path

from qos_async import symbols
from qos_async.cli.moments import Moment
from qos_async.enums import Channel, Interval

__all__ = [
    "add_market",
    "channel",
    "channel_or_symbols",
    "count_up_to",
    "interval",
    "market",
    "moment",
    "one_symbol",
    "output",
    "port",
    "seconds",
    "seed",
    "speed",
    "symbol_list",
]

_SPEED_MAX = 100.0
_PORT_MAX = 65535


def add_market(parser: ArgumentParser) -> None:
    """Add the options of a simulated market."""
    parser.add_argument(
        "--seed", type=seed, default=1, metavar="N", help="another market (1)"
    )
    parser.add_argument(
        "--speed",
        type=speed,
        default=1.0,
        metavar="X",
        help=f"market seconds in a second, up to {_SPEED_MAX:g} (1)",
    )


def seconds(text: str) -> float:
    """Read a duration."""
    value = _number(text)
    if not 0 < value < math.inf:
        raise ArgumentTypeError(
            f"{text!r} is not a number of seconds above 0: try --seconds 15"
        )
    return value


def speed(text: str) -> float:
    """Read how many times as fast as the clock."""
    value = _number(text)
    if not 0 < value <= _SPEED_MAX:
        raise ArgumentTypeError(
            f"{text!r} is not a speed above 0 and up to {_SPEED_MAX:g}: "
            "1 is real time, --speed 10 is ten times as fast"
        )
    return value


def seed(text: str) -> int:
    """Read the seed of a market."""
    value = _whole(text)
    if value is None or value < 0:
        raise ArgumentTypeError(
            f"{text!r} is not a whole number from 0: each one, such as --seed 7, "
            "draws another market"
        )
    return value


def port(text: str) -> int:
    """Read a port to listen on."""
    value = _whole(text)
    if value is None or not 0 <= value <= _PORT_MAX:
        raise ArgumentTypeError(
            f"{text!r} is not a port from 0 to {_PORT_MAX}: try --port 8765, "
            "or --port 0 for any free one"
        )
    return value


def symbol_list(text: str) -> tuple[str, ...]:
    """Read ``"US:AAPL"`` or ``"US:AAPL,TSLA"`` as canonical symbols."""
    try:
        return symbols.split(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def channel(text: str) -> Channel:
    """Read a channel, also in the plural: ``"trade"`` or ``"trades"``."""
    for one in Channel:
        if text.lower().removesuffix("s") == one:
            return one
    names = ", ".join(Channel)
    raise ArgumentTypeError(f"{text!r} is not a channel: take one of {names}")


def channel_or_symbols(text: str) -> Channel | tuple[str, ...]:
    """Read a word that is a symbol if there is a colon in it."""
    return symbol_list(text) if ":" in text else channel(text)


def market(text: str) -> str:
    """Read a market; which ones there are, the server knows."""
    if not (text.isascii() and text.isalpha()):
        raise ArgumentTypeError(f"{text!r} is not a market: try US or HK")
    return text.upper()


def interval(text: str) -> Interval:
    """Read the length of a kline."""
    try:
        return Interval.parse(text)
    except ValueError:
        allowed = " ".join(one.short for one in Interval if one)
        raise ArgumentTypeError(
            f"{text!r} is not an interval: take one of {allowed}"
        ) from None


def one_symbol(text: str) -> str:
    """Read ``"US:AAPL"`` as a canonical symbol."""
    try:
        return symbols.canonical(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def moment(text: str) -> Moment:
    """Read a day, a time with a zone, or a span back from now."""
    try:
        return Moment.parse(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def count_up_to(most: int) -> Callable[[str], int]:
    """Make a reader of whole numbers from 1 to ``most``."""

    def count(text: str) -> int:
        value = _whole(text)
        if value is None or not 1 <= value <= most:
            raise ArgumentTypeError(f"{text!r} is not a whole number from 1 to {most}")
        return value

    return count


def output(*suffixes: str) -> Callable[[str], Path]:
    """Make a reader of files to write, which end in one of ``suffixes``."""
    allowed = f"{', '.join(suffixes[:-1])} or {suffixes[-1]}"

    def path(text: str) -> Path:
        found = Path(text)
        if found.suffix not in suffixes:
            raise ArgumentTypeError(f"{text!r} should end in {allowed}")
        return found

    return path


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _whole(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None
