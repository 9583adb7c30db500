"""What may be typed, put together from the commands."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence

from qos_async import __version__
from qos_async.cli.commands import COMMANDS
from qos_async.cli.exits import USAGE

__all__ = ["Arguments", "parse"]

_ABOUT = """\
QOS market data (qos.hk) in the terminal.

examples:
  qos demo                      the whole story in 15 seconds; needs no key
  qos snapshot US:AAPL,TSLA HK:700
  qos klines CF:BTCUSDT --interval 1h --csv > bars.csv
  qos stream trades CF:BTCUSDT --json
  qos snapshot --sim US:AAPL    the same on a simulated server, without a key
  qos sim --port 8765           a QOS server of your own
  qos doctor                    if something does not work
"""
_EXITS = """\
configuration, the first that says something counts:
  options of the command; --key is one, but ps shows it to everybody
  QOS_API_KEY, QOS_HTTP_URL, QOS_STREAM_URL, QOS_PROXY
  ~/.config/qos-async/config.toml (or in $XDG_CONFIG_HOME), with entries such as
    key = "..."
    limits = { symbols = 100, http_requests = 60 }
  and http_url, stream_url, proxy, key_in

exit codes:
  0    done; also when whoever reads the output has had enough
  1    failed; a sentence says why
  2    wrong arguments or configuration
  3    the key is missing, refused or expired
  130  stopped with Ctrl-C before the end (143: with SIGTERM); sim and stream have
       no other end, so that is 0 for them
"""


class Arguments(Namespace):
    """What was asked for: the command, and whatever options it has."""

    command: str


def parse(argv: Sequence[str] | None = None) -> Arguments:
    """Read the command line.

    Raises:
        SystemExit: After ``--help`` or ``--version`` with 0, for a mistake with 2.
    """
    parser = ArgumentParser(
        "qos",
        description=_ABOUT,
        epilog=_EXITS,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"qos {__version__}")
    places = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, command in COMMANDS.items():
        place = places.add_parser(
            name,
            help=command.BRIEF,
            description=command.ABOUT,
            epilog=command.NOTE,
            formatter_class=RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.add_arguments(place)
    arguments = parser.parse_args(argv, Arguments())
    if not arguments.command:
        parser.print_help(sys.stderr)
        raise SystemExit(USAGE)
    return arguments
