"""What a place that is a stream stands for; imported when one is given.

``qos_async.jetstream`` is a layer above this package: it needs the extra ``nats``.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from qos_async.recordings.source import EntrySource, Start

if TYPE_CHECKING:
    from qos_async.jetstream.durables import StreamDurable

__all__ = [
    "is_stream",
    "shown_place",
    "stream_durable",
    "stream_recorder",
    "stream_source",
]

_is_stream = re.compile(r"(?:nats|tls)://", re.IGNORECASE).match


def is_stream(place: object) -> bool:
    """Return whether a place is a stream, and not a directory."""
    return isinstance(place, str) and _is_stream(place) is not None


def shown_place(place: str | os.PathLike[str]) -> str:
    """Return the place of a stream without credentials.

    Raises:
        ValueError: If it is malformed.
    """
    from qos_async.jetstream.places import parse_place  # noqa: PLC0415 - see the module

    return str(parse_place(os.fspath(place)))


def stream_recorder() -> Any:
    """Return the class of recorders of streams."""
    from qos_async.jetstream.recorder import StreamRecorder  # noqa: PLC0415 - see the module

    return StreamRecorder


def stream_durable(place: str, name: object) -> StreamDurable:
    """Return a durable name of a stream.

    Raises:
        ValueError: If the place is malformed, or it is not a name.
    """
    from qos_async.jetstream.durables import StreamDurable  # noqa: PLC0415 - see the module
    from qos_async.jetstream.places import parse_place  # noqa: PLC0415

    return StreamDurable(parse_place(place), name)


def stream_source(
    place: str,
    start: Start = "first",
    *,
    grows: bool = False,
    strict: bool = False,
    durable: StreamDurable | None = None,
    packed: bool = False,
) -> EntrySource:
    """Return the entries of a stream; see ``jetstream.source``.

    Raises:
        ValueError: If the place or the start is malformed.
    """
    from qos_async.jetstream.places import parse_place  # noqa: PLC0415 - see the module
    from qos_async.jetstream.source import StreamSource  # noqa: PLC0415
    from qos_async.jetstream.start import StreamPosition  # noqa: PLC0415

    if isinstance(start, str) and start != "first" and not StreamPosition.of(start):
        raise ValueError(
            'start must be None, "first", an aware datetime, or a place in a stream such '
            f"as tick.place, not {start!r}"
        )
    parsed = parse_place(place)
    return StreamSource(
        parsed, start, grows=grows, strict=strict, durable=durable, packed=packed
    )
