"""``qos hub``: one key for every program on the machine."""

from __future__ import annotations

import math
from argparse import ArgumentParser, ArgumentTypeError
from functools import partial
from typing import TYPE_CHECKING, Any

from qos_async.cli import exits
from qos_async.cli.options import (
    Command,
    CommandError,
    Options,
    UsageError,
    add_connection,
    any_path,
    port,
)
from qos_async.cli.sim import PortError, port_error
from qos_async.cli.streams import print_message

if TYPE_CHECKING:  # Slow to import.
    import ssl
    from collections.abc import Sequence

    from rich.text import Text

    from qos_async.cli.tables import Table
    from qos_async.hub import Hub, HubStats
    from qos_async.recordings import Recorder

__all__ = ["COMMAND"]

_PORT = 8765
_DEFAULT = f"QOS_HTTP_URL, if of a hub, or http://127.0.0.1:{_PORT}"
_INTERVAL = 1.0
_OPTIONS = {
    "ssl=": "--tls-cert",
    "allow_insecure=True": "--allow-insecure",
    "host='127.0.0.1'": "without --host",
    "it needs tokens": "it needs --tokens",
    "Limits(symbols=...)": "--symbols-limit",
}
"""What messages of ``Hub`` name, and the options for it."""


def _add_arguments(parser: ArgumentParser) -> None:
    parser.usage = "qos hub [status [URL]] [options]"
    add = parser.add_argument
    add("action", nargs="?", choices=("status",), help="show the hub that is running")
    add("url", nargs="?", metavar="URL", help=f"its address ({_DEFAULT})")
    add("--host", default="127.0.0.1", help="the address to listen on (127.0.0.1)")
    add(
        "--port",
        type=port,
        default=_PORT,
        help=f"the port ({_PORT}); 0 takes a free one",
    )
    add(
        "--allow-insecure",
        action="store_true",
        help="serve other addresses without TLS",
    )
    add(
        "--name",
        action="append",
        default=[],
        metavar="HOST",
        help="a host name that clients may use",
    )
    add("--record", type=any_path, metavar="DIR", help="also record what arrives")
    _add_files(parser)
    add(
        "--linger",
        type=_linger,
        default=30.0,
        metavar="S",
        help="seconds until unsubscribing (30); 0 unsubscribes at once",
    )
    add("--json", action="store_true", help="with status: one JSON object")
    add_connection(parser)


