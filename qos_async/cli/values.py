"""The values that options take, checked, with sentences that say what to do."""

from __future__ import annotations

import math
from argparse import ArgumentParser, ArgumentTypeError

__all__ = ["add_market", "port", "seconds", "seed", "speed"]

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
