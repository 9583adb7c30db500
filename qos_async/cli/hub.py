"""``qos hub``: one key for every program on the machine."""

from __future__ import annotations

import math
from argparse import ArgumentParser, ArgumentTypeError
from functools import partial
from typing import TYPE_CHECKING, Any

from qos_async._paths import check_readable
from qos_async.cli import exits
from qos_async.cli.options import (
    Command,
    Options,
    UsageError,
    add_connection,
    any_path,
    channel_or_symbols,
    place,
    port,
    seconds,
)
from qos_async.cli.sim import PortError, port_error
from qos_async.cli.streams import print_message

if TYPE_CHECKING:  # Slow to import.
    import ssl
    from collections.abc import Coroutine, Sequence

    from qos_async import Topic
    from qos_async.hub import Hub
    from qos_async.recordings import Recorder, RecordingError

__all__ = ["COMMAND"]

_PORT = 8765
_DEFAULT = f"QOS_HTTP_URL, if of a hub, or http://127.0.0.1:{_PORT}"
_INTERVAL = 1.0
_OF_A_STREAM = ("name", "lease", "spool")
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
        "--hostname",
        action="append",
        default=[],
        metavar="HOST",
        help="a host name that clients may use",
    )
    _add_recordings(parser)
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


def _add_recordings(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--from",
        dest="followed",
        type=place,
        metavar="PLACE",
        help="serve a recording that is written meanwhile: needs no key",
    )
    add(
        "--record",
        type=place,
        metavar="PLACE",
        help="also record what arrives, in a directory or a stream",
    )
    add(
        "--subscribe",
        type=channel_or_symbols,
        nargs="+",
        metavar="WORD",
        help="channels and symbols to subscribe also without a client",
    )
    add("--name", help="of a stream: the name of this recorder in it (default)")
    add(
        "--lease",
        type=seconds,
        metavar="S",
        help="of a stream: seconds until a standby takes over",
    )
    add(
        "--spool",
        type=any_path,
        metavar="DIR",
        help="of a stream: where what it does not have yet is kept",
    )


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
        from qos_async.cli.hub_status import show_status

        return run_async(partial(show_status, options))
    _check(options)
    code = run_async(partial(_serve, options))
    # Stopping it is the regular end.
    return exits.OK if code in (exits.INTERRUPTED, exits.TERMINATED) else code


def _check(options: Options) -> None:
    if options.json:
        raise UsageError("--json is an option of qos hub status")
    if options.followed is not None:
        from qos_async.cli.client import check_followed

        check_followed(options)
        if options.record is not None or options.subscribe:
            option = "--subscribe" if options.record is None else "--record"
            raise UsageError(
                f"--from serves what another process records: leave out {option}"
            )
    given = [name for name in _OF_A_STREAM if getattr(options, name) is not None]
    if given and options.record is None:
        raise UsageError(
            f"--{given[0]} is about a stream to record to: add --record PLACE"
        )


# Serve


async def _serve(options: Options) -> None:
    from qos_async.cli.client import explaining, make_client, open_settings
    from qos_async.cli.log import printing_warnings

    # Text is passed on as it is, which is faster than Decimal.
    if options.followed is not None:
        from qos_async.recordings import follow

        with printing_warnings():
            await _serve_from(options, follow(options.followed, numbers=str), None)
        return
    async with open_settings(options) as settings:
        for warning in settings.warnings:
            print_message(f"qos: warning: {warning}")
        with explaining(settings), printing_warnings():
            recording = _Recording(options)
            client = make_client(settings, numbers=str, recorder=recording.recorder)
            await _serve_from(options, client, recording)


async def _serve_from(
    options: Options, client: Any, recording: _Recording | None
) -> None:
    topics = _topics(options) if options.subscribe else ()
    hub = _hub(options, client)
    try:
        await hub.__aenter__()
    except OSError as error:
        raise PortError(_port_error(error, options)) from None
    try:
        key = "TOKEN" if options.tokens else "hub"
        print(f"export QOS_HTTP_URL={hub.http_url}")
        print(f"export QOS_STREAM_URL={hub.stream_url}")
        print(f"export QOS_API_KEY={key}", flush=True)
        parts = [hub.serve_forever(), _show(hub)]
        if options.subscribe:
            parts.append(_keep_subscribed(client, topics))
        if recording is not None:
            parts.append(recording.failed())
        await _first_of(parts)
    finally:
        await hub.aclose()


