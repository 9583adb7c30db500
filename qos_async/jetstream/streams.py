"""Streams: creation with explicit limits, what they are like, and what differs.

A stream is created if it is missing, and never changed or deleted: what differs from what
a recorder needs is reported in sentences, and is for the operator to change.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

import msgspec

from qos_async._core.wire import known_topic
from qos_async.jetstream.api import NO_STREAM, Requester, call
from qos_async.jetstream.errors import BrokerReplyError
from qos_async.jetstream.messages import MAX_PAYLOAD
from qos_async.jetstream.subjects import topic_of
from qos_async.topics import Topic

__all__ = [
    "DEFAULT_MAX_BYTES",
    "Batches",
    "StreamInfo",
    "StreamOptions",
    "differences",
    "ensure_stream",
    "refused",
    "stored_topics",
    "stream_info",
    "subject_counts",
]

Batches: TypeAlias = Literal["fast", "atomic", "single"]
"""How messages are sent: the fastest way that a stream takes."""

DEFAULT_MAX_BYTES = 50 * 10**9
_SMALLEST = 1024 * 1024  # Less than this is no room for a stream.
_SECOND = 1_000_000_000
_WINDOW = (30.0, 120.0)
_DAY = 86_400

# Not enough storage: of the server, of the account, and of the nodes of a cluster.
_NO_STORAGE = frozenset({10002, 10023, 10028, 10047})
_NO_PEERS = 10005
_NO_CLUSTER = 10074
_OVERLAP = 10065


class StreamOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a stream is created with.

    Attributes:
        max_bytes: The most that it stores on each node; None for the smaller of 50 GB
            and half of what the server offers. The oldest messages make room.
        max_age: Seconds after which messages are removed; 0 for never.
        replicas: The number of nodes that store it: 1, 3 or 5.
        duplicate_window: Seconds in which a message that is sent again is recognised.
    """

    max_bytes: int | None = None
    max_age: float = 0.0
    replicas: int = 1
    duplicate_window: float = 60.0


class _StreamConfig(msgspec.Struct, frozen=True):
    subjects: tuple[str, ...] = ()
    retention: str = "limits"
    storage: str = "file"
    discard: str = "old"
    max_bytes: int = -1
    max_msgs: int = -1
    max_msgs_per_subject: int = -1
    max_age: int = 0
    max_msg_size: int = -1
    num_replicas: int = 1
    duplicate_window: int = 0
    allow_direct: bool = False
    allow_batched: bool = False
    allow_atomic: bool = False
    sealed: bool = False
    mirror: dict[str, Any] | None = None


class _StreamState(msgspec.Struct, frozen=True):
    messages: int = 0
    bytes: int = 0
    first_seq: int = 0
    last_seq: int = 0
    first_ts: datetime = datetime.fromtimestamp(0, UTC)
    last_ts: datetime = datetime.fromtimestamp(0, UTC)


class _StreamReplica(msgspec.Struct, frozen=True):
    name: str = ""
    current: bool = False
    offline: bool = False


class _StreamCluster(msgspec.Struct, frozen=True):
    leader: str = ""
    replicas: tuple[_StreamReplica, ...] = ()


class _AccountLimits(msgspec.Struct, frozen=True):
    max_storage: int = -1


class _Account(msgspec.Struct, frozen=True):
    limits: _AccountLimits = _AccountLimits()
    reserved_storage: int = 0


class StreamInfo(msgspec.Struct, frozen=True):
    """A stream as its leader sees it.

    Attributes:
        config: Its configuration.
        state: What it stores.
        created: When it was created: a stream that was deleted and created again counts
            its messages anew.
        cluster: Its leader and the other replicas.
    """

    config: _StreamConfig
    state: _StreamState
    created: datetime = datetime.fromtimestamp(0, UTC)
    cluster: _StreamCluster | None = None

    @property
    def created_ms(self) -> int:
        """Return when it was created, in milliseconds since the epoch."""
        return round(self.created.timestamp() * 1000)

    @property
    def batches(self) -> Batches:
        """Return how messages can be sent."""
        if self.config.allow_batched:
            return "fast"
        return "atomic" if self.config.allow_atomic else "single"


