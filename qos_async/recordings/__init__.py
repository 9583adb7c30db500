"""Recordings of the websocket: recorder, reader, replay, followers, tables and archives.

>>> async with Client(recorder=Recorder("recordings")) as client: ...
>>> async with replay("recordings", speed=10) as client: ...
>>> async with follow("recordings", durable="bot-1") as client: ...
>>> convert("recordings", "parquet")
>>> archive("recordings", "archive")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qos_async._lazy import import_attribute
from qos_async.recordings.archive import Archived, archive
from qos_async.recordings.archive_file import ArchivedDay
from qos_async.recordings.contents import Contents, contents
from qos_async.recordings.conversion import Converted, convert
from qos_async.recordings.files import RecordingError
from qos_async.recordings.format import Entry, MissingZstdError
from qos_async.recordings.reading import read
from qos_async.recordings.recorder import Recorder, RecorderStats

if TYPE_CHECKING:  # It imports aiohttp, 20 MB that a conversion does not need.
    from qos_async.recordings.follow_client import Follow, follow
    from qos_async.recordings.replay_client import Replay, replay

__all__ = [
    "Archived",
    "ArchivedDay",
    "Contents",
    "Converted",
    "Entry",
    "Follow",
    "MissingZstdError",
    "Recorder",
    "RecorderStats",
    "RecordingError",
    "Replay",
    "archive",
    "contents",
    "convert",
    "follow",
    "read",
    "replay",
]

_LAZY = {
    "Replay": "replay_client",
    "replay": "replay_client",
    "Follow": "follow_client",
    "follow": "follow_client",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_attribute(f"qos_async.recordings.{_LAZY[name]}", name)
