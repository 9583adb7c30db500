"""What a stream has: topics, recorders, lease, gaps and limits, for ``qos info``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import force_setattr

from qos_async._clock import epoch_ns
from qos_async._core.wire import known_topic
from qos_async.jetstream.api import call, last_message
from qos_async.jetstream.durables import DurableRecord, durable_records
from qos_async.jetstream.errors import BrokerError
from qos_async.jetstream.lease import LeaseRecord, bucket_of
from qos_async.jetstream.messages import decode_fence, decode_link, decode_stamp
from qos_async.jetstream.places import StreamPlace
from qos_async.jetstream.pull import PulledMessage
from qos_async.jetstream.recorder_links import RecorderLinks
from qos_async.jetstream.start import messages_before
from qos_async.jetstream.streams import StreamInfo, stream_info, subject_counts
from qos_async.jetstream.subjects import recorder_of, topic_of
from qos_async.jetstream.wire import Wire
from qos_async.recordings.files import RecordingError
from qos_async.recordings.format import Entry
from qos_async.recordings.summary import RecordedGap, gaps_of

__all__ = [
    "DurableSummary",
    "RecorderSummary",
    "StreamSummary",
    "consumer_lags",
    "lease_records",
    "open_stream",
    "recorder_names",
    "stream_summary",
]


class RecorderSummary(Struct, frozen=True, kw_only=True):
    """A recorder of a stream.

    Attributes:
        name: Its name.
        epoch: The number of its last takeover, and ``epochs`` how many are stored.
        epochs: See there.
        host: The machine that took over last.
        pid: The process.
        since: When that was, in nanoseconds since the epoch.
        topics: What it has subscribed now.
        awaited: Topics with an outage that has not ended.
        lease: ``"held"``, ``"released"``, or None where there never was one; whether a
            holder lives, only its renewals show.
        lease_host: Who holds it.
        lease_pid: Likewise.
        lease_renewed_at: When it was renewed last, by the clock of the holder, in
            nanoseconds since the epoch.
        lease_seconds: Its duration.
    """

    name: str
    epoch: int = 0
    epochs: int = 0
    host: str = ""
    pid: int = 0
    since: int = 0
    topics: tuple[str, ...] = ()
    awaited: tuple[str, ...] = ()
    lease: Literal["held", "released"] | None = None
    lease_host: str = ""
    lease_pid: int = 0
    lease_renewed_at: int = 0
    lease_seconds: float = 0.0


class DurableSummary(Struct, frozen=True, kw_only=True):
    """A durable name of followers.

    Attributes:
        name: The name.
        behind: How many messages its follower has before it, of all topics; None if its
            place is of an earlier stream with the name of this one.
        host: The machine of the process that has it; empty if none has.
        pid: The process.
        written_at: When that was written, in nanoseconds since the epoch, by the clock of
            the process: once a second, while it runs.
    """

    name: str
    behind: int | None
    host: str = ""
    pid: int = 0
    written_at: int = 0


class StreamSummary(Struct, frozen=True, kw_only=True):
    """A stream.

    Attributes:
        topics: The number of messages by topic; a message has one push or several.
        begins_at: The first message, in nanoseconds since the epoch, by the broker's clock.
        ends_at: The last one.
        created_at: When the stream was created.
        messages: The number of messages.
        bytes: Their size.
        max_bytes: The most that it stores on each node; -1 for no limit.
        max_age: Seconds after which messages are removed; 0 for never.
        replicas: The number of nodes that store it.
        leader: The node that leads it; empty without a cluster.
        nodes: The other nodes: ``"current"``, ``"behind"`` or ``"offline"``.
        recorders: The recorders.
        gaps: The outages of topics.
        consumers: How many messages each follower that reads now has before it.
        durables: The durable names of followers.
    """

    topics: dict[str, int]
    begins_at: int
    ends_at: int
    created_at: int
    messages: int
    bytes: int
    max_bytes: int
    max_age: float
    replicas: int
    leader: str
    nodes: dict[str, str]
    recorders: tuple[RecorderSummary, ...]
    gaps: tuple[RecordedGap, ...]
    consumers: dict[str, int]
    durables: tuple[DurableSummary, ...]


async def stream_summary(place: StreamPlace) -> StreamSummary:
    """Return what a stream has, without reading its ticks.

    Raises:
        RecordingError: If there is no such stream.
        BrokerError: If the server cannot be asked.
    """
    async with Wire(place, name="qos-async info") as wire:
        info = await open_stream(wire, place)
        stream, state, config = place.stream, info.state, info.config
        counts = await subject_counts(wire, stream, f"{stream}.*.*.>")
        end = state.last_seq + 1
        recorders = _Recorders()
        async for message in messages_before(wire, stream, [f"{stream}.fence.*"], end):
            recorders.add_fence(message)
        entries: list[Entry] = []
        async for message in messages_before(wire, stream, [f"{stream}.link.*"], end):
            entries += recorders.add_link(message)
        leases = await lease_records(wire, stream, recorders.names)
        durables = await durable_records(wire, stream)
        cluster = info.cluster
        return StreamSummary(
            topics=dict(sorted(_by_topic(counts))),
            begins_at=epoch_ns(state.first_ts) if state.messages else 0,
            ends_at=epoch_ns(state.last_ts) if state.messages else 0,
            created_at=epoch_ns(info.created),
            messages=state.messages,
            bytes=state.bytes,
            max_bytes=config.max_bytes,
            max_age=config.max_age / 1e9,
            replicas=config.num_replicas,
            leader="" if cluster is None else cluster.leader,
            nodes={} if cluster is None else dict(map(_node, cluster.replicas)),
            recorders=recorders.summaries(leases),
            gaps=tuple(gaps_of(entries)),
            consumers=await consumer_lags(wire, stream),
            durables=tuple(_durable(info, *one) for one in durables.items()),
        )


async def open_stream(wire: Wire, place: StreamPlace) -> StreamInfo:
    """Connect, and return a stream.

    Raises:
        RecordingError: If it does not exist.
        BrokerError: If the server cannot be asked.
    """
    await wire.connect()
    info = await stream_info(wire, place.stream)
    if info is None:
        raise RecordingError(
            f"there is no stream {place.stream} at {place}: a recorder creates it "
            f"(qos record -o {place}), or check the name"
        )
    return info


async def recorder_names(wire: Wire, stream: str) -> list[str]:
    """Return the names of the recorders of which the stream has a takeover or an event."""
    subjects = await subject_counts(wire, stream, f"{stream}.*.*")
    return sorted({name for one in subjects if (name := recorder_of(one))})


async def lease_records(
    wire: Wire, stream: str, names: Iterable[str]
) -> dict[str, LeaseRecord]:
    """Return the leases of recorders, as far as they have one that may be read."""
    bucket = bucket_of(stream)
    found: dict[str, LeaseRecord] = {}
    for name in names:
        with suppress(BrokerError, msgspec.MsgspecError):
            stored = await last_message(wire, f"KV_{bucket}", f"$KV.{bucket}.{name}")
            if stored is not None:
                found[name] = msgspec.json.decode(stored.data, type=LeaseRecord)
    return found


async def consumer_lags(wire: Wire, stream: str) -> dict[str, int]:
    """Return how many messages each consumer of a stream has before it."""
    found: dict[str, int] = {}
    with suppress(BrokerError):
        while True:
            body = {"offset": len(found)}
            reply = await call(wire, f"CONSUMER.LIST.{stream}", body)
            page: list[dict[str, Any]] = reply.get("consumers") or []
            found |= {one["name"]: int(one.get("num_pending") or 0) for one in page}
            if not page or len(found) >= int(reply.get("total") or 0):
                break
    return found


def _durable(info: StreamInfo, name: str, record: DurableRecord) -> DurableSummary:
    state = info.state
    next_sequence = max(record.resume.sequence, state.first_seq)
    is_of_this = record.created_ms == info.created_ms
    return DurableSummary(
        name=name,
        behind=max(state.last_seq + 1 - next_sequence, 0) if is_of_this else None,
        host=record.host if record.token else "",
        pid=record.pid if record.token else 0,
        written_at=record.at,
    )


def _node(replica: Any) -> tuple[str, str]:
    state = "current" if replica.current else "behind"
    return replica.name, "offline" if replica.offline else state


def _by_topic(counts: dict[str, int]) -> Iterator[tuple[str, int]]:
    for subject, count in counts.items():
        wanted = topic_of(subject)
        topic = known_topic(wanted) if wanted else None
        if topic is not None:
            yield str(topic), count


class _Recorders:
    """Collects what link and fence messages say of recorders."""

    def __init__(self) -> None:
        self._fences: dict[str, list[PulledMessage]] = {}
        self._links: dict[str, RecorderLinks] = {}

    @property
    def names(self) -> list[str]:
        return sorted({*self._fences, *self._links})

    def add_fence(self, message: PulledMessage) -> None:
        if (name := recorder_of(message.subject)) is not None:
            self._fences.setdefault(name, []).append(message)

    def add_link(self, message: PulledMessage) -> list[Entry]:
        """Return the entries of the log for a link message."""
        with suppress(ValueError):
            if (stamp := decode_stamp(message.headers)) is not None:
                entry = decode_link(message.data)
                force_setattr(entry, "at", stamp.at)
                links = self._links.setdefault(stamp.recorder, RecorderLinks())
                return [*links.translate(stamp.recorder, entry)]
        return []

    def summaries(self, leases: dict[str, LeaseRecord]) -> tuple[RecorderSummary, ...]:
        return tuple(self._summary(name, leases.get(name)) for name in self.names)

    def _summary(self, name: str, lease: LeaseRecord | None) -> RecorderSummary:
        fences, links = self._fences.get(name, []), self._links.get(name)
        more: dict[str, Any] = {}
        if fences:
            sequence, data = fences[-1].sequence, fences[-1].data
            more |= {"epoch": sequence, "epochs": len(fences)}
            with suppress(ValueError, RecordingError):
                fence = decode_fence(data)
                more |= {"host": fence.host, "pid": fence.pid, "since": fence.at}
                more["epoch"] = fence.epoch_at(sequence)
        if links is not None:
            more |= {
                "topics": tuple(sorted(map(str, links.topics))),
                "awaited": tuple(sorted(map(str, links.awaited))),
            }
        if lease is not None:
            more |= {
                "lease": "held" if lease.token else "released",
                "lease_host": lease.host,
                "lease_pid": lease.pid,
                "lease_renewed_at": lease.at,
                "lease_seconds": lease.seconds,
            }
        return RecorderSummary(name=name, **more)