async def stream_info(wire: Requester, stream: str) -> StreamInfo | None:
    """Return a stream as its leader sees it, or None if there is no such stream.

    Raises:
        BrokerUnavailableError: If the leader does not reply.
        BrokerReplyError: If the request is refused.
    """
    try:
        return _info(await call(wire, f"STREAM.INFO.{stream}"))
    except BrokerReplyError as exc:
        if exc.code == NO_STREAM:
            return None
        raise


async def stored_topics(wire: Requester, stream: str) -> frozenset[Topic]:
    """Return the topics of which the stream has messages."""
    topics = map(topic_of, await subject_counts(wire, stream, f"{stream}.*.*.>"))
    known = (known_topic(one) for one in topics if one is not None)
    return frozenset(one for one in known if one is not None)


async def subject_counts(wire: Requester, stream: str, pattern: str) -> dict[str, int]:
    """Return the number of messages by subject, of those that a pattern matches."""
    found: dict[str, int] = {}
    while True:
        body = {"subjects_filter": pattern, "offset": len(found)}
        reply = await call(wire, f"STREAM.INFO.{stream}", body)
        page: dict[str, int] = msgspec.convert(
            reply.get("state", {}).get("subjects") or {}, dict[str, int]
        )
        found |= page
        if not page or len(found) >= int(reply.get("total") or 0):
            return found


async def ensure_stream(
    wire: Requester, stream: str, options: StreamOptions
) -> tuple[StreamInfo, list[str]]:
    """Return a stream, created if it is missing, and how it differs from the options.

    Raises:
        BrokerUnavailableError: If the broker does not reply.
        BrokerReplyError: If the stream cannot be created; the message has the remedy.
    """
    found = await stream_info(wire, stream)
    if found is None:
        found = await _create(wire, stream, options)
    return found, differences(stream, found, options)