def _linger(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ArgumentTypeError(f"{text!r} is not a number of seconds: try --linger 30")
    return value


def _add_files(parser: ArgumentParser) -> None:
    add = partial(parser.add_argument, type=any_path, metavar="FILE")
    add("--tokens", help="the tokens of its clients; see below")
    add("--tls-cert", help="serve https and wss with this certificate")
    add("--tls-key", help="its private key, if in a file of its own")
    add("--keep", help="keep finished klines there (in memory)")


def _run(options: Options) -> int:
    from qos_async.cli.client import run_async

    if options.action == "status":
        return run_async(partial(_status, options))
    if options.json:
        raise UsageError("--json is an option of qos hub status")
    code = run_async(partial(_serve, options))
    # Stopping it is the regular end.
    return exits.OK if code in (exits.INTERRUPTED, exits.TERMINATED) else code


# Serve


async def _serve(options: Options) -> None:
    from qos_async.cli.client import explaining, make_client, open_settings
    from qos_async.cli.log import printing_warnings

    async with open_settings(options) as settings:
        for warning in settings.warnings:
            print_message(f"qos: warning: {warning}")
        with explaining(settings), printing_warnings():
            # Text is passed on as it is, which is faster than Decimal.
            recorder = _recorder(options)
            hub = _hub(options, make_client(settings, numbers=str, recorder=recorder))
            try:
                await hub.__aenter__()
            except OSError as error:
                raise PortError(_port_error(error, options)) from None
            try:
                key = "TOKEN" if options.tokens else "hub"
                print(f"export QOS_HTTP_URL={hub.http_url}")
                print(f"export QOS_STREAM_URL={hub.stream_url}")
                print(f"export QOS_API_KEY={key}", flush=True)
                await _show_until_it_ends(hub)
            finally:
                await hub.aclose()


def _port_error(error: OSError, options: Options) -> str:
    import errno
    import socket

    is_name = isinstance(error, socket.gaierror)
    if is_name or error.errno in (errno.EADDRNOTAVAIL, errno.EINVAL):
        return (
            f"cannot listen on {options.host}: --host takes an address of this machine, "
            "or 0.0.0.0 for all of them"
        )
    return port_error(error, options.port)


def _recorder(options: Options) -> Recorder | None:
    if options.record is None:
        return None
    from qos_async.recordings import Recorder

    return Recorder(
        options.record,
        on_error=lambda error: print_message(
            f"qos: warning: {error}; the hub goes on without a recording"
        ),
    )


def _hub(options: Options, client: Any) -> Hub:
    from qos_async.hub import Hub

    try:
        return Hub(
            client,
            host=options.host,
            port=options.port,
            tokens=options.tokens,
            ssl=_ssl(options),
            allow_insecure=options.allow_insecure,
            hosts=options.name,
            keep=options.keep,
            linger=options.linger,
        )
    except ValueError as error:
        message = str(error)
        for argument, option in _OPTIONS.items():
            message = message.replace(argument, option)
        raise UsageError(message) from None


def _ssl(options: Options) -> ssl.SSLContext | None:
    if options.tls_cert is None:
        if options.tls_key is not None:
            raise UsageError("--tls-key needs --tls-cert")
        return None
    import ssl

    files = [file for file in (options.tls_cert, options.tls_key) if file is not None]
    for file in files:
        try:
            file.open().close()
        except OSError as error:
            raise UsageError(f"cannot read {file}: {error.strerror}") from None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        # Without this, OpenSSL would ask on the terminal.
        context.load_cert_chain(options.tls_cert, options.tls_key, _no_passphrase)
    except (OSError, ssl.SSLError):
        raise UsageError(
            f"{' and '.join(map(str, files))}: not a certificate and its private key in PEM "
            "form; a key in a file of its own is --tls-key"
        ) from None
    return context


def _no_passphrase() -> str:
    raise UsageError(
        "the private key has a passphrase, which a service cannot type: openssl pkey "
        "-in KEY -out NEW writes one without"
    )


async def _show_until_it_ends(hub: Hub) -> None:
    import asyncio

    serving = asyncio.create_task(hub.serve_forever())
    showing = asyncio.create_task(_show(hub))
    try:
        await asyncio.wait((serving, showing), return_when=asyncio.FIRST_COMPLETED)
    finally:
        serving.cancel()
        showing.cancel()
        await asyncio.gather(serving, showing, return_exceptions=True)
    for task in (serving, showing):
        if not task.cancelled():
            await task


async def _show(hub: Hub) -> None:
    """Show the clients: as a table on a terminal, else a line for each change."""
    import asyncio

    from qos_async.cli.tables import is_terminal

    if is_terminal():
        try:
            from rich.live import Live
        except ImportError:
            pass
        else:
            with Live(auto_refresh=False, transient=True) as live:
                while True:
                    live.update(_as_text(_tables(hub.stats)), refresh=True)
                    await asyncio.sleep(_INTERVAL)
    print_message("listening; Ctrl-C stops it")
    known = ""
    while True:
        stats = hub.stats
        line = (
            f"{len(stats.clients)} clients, {stats.symbols} of {stats.symbols_max} "
            f"symbols, upstream {stats.upstream}"
        )
        if line != known:
            print_message(line)
        known = line
        await asyncio.sleep(_INTERVAL)


# Status


async def _status(options: Options) -> None:
    import msgspec

    from qos_async._printable import printable_json
    from qos_async.cli.tables import show
    from qos_async.hub.status import StatusError, fetch_status

    try:
        stats = await fetch_status(*_place(options))
    except StatusError as error:
        raise CommandError(str(error)) from None
    if options.json:
        print(printable_json(msgspec.json.encode(stats).decode()))
    else:
        show(_tables(stats))


def _place(options: Options) -> tuple[str, str | None]:
    """Return the address of a hub, from any form in which it may be typed, and the key.

    The key of the environment is used only with the address of the environment: where a
    hub is started, it is the key of the service.
    """
    import os

    url, key = options.url or options.http_url, options.key
    if url is None:
        url = os.environ.get("QOS_HTTP_URL", "").strip().rstrip("/")
        if url.endswith("/hub"):
            key = key or os.environ.get("QOS_API_KEY", "").strip()
        else:
            host = f"[{options.host}]" if ":" in options.host else options.host
            url = f"{host}:{options.port}"
    scheme, _, rest = url.rpartition("://")
    scheme = {"ws": "http", "wss": "https"}.get(scheme, scheme or "http")
    place = rest.rstrip("/").removesuffix("/ws").removesuffix("/hub")
    return f"{scheme}://{place}", key


def _tables(stats: HubStats) -> Sequence[Table]:
    from qos_async.cli.tables import Cell, Table, TableColumn

    columns = [
        TableColumn("client", left=True),
        TableColumn("topics", 3),
        TableColumn("sent", 2),
        TableColumn("backlog"),
        TableColumn("dropped"),
        TableColumn("first topics", 1, left=True),
    ]
    rows = [
        [
            Cell(f"{client.number} {client.owner}"),
            Cell(str(len(client.topics))),
            Cell(f"{client.sent:,}"),
            Cell(f"{client.backlog:,}", "yellow" if client.backlog else ""),
            Cell(f"{client.conflated:,}", "yellow" if client.conflated else ""),
            Cell(", ".join(client.topics[:3])),
        ]
        for client in stats.clients
    ]
    answered = ", ".join(f"{n:,} {name}" for name, n in sorted(stats.answered.items()))
    title = (
        f"{len(stats.clients)} clients, {stats.symbols} of {stats.symbols_max} symbols, "
        f"{stats.topics} topics, {stats.ticks:,} ticks, upstream {stats.upstream}"
    )
    about = [
        [Cell("answered"), Cell(answered or "-")],
        [Cell("requests upstream"), Cell(f"{stats.requests:,}")],
        [Cell("upstream was last lost"), Cell(stats.upstream_reason or "-")],
        [Cell("topics interrupted"), Cell(f"{stats.interrupted:,}")],
        [Cell("refused"), Cell(f"{stats.refused:,}")],
        [Cell("longest hold of its loop"), Cell(f"{stats.loop_lag_max * 1000:.0f} ms")],
    ]
    facts = [TableColumn("", left=True), TableColumn("", left=True)]
    return [Table(title, columns, rows), Table("", facts, about)]


def _as_text(tables: Sequence[Table]) -> Text:
    import shutil

    from rich.text import Text

    from qos_async.cli.tables import render

    width = shutil.get_terminal_size().columns
    lines = [Text.assemble(*line) for table in tables for line in render(table, width)]
    return Text("\n").join(lines)


COMMAND = Command(
    "share one key among all programs of a machine",
    """\
Holds the one connection of a key, and serves the protocol of the service to
any number of programs in any language, on this machine. The lines on stdout
set the environment of a client; a shell can evaluate them.

examples:
  qos hub
  qos hub --sim
  qos hub status
  qos hub --host 0.0.0.0 --tokens tokens.toml --tls-cert hub.pem
""",
    """\
A file of tokens has a table for each client:
  [bot-1]
  token = "at least 16 characters"
  symbols = 4                   places of the plan that are reserved for it
  markets = ["US", "HK"]        all by default
  channels = ["trade"]          all by default

Addresses other than loopback need tokens, and TLS or --allow-insecure. Clients
that are closed with 1012 should reconnect: the hub restarts, or ticks of theirs
are missing. /readyz and /metrics are served on the same port. Whether you may
pass quotes on to others is a matter of your agreement with the service.
""",
    _add_arguments,
    _run,
)
