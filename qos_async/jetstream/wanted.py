"""Which subjects a follower reads: those of its topics, or all.

A server walks over what a filter leaves out, and compares each message with each filter:
up to about twenty subjects that is cheaper than to send everything, and above it is not.
The subjects of links and fences are read whatever topics are wanted.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from qos_async.jetstream.subjects import topic_subject
from qos_async.topics import WireTopic

__all__ = ["MOST_FILTERS", "Wanted"]

MOST_FILTERS = 20


class Wanted:
    """A set of topics as subjects.

    Args:
        stream: The stream.
        topics: The topics; None for all.

    Attributes:
        subjects: The subjects of the topics; None for all.
        filters: What the server is asked for; empty for all.
    """

    def __init__(
        self, stream: str, topics: AbstractSet[WireTopic] | None = None
    ) -> None:
        self._others = (f"{stream}.link.", f"{stream}.fence.")
        self.subjects: frozenset[str] | None = None
        self.filters: list[str] = []
        if topics is None:
            return
        self.subjects = frozenset(topic_subject(stream, topic) for topic in topics)
        if len(self.subjects) <= MOST_FILTERS:
            kinds = (f"{subject}*" for subject in self._others)
            self.filters = [*sorted(self.subjects), *kinds]

    def __contains__(self, subject: str) -> bool:
        subjects = self.subjects
        return (
            subjects is None or subject in subjects or subject.startswith(self._others)
        )
