"""``qos doctor``: what works on the way to the service, and what does not."""

from __future__ import annotations

from argparse import ArgumentParser

from qos_async.cli.connecting import Connection, add_connection

__all__ = ["ABOUT", "BRIEF", "NOTE", "Arguments", "add_arguments", "run"]

BRIEF = "find out what does not work, and why"
ABOUT = """\
Looks at the configuration, name resolution, TCP, TLS, the key, one round trip
over HTTP and over the websocket, and the clock, and says for each what to do
if it fails. The report has no secrets in it: no key, no password, no user's or
home's name. Paste it as it is into a bug report.

examples:
  qos doctor
  qos doctor --sim
  qos doctor --json | grep failed
"""
NOTE = """\
It costs one HTTP request, and takes the plan's websocket connection for a few
seconds: another program of the same key may lose it. With --json, each check
is an object a line. The exit code is 0 if all is well, 1 if something failed,
3 if the key is missing or refused.
"""


class Arguments(Connection):
    """What was asked for."""

    json: bool = False


def add_arguments(parser: ArgumentParser) -> None:
    """Say what may be typed."""
    parser.add_argument("--json", action="store_true", help="one JSON object a check")
    add_connection(parser)


def run(arguments: Arguments) -> int:
    """Examine everything, and give the exit code."""
    from qos_async.cli import doctor  # noqa: PLC0415 - heavy

    return doctor.run_doctor(arguments)
