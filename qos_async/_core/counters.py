"""What is counted while it happens."""

from __future__ import annotations

from collections import Counter

__all__ = ["Counters"]


class Counters:
    """Counts of one client, from its first use on; see ``Stats`` for their meaning.

    Not a Struct: some are raised for each frame, and an ordinary slot is raised in two
    thirds of the time.

    Attributes:
        dropped: By the buffers of subscriptions that are closed.
        held: Ticks that were ever held back until a recovery was decided.
        released: Those of them that were delivered after all.
        echoes: Ticks that repeated one which had been recovered before.
    """

    __slots__ = (
        "answers",
        "bytes_received",
        "bytes_sent",
        "dropped",
        "echoes",
        "frames_received",
        "frames_sent",
        "gaps",
        "held",
        "http_bytes_received",
        "http_bytes_sent",
        "http_requests",
        "http_retries",
        "links",
        "reconnects",
        "recovered",
        "released",
        "unknown",
        "unmatched",
        "unreadable",
    )

    def __init__(self) -> None:
        self.links = 0
        self.reconnects: Counter[str] = Counter()
        self.frames_received = self.frames_sent = 0
        self.bytes_received = self.bytes_sent = 0
        self.answers = self.unmatched = 0
        self.unreadable = self.unknown = 0
        self.gaps: Counter[str] = Counter()
        self.recovered = self.dropped = 0
        self.held = self.released = self.echoes = 0
        self.http_requests = self.http_retries = 0
        self.http_bytes_received = self.http_bytes_sent = 0
