"""The program ``qos``: parses the command line, runs a command, returns an exit code."""

from __future__ import annotations

import re
import sys
from argparse import (
    Action,
    ArgumentError,
    ArgumentParser,
    RawDescriptionHelpFormatter,
)
from collections.abc import Sequence
from itertools import islice
from typing import Any, NoReturn

from qos_async._printable import printable
from qos_async._version import __version__
from qos_async.cli import exits
from qos_async.cli.options import CommandError, Options, did_you_mean
from qos_async.cli.signals import Terminated, on_termination, terminate
from qos_async.cli.streams import discard_output, print_message, standard_streams

__all__ = ["make_parser", "parse", "run"]

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
  qos help COMMAND              examples and options of a command

a key: register with an e-mail address at https://qos.hk, then qos login stores
it; the default plan allows 10 symbols, 10 HTTP requests a minute and one
connection. demo, sim and every command with --sim need none.
"""
_NOTE = """\
configuration, in this order of precedence:
  options of the command; --key is one, but ps shows it to all users
  QOS_API_KEY, QOS_HTTP_URL, QOS_STREAM_URL, QOS_PROXY
  ~/.config/qos-async/config.toml (or in $XDG_CONFIG_HOME; qos doctor prints the
    path), with entries such as
    key = "..."
    tz = "local"
    red_up = true
    limits = { symbols = 100, http_requests = 60 }
    watch = { symbols = ["US:AAPL", "HK:700"], interval = "5m" }
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
    words = _with_spans(_command_words(sys.argv[1:] if argv is None else argv))
    parser = make_parser()
    if words and (command := parser.commands.get(words[0])):
        command.check_options(words[1:])
        words[1:] = command.options_first(words[1:])
    options, others = parser.parse_known_args(words, Options())
    if others:
        command = parser.commands.get(options.command, parser)
        command.error(f"unrecognized arguments: {' '.join(others)}")
    if not options.command:
        parser.print_help(sys.stderr)
        raise SystemExit(exits.USAGE)
    return options


def make_parser() -> _Parser:
    """Return the parser of all commands."""
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
        parser.commands[name] = subparser
    return parser


class _Parser(ArgumentParser):
    """Parses the command line; a message may quote what a script has passed on."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.commands: dict[str, _Parser] = {}

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))

    def check_options(self, words: Sequence[str]) -> None:
        """Exit for an unknown option that resembles one, before others are missed."""
        for word in words:
            if word == "--":
                return
            name = word.partition("=")[0]
            if name.startswith("--") and name not in self._option_string_actions:
                meant = did_you_mean(name, self._option_string_actions)
                if meant:
                    self.error(f"unrecognized arguments: {name}{meant}")

    def options_first(self, words: Sequence[str]) -> list[str]:
        """Return the words with the options before all others, each in its order.

        A list of symbols ends for argparse at an option, so ``US:AAPL --sim HK:700`` would
        have an unrecognized argument.
        """
        options, others = list[str](), list[str]()
        rest = iter(words)
        for word in rest:
            if word == "--":
                others += [word, *rest]
            elif word == "-" or not word.startswith("-"):
                others.append(word)
            else:
                options.append(word)
                action = self._option_string_actions.get(word)
                if action is not None and action.nargs == "+":
                    return list(words)  # How many words are its own, argparse decides.
                if action is not None and action.nargs is None:
                    options += islice(rest, 1)
        return [*options, *others]

    def _check_value(self, action: Action, value: Any) -> None:
        choices = [str(choice) for choice in action.choices or ()]
        if choices and value not in choices:
            meant = did_you_mean(str(value), choices)
            listed = f"choose from {', '.join(choices)}"
            raise ArgumentError(
                action, f"invalid choice: {value!r}{meant or f' ({listed})'}"
            )

    def _print_message(self, message: str, file: Any = None) -> None:
        # That of argparse ignores errors, such as a full disk behind stdout.
        print(message, end="", file=file or sys.stderr)


def _command_words(argv: Sequence[str]) -> list[str]:
    """Return the words with ``help COMMAND`` as ``COMMAND --help``, ``trade`` as ``trades``."""
    from qos_async.cli.commands import COMMANDS

    words = list(argv)
    if words and words[0] == "help":
        words = [*words[1:2], "--help"]
    if words and words[0] not in COMMANDS:
        for other in (f"{words[0]}s", words[0].removesuffix("s")):
            if other in COMMANDS:
                words[0] = other
    return words


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
