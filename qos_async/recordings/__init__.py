"""Recordings of the websocket: recorder, reader, replay and conversion to Parquet.

>>> async with Client(recorder=Recorder("recordings")) as client: ...
>>> async with replay("recordings", speed=10) as client: ...
>>> convert("recordings", "parquet")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qos_async._lazy import import_attribute
from qos_async.recordings.files import RecordingError
from qos_async.recordings.format import Entry, MissingZstdError
from qos_async.recordings.parquet import Converted, convert
from qos_async.recordings.reading import Contents, contents, read
from qos_async.recordings.recorder import Recorder, RecorderStats

if TYPE_CHECKING:  # It imports aiohttp, 20 MB that a conversion does not need.
    from qos_async.recordings.replay_client import Replay, replay

__all__ = [
    "Contents",
    "Converted",
    "Entry",
    "MissingZstdError",
    "Recorder",
    "RecorderStats",
    "RecordingError",
    "Replay",
    "contents",
    "convert",
    "read",
    "replay",
]

_REPLAY = ("Replay", "replay")


def __getattr__(name: str) -> Any:
    if name not in _REPLAY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_attribute("qos_async.recordings.replay_client", name)
