"""Time zone and colours of what commands show to people: ``--tz`` and ``--red-up``."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError
from datetime import UTC, datetime, tzinfo
from typing import NamedTuple

from qos_async._wording import did_you_mean
from qos_async.cli.options import Options

__all__ = ["IN_UTC", "Display", "add_red_up", "add_tz", "resolve_display", "time_zone"]

_ANY_SYMBOL = "US:AAPL"
_SWAPPED = {"green": "red", "red": "green"}


class Display(NamedTuple):
    """How times and rises are shown.

    Attributes:
        tz: ``"local"``, ``"market"``, ``"UTC"`` or the name of a time zone.
        red_up: Whether rises are red and falls green, as in mainland China.
        is_typed: Whether the zone was typed: then output for programs has it, too.
    """

    tz: str = "UTC"
    red_up: bool = False
    is_typed: bool = False

    def zone(self, symbol: str = "") -> tzinfo | None:
        """Return the time zone for a symbol; None is that of this machine.

        Without a symbol, that of the market is UTC.
        """
        from qos_async.charts.zones import zone_of  # Not for ``--help``.

        return zone_of(self.tz, symbol)

    def time(self, timestamp: float, symbol: str = "") -> datetime:
        """Return epoch seconds as a time in the zone for a symbol."""
        return datetime.fromtimestamp(timestamp, UTC).astimezone(self.zone(symbol))

    def zone_name(self, symbol: str = "", timestamp: float = 0) -> str:
        """Return the name of the zone for a symbol, as it is at a time.

        Without a symbol, that of the market is ``"market"``: of several symbols.
        """
        from qos_async.charts.zones import zone_name

        if self.tz.lower() == "market" and not symbol:
            return "market"
        return zone_name(self.time(timestamp, symbol))

    @property
    def for_programs(self) -> Display:
        """For JSON and CSV: UTC, unless a zone was typed."""
        return self if self.is_typed else IN_UTC

    def style(self, style: str) -> str:
        """Return the colour of a rise or a fall, given as green or red."""
        return _SWAPPED.get(style, style) if self.red_up else style


IN_UTC = Display()


def add_tz(parser: ArgumentParser, defaults: str = "terminal: local, else UTC") -> None:
    """Add ``--tz``."""
    parser.add_argument(
        "--tz",
        type=time_zone,
        metavar="ZONE",
        help="zone of the times shown: local, market, UTC, or a name such as "
        f"Asia/Hong_Kong ({defaults})",
    )


def add_red_up(parser: ArgumentParser) -> None:
    """Add ``--red-up`` and ``--no-red-up``; None without both."""
    from argparse import BooleanOptionalAction

    parser.add_argument(
        "--red-up",
        action=BooleanOptionalAction,
        help="red for rises, green for falls, as in mainland China",
    )


def time_zone(text: str) -> str:
    """Parse ``local``, ``market``, ``UTC`` or the name of a time zone."""
    from qos_async.charts.zones import similar_zones, zone_of

    try:
        zone_of(text, _ANY_SYMBOL)
    except ValueError:
        raise ArgumentTypeError(
            f"{text!r} is not a time zone: take local, market, UTC or a name such as "
            f"Asia/Hong_Kong{did_you_mean(*similar_zones(text))}"
        ) from None
    return text


def resolve_display(
    options: Options, *, on_stderr: bool = False, default: str | None = None
) -> Display:
    """Return the display of the options, else of the configuration, else the default.

    Args:
        options: Parsed; with or without ``add_tz`` and ``add_red_up``.
        on_stderr: Whether it is for messages on stderr, else for output on stdout. The
            zone is local by default where that is a terminal, else UTC.
        default: Another default of the zone.

    Raises:
        SettingsError: If the configuration is invalid.
    """
    from qos_async.cli.settings import config_path, read_file
    from qos_async.cli.tables import is_terminal

    path = config_path()
    configured = None if path is None else read_file(path)
    typed: str | None = getattr(options, "tz", None)
    red_up: bool | None = getattr(options, "red_up", None)
    if default is None:
        stream = sys.stderr if on_stderr else sys.stdout
        default = "local" if stream is not None and is_terminal(stream) else "UTC"
    if red_up is None:
        red_up = configured is not None and configured.red_up
    return Display(
        tz=typed or (configured and configured.tz) or default,
        red_up=red_up,
        is_typed=typed is not None,
    )
