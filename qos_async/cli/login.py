"""``qos login``: takes a key, tests it, and writes it into the configuration file."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from functools import partial
from typing import TYPE_CHECKING

from qos_async.cli import exits
from qos_async.cli.options import (
    Command,
    CommandError,
    Options,
    UsageError,
    add_connection,
)
from qos_async.cli.streams import print_message

if TYPE_CHECKING:  # Slow to import.
    from qos_async.cli.settings import Settings

__all__ = ["COMMAND"]

_SAMPLES = {
    "US": "US:AAPL",
    "HK": "HK:700",
    "SH": "SH:600519",
    "SZ": "SZ:000001",
    "CF": "CF:BTCUSDT",
}
"""A symbol of each market of the document: half of what the default plan allows."""


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--no-check", action="store_true", help="store the key without a request"
    )
    add_connection(parser)


def _run(options: Options) -> int:
    """Take a key, test it, store it, and return the exit code."""
    from qos_async.cli.client import run_async
    from qos_async.cli.key_file import write_key
    from qos_async.cli.settings import config_path, resolve

    _check(options)
    path = config_path()
    if path is None:
        raise CommandError(
            "there is no home directory for the configuration: set XDG_CONFIG_HOME, or "
            "use QOS_API_KEY instead"
        )
    settings = resolve(options)  # An invalid file is reported before the question.
    key = _read_key()
    if not options.no_check:
        code = run_async(partial(_test, settings, key))
        if code:
            print_message("qos: the key was not stored")
            return code
    write_key(path, key)
    print(f"stored in {path}, which only this user can read")
    if os.environ.get("QOS_API_KEY", "").strip():
        print_message("qos: QOS_API_KEY is set, and is used instead of the file")
    return exits.OK


def _check(options: Options) -> None:
    if options.sim:
        raise UsageError("--sim needs no key, so there is none to store")
    if options.key is not None:
        raise UsageError(
            "--key is shown by ps and stored by the shell: leave it out, and type or "
            "pipe the key when it is asked for"
        )


def _read_key() -> str:
    """Return the key that is typed, without an echo, or piped."""
    if sys.stdin is not None and sys.stdin.isatty():
        import getpass

        print_message("Keys are given out at https://qos.hk, for an e-mail address.")
        key = getpass.getpass("API key (not shown): ")
    else:
        key = "" if sys.stdin is None else sys.stdin.readline()
    if not key.strip():
        raise UsageError("no key was given: nothing was stored")
    return key.strip()


async def _test(settings: Settings, key: str) -> int:
    """Send one request with the key, and print what it shows."""
    from msgspec.structs import replace

    from qos_async.cli.client import explaining, make_client
    from qos_async.errors import RejectedError

    typed = {**settings.origins, "key": "what was typed"}
    settings = replace(settings, key=key, origins=typed)
    with explaining(settings):
        async with make_client(settings) as client:
            try:
                found = await client.fetch_snapshots(*_SAMPLES.values())
            except RejectedError as error:
                print(f"the key was accepted; the test request was rejected: {error}")
                return exits.OK
    markets = [market for market, symbol in _SAMPLES.items() if symbol in found]
    print("the key was accepted")
    _print_plan(settings, markets)
    return exits.OK


def _print_plan(settings: Settings, markets: list[str]) -> None:
    """Print what the plan seems to allow: one request does not show its limits."""
    silent = [market for market in _SAMPLES if market not in markets]
    without = f"; no data of {', '.join(silent)}" if silent else ""
    print(f"the plan seems to include: {', '.join(markets) or 'no market'}{without}")
    limits = settings.limits
    print(
        f"assumed: {limits.symbols} symbols, {limits.http_requests} HTTP requests in "
        f"{limits.http_period:g} s; if your plan allows more, add limits to the file "
        "(qos --help)"
    )


COMMAND = Command(
    "store an API key, after testing it",
    """\
Asks for the key without showing it, or reads it from a pipe; tests it with one
request; and writes it into the configuration file, which then only you can
read. Everything else in the file stays as it is.

Register at https://qos.hk with an e-mail address to get a key; the vendor offers
a free trial. By its document a plan limits the number of symbols, the requests a
minute and the connections: by default 10, 10 and 1. Its customer service
changes them.

examples:
  qos login
  pass show qos | qos login
  qos login --no-check
""",
    """\
A key that is rejected is not stored, nor one that cannot be tested for lack of
a network: --no-check stores it nevertheless. The exit code is 3 for a rejected
key.
""",
    _add_arguments,
    _run,
)
