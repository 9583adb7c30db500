"""Who is asked, in words that may stand in a file or on a chart."""

from __future__ import annotations

from urllib.parse import urlsplit

from qos_async.cli.connecting import Connection
from qos_async.cli.settings import resolve
from qos_async.config import HTTP_URL

__all__ = ["source_of"]


def source_of(arguments: Connection) -> str:
    """Name the server, without what may be secret in its address.

    Raises:
        SettingsError: If the configuration cannot be used.
    """
    if arguments.sim:
        return f"simulator, seed {1 if arguments.seed is None else arguments.seed}"
    parts = urlsplit(resolve(arguments).http_url or HTTP_URL)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}".rstrip("/")
