"""Status of a hub, as tables: of the one in this process, or of another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qos_async._wording import plural
from qos_async.cli.options import CommandError, Options

if TYPE_CHECKING:  # Slow to import.
    from collections.abc import Sequence

    from rich.text import Text

    from qos_async.cli.tables import Table
    from qos_async.hub import HubStats

__all__ = ["as_text", "show_status", "status_line", "tables"]


async def show_status(options: Options) -> None:
    """Print the status of the hub that runs elsewhere."""
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
        show(tables(stats))


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


def status_line(stats: HubStats) -> str:
    """Return what changes with clients and with the link upstream."""
    count = len(stats.clients)
    return f"{plural(count, 'client')}, {_symbols(stats)} symbols, {_upstream(stats)}"


def tables(stats: HubStats) -> Sequence[Table]:
    """Return the clients, and the facts about the hub."""
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
        f"{plural(len(stats.clients), 'client')}, {_symbols(stats)} symbols, "
        f"{plural(stats.topics, 'topic')}, "
        f"{stats.ticks:,} ticks, {_upstream(stats)}"
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


def _symbols(stats: HubStats) -> str:
    return (
        f"{stats.symbols} of {stats.symbols_max}"
        if stats.symbols_max
        else f"{stats.symbols}"
    )


def _upstream(stats: HubStats) -> str:
    if stats.ready or not stats.upstream_reason:
        return f"upstream {stats.upstream}"
    return f"not ready: {stats.upstream_reason}"


def as_text(stats: HubStats) -> Text:
    """Return the tables for the width of the terminal."""
    import shutil

    from rich.text import Text

    from qos_async.cli.tables import render

    width = shutil.get_terminal_size().columns
    lines = [
        Text.assemble(*line) for table in tables(stats) for line in render(table, width)
    ]
    return Text("\n").join(lines)
