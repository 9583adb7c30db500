"""The links of the recorders of a stream, as entries of one log.

A stream has the topics of several recorders, each with its own link. A log has one link,
which is open as long as the stream is: the loss of a recorder's link is an outage of each
of its topics, and ends for each with the ``fetched`` that the recorder wrote.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from msgspec.structs import replace

from qos_async._core.notices import GapStatus
from qos_async._core.wire import known_topic
from qos_async.jetstream.subjects import topic_of
from qos_async.recordings.format import Entry
from qos_async.topics import Topic

__all__ = ["RecorderLinks"]


class _Link:
    """What is known of a recorder.

    Attributes:
        topics: The topics that are subscribed.
        awaited: Those of them, or of before, whose ``fetched`` is still to come, and
            since when.
        broken: Topics of which pushes were dropped in an outage: the numbers of pushes in
            their ``fetched`` are wrong, so it counts as the end at most.
        has_dropped: Whether the last entry was a ``dropped``. A ``started`` behind it is
            of the same process.
        cut: Since when, and why, topics are interrupted of which the recorder knows
            nothing more: it has ended, or was killed. That is over when one subscribes
            them again.
        left: Since when topics are not subscribed any more. The last pushes of one may
            follow, so its outage begins where the recorder ends, or, as a hole, where it
            is subscribed again.
        seen: The subjects of messages, before the first ``started``.
        silent: The topics of ``cut`` because nothing is received from the recorder; None
            while something is.
        lost_at: When the last entry before the loss of its link was received; 0 while
            that is open.
        run: The run and the number of its last ``started``.
        last_at: The time of its last entry, in nanoseconds since the epoch.
    """

    def __init__(self) -> None:
        self.topics: set[Topic] = set()
        self.awaited: dict[Topic, int] = {}
        self.broken: set[Topic] = set()
        self.has_dropped = False
        self.cut: dict[Topic, tuple[int, str]] = {}
        self.left: dict[Topic, int] = {}
        self.silent: set[Topic] | None = None
        self.seen: set[str] = set()
        self.lost_at = 0
        self.run: tuple[str, int] | None = None
        self.last_at = 0


class RecorderLinks:
    """Tracks the links, and translates their entries."""

    def __init__(self) -> None:
        self._links: dict[str, _Link] = {}

    @property
    def topics(self) -> frozenset[Topic]:
        """The topics that are subscribed by any recorder."""
        none = frozenset[Topic]()
        return none.union(*(link.topics for link in self._links.values()))

    @property
    def awaited(self) -> frozenset[Topic]:
        """The topics that have an outage."""
        none = frozenset[Topic]()
        links = self._links.values()
        return none.union(*({*link.awaited, *link.cut} for link in links))

    @property
    def live_recorders(self) -> list[str]:
        """The recorders that have live topics."""
        return [
            name
            for name, link in self._links.items()
            if link.silent is None and link.topics - link.cut.keys()
        ]

    def fall_silent(self, recorder: str, entry: Entry) -> Iterator[Entry]:
        """Yield the entries of a recorder that is silent, which may have ended.

        It is over with its next entry. If it goes on where it was, nothing was missed.
        """
        link = self._links[recorder]
        silent = link.topics - link.awaited.keys() - link.cut.keys()
        silent -= self._elsewhere(link, live_only=True)
        reason = f"nothing is received from the recorder {recorder}"
        link.silent = silent
        link.cut |= dict.fromkeys(silent, (link.last_at, reason))
        yield from _interrupted(entry, silent, reason, link.last_at)

    def see(self, recorder: str, subject: str) -> None:
        """Take the topic of a message for subscribed, if its ``started`` was removed."""
        link = self._links.setdefault(recorder, _Link())
        if link.run is None and subject not in link.seen:
            link.seen.add(subject)
            wanted = topic_of(subject)
            if wanted is not None and (topic := known_topic(wanted)) is not None:
                link.topics.add(topic)

    def add_frame(self, recorder: str, at: int) -> bool:
        """Take a frame, which is an entry of the log as it is.

        Returns:
            Whether it was taken; else the topic is to be seen first, by ``see``.
        """
        link = self._links.get(recorder)
        if link is None or link.run is None or link.silent is not None:
            return False
        link.last_at = at
        return True

    def translate(self, recorder: str, entry: Entry) -> Iterator[Entry]:
        """Yield the entries of the log for an entry of a recorder."""
        link = self._links.get(recorder) or self._links.setdefault(recorder, _Link())
        last_at, link.last_at = link.last_at or entry.at, entry.at
        silent, link.silent = link.silent, None
        if silent is not None and entry.kind != "started":
            yield from _resumed(link, entry, sorted(silent), status="filled")
            yield from self._resumed_by_any(entry, sorted(link.topics))
        match entry.kind:
            case "frame" | "damaged" | "unknown":
                yield entry
            case "started":
                yield from self._on_started(link, entry, last_at)
            case "lost":
                topics = link.topics - link.awaited.keys() - link.cut.keys()
                link.topics.clear()
                link.lost_at = last_at
                link.awaited |= dict.fromkeys(topics, last_at)
                yield from _interrupted(entry, topics, entry.reason, last_at)
            case "closed":
                yield from self._cut(link, entry, "the recorder has ended", last_at)
            case "dropped":
                yield from _on_dropped(link, entry, last_at)
            case "opened":
                link.lost_at = 0
            case _:
                yield from self._on_topics(link, entry)
        link.has_dropped = entry.kind == "dropped"

    def hole(
        self, entry: Entry, topics: Iterable[Topic], since: int, reason: str
    ) -> Iterator[Entry]:
        """Yield the entries for messages that the stream has lost.

        Args:
            entry: The first entry behind the hole.
            topics: The topics that it is a hole of.
            since: When it begins, in nanoseconds since the epoch; 0 if unknown.
            reason: ``"store"``, or ``"retention"`` if its limits were reached.
        """
        before = replace(entry, origin="")  # The entry itself is still to come.
        for topic in topics:
            yield from _hole(before, topic, reason, since or entry.at)

    def _on_topics(self, link: _Link, entry: Entry) -> Iterator[Entry]:
        topics = entry.topics
        match entry.kind:
            case "subscribed":
                link.topics.update(topics)
            case "unsubscribed" | "rejected":
                link.topics.difference_update(topics)
                for topic in topics:  # That ends outages, too.
                    link.awaited.pop(topic, None)
                    link.cut.pop(topic, None)
                link.broken.difference_update(topics)
                link.left |= dict.fromkeys(topics, entry.at)
            case "suspect":
                for topic in topics:
                    link.awaited.setdefault(topic, entry.since or entry.at)
            case "fetched":
                yield from _on_fetched(link, entry)
                return
            case _:
                pass
        yield entry
        if entry.kind == "subscribed":
            yield from self._resumed_by_any(entry, topics)
        else:
            yield from _resumed(link, entry, topics)
        for topic in topics if entry.kind == "subscribed" else ():
            if since := link.left.pop(topic, 0):
                reason = "the recorder had unsubscribed the topic"
                yield from _hole(entry, topic, reason, since)

    def _on_started(self, link: _Link, entry: Entry, last_at: int) -> Iterator[Entry]:
        run, link.run = link.run, (entry.run, entry.number)
        if run is not None and (run[0], run[1] + 1) != link.run:
            yield from self._cut(link, entry, "the recorder has changed", last_at)
            if link.has_dropped:
                link.broken.update(entry.awaited)
        link.topics = set(entry.topics)
        awaited = set(entry.awaited) - link.awaited.keys() - self._elsewhere(link)
        new = awaited - link.cut.keys()
        for topic in awaited:
            link.awaited[topic], _ = link.cut.pop(topic, (last_at, ""))
        yield from _interrupted(entry, new, "the link was lost", last_at)
        # The state of an open link, again: there was no room for what came before it.
        yield from self._resumed_by_any(entry, sorted(link.topics - awaited))

    def _cut(
        self, link: _Link, entry: Entry, reason: str, since: int
    ) -> Iterator[Entry]:
        """Yield the beginning of outages of which no more will be recorded."""
        topics = link.topics | link.left.keys()
        topics -= link.awaited.keys() | link.cut.keys()
        elsewhere = self._elsewhere(link)
        link.cut |= dict.fromkeys(link.topics, (since, reason))
        link.cut |= {topic: (at, reason) for topic, at in link.awaited.items()}
        link.cut |= {topic: (at, reason) for topic, at in link.left.items()}
        link.topics.clear()
        link.awaited.clear()
        link.broken.clear()
        link.left.clear()
        yield from _interrupted(entry, topics - elsewhere, reason, since)
        for topic in sorted(elsewhere & link.cut.keys()):
            began, why = link.cut.pop(topic)
            if topic not in topics:  # It had an outage, which nothing else ends.
                yield _unfilled(entry, topic, why, began)

    def _elsewhere(self, link: _Link, *, live_only: bool = False) -> frozenset[Topic]:
        """Return the topics that other recorders have subscribed."""
        others = (
            one.topics
            for one in self._links.values()
            if one is not link and not (live_only and one.silent is not None)
        )
        return frozenset[Topic]().union(*others)

    def _resumed_by_any(self, entry: Entry, topics: Sequence[Topic]) -> Iterator[Entry]:
        for link in self._links.values():
            yield from _resumed(link, entry, topics)


def _on_dropped(link: _Link, entry: Entry, since: int) -> Iterator[Entry]:
    """Yield a hole of each live topic, behind the end of its outage if it has one."""
    reason = f"{entry.count} frames were not recorded"
    link.broken |= link.awaited.keys()
    ended = link.awaited.keys() & link.topics if entry.count else ()
    for topic in sorted(ended):
        yield _unfilled(entry, topic, reason, link.awaited.pop(topic))
    for topic in sorted(link.topics - link.awaited.keys()):
        yield from _hole(entry, topic, reason, since)


def _on_fetched(link: _Link, entry: Entry) -> Iterator[Entry]:
    """Yield the end of an outage, and the beginning of the next if there is one.

    A recorder that is closed ends the outages of topics that are not live again, too.
    """
    for topic in entry.topics:
        since, is_broken = link.awaited.pop(topic, None), topic in link.broken
        link.broken.discard(topic)
        if not is_broken:
            yield entry
        elif since is not None:
            yield _unfilled(entry, topic, entry.reason, entry.since)
        yield from _resumed(link, entry, [topic])
        if since is not None and topic not in link.topics:
            cut = link.lost_at or entry.until, "the link was lost"
            link.cut[topic] = cut
            yield _suspect(entry, [topic], cut[1], cut[0])


def _resumed(
    link: _Link,
    entry: Entry,
    topics: Iterable[Topic],
    status: GapStatus = "unfilled",
) -> Iterator[Entry]:
    """Yield the ends of outages of topics that a recorder receives again."""
    for topic in topics:
        if (found := link.cut.pop(topic, None)) is not None:
            since, reason = found
            yield replace(_unfilled(entry, topic, reason, since), status=status)


def _interrupted(
    entry: Entry, topics: set[Topic], reason: str, since: int
) -> Iterator[Entry]:
    if topics:
        yield _suspect(entry, sorted(topics), reason, since)


def _hole(entry: Entry, topic: Topic, reason: str, since: int) -> Iterator[Entry]:
    yield _suspect(entry, [topic], reason, since)
    yield _unfilled(entry, topic, reason, since)


def _suspect(entry: Entry, topics: Sequence[Topic], reason: str, since: int) -> Entry:
    """Return an entry that is not in the stream: it has no place."""
    return Entry(
        at=entry.at,
        elapsed=entry.elapsed,
        kind="suspect",
        topics=tuple(topics),
        reason=reason,
        since=since,
    )


def _unfilled(entry: Entry, topic: Topic, reason: str, since: int) -> Entry:
    """Return the end of an outage that is not in the stream.

    What was held back follows with the places of the entry that shows the end, unless
    that is a frame, which has ticks of its own.
    """
    return replace(
        _suspect(entry, [topic], reason, since),
        kind="fetched",
        status="unfilled",
        until=entry.at,
        origin="" if entry.kind == "frame" else entry.origin,
        position=entry.position,
    )
