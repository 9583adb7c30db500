"""The program ``qos``: parses the command line, runs a command, returns an exit code."""

from __future__ import annotations

import re
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from typing import Any, NoReturn

from qos_async._printable import printable
from qos_async._version import __version__
from qos_async.cli import exits
from qos_async.cli.options import CommandError, Options
from qos_async.cli.signals import Terminated, on_termination, terminate
from qos_async.cli.streams import discard_output, print_message, standard_streams

__all__ = ["parse", "run"]

_ABOUT = """\
QOS market data (qos.hk) in the terminal.

examples:
  qos demo                      a tour in 15 seconds; needs no key
  qos snapshot US:AAPL,TSLA HK:700
  qos klines CF:BTCUSDT --interval 1h --csv > bars.csv
  qos stream trades CF:BTCUSDT --json
  qos snapshot --sim US:AAPL    the same on a simulated server, without a key
  qos sim --port 8765           a QOS server of your own
  qos doctor                    if something does not work
"""
_NOTE = """\
configuration, in this order of precedence:
  options of the command; --key is one, but ps shows it to all users
  QOS_API_KEY, QOS_HTTP_URL, QOS_STREAM_URL, QOS_PROXY
  ~/.config/qos-async/config.toml (or in $XDG_CONFIG_HOME; qos doctor prints the
    path), with entries such as
    key = "..."
    limits = { symbols = 100, http_requests = 60 }
  and http_url, stream_url, proxy, key_in

exit codes:
  0    success; also when the reader of the output closes the pipe
  1    failure; the reason is on stderr
  2    wrong arguments or configuration
  3    the key is missing, refused or expired
  130  stopped with Ctrl-C before the end (143: with SIGTERM or SIGHUP); sim and
       stream run until they are stopped, so for them that is 0
"""
_TIMES = ("--from", "--to")


def run(argv: Sequence[str] | None = None) -> int:
    """Run ``qos`` and return the exit code.

    Args:
        argv: As for ``qos_async.cli.main``.

    Raises:
        KeyboardInterrupt: If Ctrl-C is pressed before a command runs.
    """
    with standard_streams(), on_termination(terminate):
        try:
            code = _run(argv)
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader, such as ``head``, closed the pipe: not a failure.
            discard_output(sys.stdout)
            return exits.OK
        except Terminated:
            return exits.TERMINATED
        except CommandError as error:
            return error.report()
        except OSError as error:
            print_message(f"qos: {error.strerror or error}")
            discard_output(sys.stdout)
            return exits.FAILED
        return code


def parse(argv: Sequence[str] | None = None) -> Options:
    """Parse the command line.

    Raises:
        SystemExit: After ``--help`` or ``--version`` with 0, for a usage error with 2.
    """
    from qos_async.cli.commands import COMMANDS

    parser = _Parser(
        "qos",
        description=_ABOUT,
        epilog=_NOTE,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"qos {__version__}")
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", title="commands"
    )
    for name, command in COMMANDS.items():
        subparser = commands.add_parser(
            name,
            help=command.brief,
            description=command.about,
            epilog=command.note,
            formatter_class=RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.add_arguments(subparser)
    typed = sys.argv[1:] if argv is None else argv
    options = parser.parse_args(_with_spans(typed), Options())
    if not options.command:
        parser.print_help(sys.stderr)
        raise SystemExit(exits.USAGE)
    return options


class _Parser(ArgumentParser):
    """Parses the command line; a message may quote what a script has passed on."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))

    def _print_message(self, message: str, file: Any = None) -> None:
        # That of argparse ignores errors, such as a full disk behind stdout.
        print(message, end="", file=file or sys.stderr)


def _with_spans(argv: Sequence[str]) -> list[str]:
    """Join ``--from -7d`` to ``--from=-7d``: argparse takes ``-7d`` for an option."""
    words: list[str] = []
    for word in argv:
        if words and words[-1] in _TIMES and re.match(r"-\d", word):
            words[-1] += f"={word}"
        else:
            words.append(word)
    return words


def _run(argv: Sequence[str] | None) -> int:
    from qos_async.cli.commands import COMMANDS

    try:
        options = parse(argv)
    except SystemExit as end:  # How argparse ends after --help and usage errors.
        return end.code if isinstance(end.code, int) else exits.USAGE
    return COMMANDS[options.command].run(options)
