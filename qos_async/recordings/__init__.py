"""What came over the websocket, written down; and read, played and converted again.

>>> async with Client(recorder=Recorder("recordings")) as client: ...
>>> async with replay("recordings", speed=10) as client: ...
>>> convert("recordings", "parquet")
"""

from __future__ import annotations

from qos_async.recordings.files import RecordingError
from qos_async.recordings.lines import Entry
from qos_async.recordings.parquet import Converted, convert
from qos_async.recordings.reading import Contents, contents, read
from qos_async.recordings.recorder import Recorder, RecorderStats
from qos_async.recordings.replaying import Replay, replay
from qos_async.recordings.zstd import MissingZstdError

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