def _topics(options: Options) -> tuple[Topic, ...]:
    """Return the topics of ``--subscribe``; klines are those of a minute."""
    from qos_async.cli.stream import topics_of

    words = Options(words=options.subscribe, channel=[], interval=None, csv=False)
    return topics_of(words)


async def _keep_subscribed(client: Any, topics: Sequence[Topic]) -> None:
    """Subscribe topics that no client of the hub may have, so that they are recorded."""
    import asyncio

    from qos_async import Latest
    from qos_async.cli.stream import await_acks

    ticks = client.watch(*topics, buffer=Latest())  # The recorder has them, too.
    await await_acks(ticks, print_message)
    await asyncio.Event().wait()


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


class _Recording:
    """What is recorded besides, if anything.

    Attributes:
        recorder: The recorder; None without ``--record``.
    """

    def __init__(self, options: Options) -> None:
        import asyncio

        self.recorder: Recorder | None = None
        self._failed = asyncio.Event()
        self._of_a_stream = isinstance(options.record, str)
        if options.record is None:
            return
        from qos_async.recordings import Recorder

        given = {
            name: value
            for name in _OF_A_STREAM
            if (value := getattr(options, name)) is not None
        }
        try:
            self.recorder = Recorder(options.record, on_error=self._on_error, **given)
        except ValueError as error:
            raise UsageError(str(error)) from None

    async def failed(self) -> None:
        """Wait until a stream cannot be recorded to any more, and raise why.

        A hub serves without a recording in a directory: its clients may not need it. Not
        so with a stream, which has followers, and a standby.
        """
        await self._failed.wait()
        assert self.recorder is not None, "it has failed"
        if self.recorder.error is not None:
            raise self.recorder.error

    def _on_error(self, error: RecordingError) -> None:
        assert self.recorder is not None, "it has failed"
        if self.recorder.error is None:
            print_message(f"qos: warning: {error}")
        elif self._of_a_stream:
            self._failed.set()
        else:
            print_message(f"qos: warning: {error}; the hub goes on without a recording")


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
            hosts=options.hostname,
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
            check_readable(file)
            file.open().close()
        except OSError as error:
            raise UsageError(f"cannot read {file}: {error.strerror}") from None
        except ValueError as error:
            raise UsageError(f"{file}: {error}") from None
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


async def _first_of(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Run coroutines until the first of them ends, and raise what any has raised."""
    import asyncio

    tasks = [asyncio.create_task(one) for one in work]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if not task.cancelled():
            await task


async def _show(hub: Hub) -> None:
    """Show the clients: as a table on a terminal, else a line for each change."""
    import asyncio

    from qos_async.cli.hub_status import as_text, status_line
    from qos_async.cli.tables import is_terminal

    if is_terminal():
        try:
            from rich.live import Live
        except ImportError:
            pass
        else:
            with Live(auto_refresh=False, transient=True) as live:
                while True:
                    live.update(as_text(hub.stats), refresh=True)
                    await asyncio.sleep(_INTERVAL)
    print_message("listening; Ctrl-C stops it")
    known = ""
    while True:
        line = status_line(hub.stats)
        if line != known:
            print_message(line)
        known = line
        await asyncio.sleep(_INTERVAL)


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
  qos hub --record nats://broker/QOS --lease 10 --subscribe trades US:AAPL,TSLA
  qos hub --from nats://broker/QOS
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
are missing. Recorded is what the clients subscribe, and what --subscribe names.
With --lease, of several hubs with one key one has the link and serves; the
others are not ready, and one of them takes over.

With --from the hub serves what another process records, to a directory or a
stream: the topics that are recorded, and their last values; what only the
service knows is refused. It is ready once it has read up to now.

/readyz and /metrics are served on the same port. Whether you may pass quotes on
to others is a matter of your agreement with the service.
""",
    _add_arguments,
    _run,
)
