"""``qos completion``: the script with which a shell completes commands and options."""

from __future__ import annotations

from argparse import Action, ArgumentParser
from collections.abc import Iterator
from typing import Any

from qos_async.cli import exits
from qos_async.cli.options import CHANNELS, INTERVALS, Command, Options, missing_package

__all__ = ["COMMAND"]

_WORDS = {
    "interval": INTERVALS.split(),
    "tz": ["local", "market", "UTC"],
    "markets": ["US", "HK", "SH", "SZ", "CF", "FX", "IX", "CM"],
    "market": ["US", "HK", "SH", "SZ", "CF", "FX", "IX", "CM"],
    "words": list(CHANNELS),
    "channel": list(CHANNELS),
    "subscribe": list(CHANNELS),
    "on_conflict": ["yield", "retake"],
}
"""What a shell completes by the name of an argument that takes other values, too."""
_FILES = {"FILE", "PLACE"}
_FOLDERS = {"DIR", "OUT"}


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "shell", choices=("bash", "zsh", "fish"), help="bash, zsh or fish"
    )


def _run(options: Options) -> int:
    """Print the script."""
    try:
        import shtab
    except ImportError:
        raise missing_package("completion needs", "shtab", "cli") from None
    from qos_async.cli.command_line import make_parser

    parser = make_parser()
    for action in _actions(parser):
        _describe(action, shtab)
    print(shtab.complete(parser, shell=options.shell))
    return exits.OK


def _actions(parser: Any) -> Iterator[Action]:
    """Iterate over the arguments of a parser and of its commands."""
    yield from parser._actions  # noqa: SLF001 - as shtab, which has no other way
    for command in parser.commands.values():
        yield from _actions(command)


def _describe(action: Action, shtab: Any) -> None:
    """Set what a shell completes for an argument."""
    completed: Any = action
    if action.dest in _WORDS:
        action.choices = _WORDS[action.dest]
    elif action.metavar in _FILES:
        completed.complete = shtab.FILE
    elif action.metavar in _FOLDERS:
        completed.complete = shtab.DIRECTORY


COMMAND = Command(
    "the script that completes commands and options in your shell",
    """\
Prints a script for your shell, which then completes commands, options and their
values with the Tab key. Add the line for it to the start-up file:

  bash: eval "$(qos completion bash)"                  in ~/.bashrc
  zsh:  eval "$(qos completion zsh)"                   in ~/.zshrc, after compinit
  fish: qos completion fish | source                   in ~/.config/fish/config.fish

examples:
  qos completion bash > ~/.local/share/bash-completion/completions/qos
  qos completion zsh > ~/.zfunc/_qos
""",
    "Needs shtab: pip install 'qos-async[cli]'\n",
    _add_arguments,
    _run,
)