async def _create(wire: Requester, stream: str, options: StreamOptions) -> StreamInfo:
    if options.max_bytes is not None:
        size = options.max_bytes
        return _info(await _create_with(wire, stream, options, size))
    # The server does not say what it offers, unless the account has a limit. So twice
    # as much as wanted is asked for, then half of that, until it is accepted.
    size = min(2 * DEFAULT_MAX_BYTES, await _account_offer(wire, options.replicas))
    while True:
        try:
            created = await _create_with(wire, stream, options, size)
            break
        except BrokerReplyError as exc:
            if not _is_out_of_storage(exc) or size // 2 < _SMALLEST:
                raise
            size //= 2
    if created.get("did_create"):
        config = _config(stream, options, size // 2)
        created = await call(wire, f"STREAM.UPDATE.{stream}", config)
    return _info(created)


async def _account_offer(wire: Requester, replicas: int) -> int:
    """Return the bytes that are left to the account for each replica."""
    try:
        account = msgspec.convert(await call(wire, "INFO"), _Account)
    except msgspec.ValidationError:
        account = _Account()
    total = account.limits.max_storage
    if total < 0:
        return 2 * DEFAULT_MAX_BYTES
    return max(0, total - account.reserved_storage) // replicas


async def _create_with(
    wire: Requester, stream: str, options: StreamOptions, size: int
) -> dict[str, Any]:
    config = _config(stream, options, size)
    try:
        return await call(wire, f"STREAM.CREATE.{stream}", config, timeout=10)
    except BrokerReplyError as exc:
        error = BrokerReplyError(
            _why_not_created(stream, options, size, exc),
            code=exc.code,
            description=exc.description,
        )
    raise error


def _config(stream: str, options: StreamOptions, size: int) -> dict[str, Any]:
    return {
        "name": stream,
        "description": "market data of QOS, written by qos-async",
        "subjects": [f"{stream}.>"],
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "max_bytes": size,
        "max_age": round(options.max_age * _SECOND),
        "max_msgs": -1,
        "max_msgs_per_subject": -1,
        "num_replicas": options.replicas,
        "duplicate_window": round(_window(options) * _SECOND),
        "allow_direct": True,
        "allow_batched": True,
        "allow_atomic": True,
    }


def _window(options: StreamOptions) -> float:
    """Return the duplicate window: the server wants at most ``max_age``."""
    window = options.duplicate_window
    return min(window, options.max_age) if options.max_age else window


def _is_out_of_storage(exc: BrokerReplyError) -> bool:
    return exc.code in _NO_STORAGE or (
        exc.code == _NO_PEERS and "storage" in exc.description
    )


def _why_not_created(
    stream: str, options: StreamOptions, size: int, exc: BrokerReplyError
) -> str:
    if _is_out_of_storage(exc):
        return (
            f"the broker has no room for the stream {stream} of {size} bytes: pass a "
            "smaller max_bytes, or raise max_file_store of the server"
        )
    if exc.code in (_NO_CLUSTER, _NO_PEERS):
        return (
            f"the stream {stream} needs {options.replicas} nodes with JetStream, which "
            "the broker does not have: start them, or pass replicas=1"
        )
    if exc.code == _OVERLAP:
        return (
            f"another stream has some of the subjects {stream}.>: choose another name "
            "for this stream, or remove those subjects from the other one"
        )
    return f"cannot create the stream {stream}: {exc.description or exc}"


def refused(stream: str, info: StreamInfo) -> str:
    """Return why a stream takes nothing that a recorder sends; empty if it may."""
    config = info.config
    if config.mirror is not None:
        return (
            f"the stream {stream} is a mirror of {config.mirror.get('name')}, and takes no "
            "messages: record to that one"
        )
    firsts = {subject.partition(".")[0] for subject in config.subjects}
    if not firsts & {stream, "*", ">"}:
        return (
            f"the stream {stream} has the subjects {', '.join(config.subjects)}, and a "
            f"recorder sends to {stream}.>: add that to it, or record to another stream"
        )
    return ""


def differences(stream: str, info: StreamInfo, options: StreamOptions) -> list[str]:
    """Return what a stream has that a recorder would not have chosen, in sentences."""
    config = info.config
    window = config.duplicate_window / _SECOND
    found = [
        *_harmful(stream, config),
        *_limits(config, options),
    ]
    if config.num_replicas != options.replicas:
        found.append(
            f"it is stored on {config.num_replicas} node(s), and {options.replicas} "
            "were asked for"
        )
    if not min(_WINDOW[0], _window(options)) <= window <= _WINDOW[1]:
        found.append(
            f"its duplicate window is {window:g} s: 30 to 120 s recognise what a "
            "recorder sends again, at a bounded cost of memory"
        )
    if not config.allow_direct:
        found.append("allow_direct is off: last values are read more slowly")
    if not config.allow_batched:
        found.append(
            "allow_batched is off: recorders are slower; it needs a server of 2.14 or "
            "newer"
        )
    return [f"stream {stream}: {text}" for text in found]


def _harmful(stream: str, config: _StreamConfig) -> list[str]:
    """Return what makes a recording wrong."""
    found: list[str] = []
    if not {f"{stream}.>", "*.>", ">"}.intersection(config.subjects):
        found.append(
            f"its subjects are {', '.join(config.subjects)}, and {stream}.> is needed: "
            "what a recorder sends is refused"
        )
    if config.retention != "limits":
        found.append(
            f"its retention is {config.retention}: messages vanish once they are read"
        )
    if config.max_msgs_per_subject > 0:
        found.append(
            f"it keeps {config.max_msgs_per_subject} messages of each subject: replays "
            "have holes; use max_bytes and max_age"
        )
    if config.discard != "old":
        found.append("it refuses new messages when it is full: set discard to old")
    if 0 < config.max_msg_size < MAX_PAYLOAD:
        found.append(
            f"it takes messages of {config.max_msg_size} bytes (max_msg_size): a larger "
            "one is not stored, nor is what follows it"
        )
    if config.storage != "file":
        found.append("it is stored in memory: a restart of the server loses it")
    if config.sealed:
        found.append("it is sealed: nothing can be stored in it")
    return found


def _limits(config: _StreamConfig, options: StreamOptions) -> list[str]:
    found: list[str] = []
    if config.max_bytes < 0:
        found.append("it has no max_bytes: it grows until the disk is full")
    elif options.max_bytes not in (None, config.max_bytes):
        found.append(
            f"it holds {config.max_bytes} bytes, and {options.max_bytes} were asked for"
        )
    age = config.max_age / _SECOND
    if options.max_age and age != options.max_age:
        kept = f"{age / _DAY:g} days" if age else "no limit"
        found.append(
            f"its max_age is {kept}, and {options.max_age / _DAY:g} days were asked for"
        )
    return found


def _info(reply: dict[str, Any]) -> StreamInfo:
    try:
        return msgspec.convert(reply, StreamInfo)
    except msgspec.ValidationError as exc:
        raise BrokerReplyError(
            f"the broker described a stream strangely: {exc}"
        ) from None
