"""Observations: frames, pushes, links and fetches of one client, and their values."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from msgspec import Struct, field

from qos_async import Depth, Dropped, Gap, Snapshot, Topic, Trade
from qos_async._core.wire import LETTERS
from qos_async.enums import Channel, Interval

__all__ = [
    "CHANNELS",
    "START",
    "Fetch",
    "ObservedLink",
    "ReceivedPush",
    "SentFrame",
    "SubscriptionSpan",
    "decode",
    "loop_time",
    "push_of",
    "push_values",
    "short",
    "stamp",
    "tick_values",
    "topic_of_event",
    "trade_key",
    "trade_key_of",
]

START = 1_750_000_000.0
"""The wall clock when the loop's clock is 0."""

CHANNELS = {letter: channel for channel, letter in LETTERS.items()}


class SentFrame(NamedTuple):
    """A frame that the client sent."""

    at: float
    frame: dict[str, Any]


class ReceivedPush(NamedTuple):
    """A push that the client received."""

    number: int
    at: float
    link: int
    topic: Topic
    values: tuple[Any, ...]


class ObservedLink(Struct):
    """One websocket, as its client sees it."""

    number: int
    opened_at: float
    heartbeat_at: float
    closed_at: float | None = None
    confirmed: bool = False
    pending: SentFrame | None = None
    sent: list[SentFrame] = field(default_factory=list)
    heartbeat_refused: bool = False


class Fetch(Struct):
    """A fetch; ``unique_count`` is a number of klines that no other fetch requests."""

    label: str
    started_at: float
    via: str
    unique_count: int | None
    sent_at: float | None = None
    done_at: float | None = None
    cancelled: bool = False
    is_checked: bool = False


class SubscriptionSpan(Struct):
    """A time in which a consumer subscribes to a topic."""

    since: float
    until: float | None = None


def decode(raw: bytes) -> dict[str, Any] | None:
    """Return a frame's JSON object, or None without one."""
    try:
        frame = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return frame if isinstance(frame, dict) else None


def push_of(frame: dict[str, Any]) -> tuple[Topic, tuple[Any, ...]] | None:
    """Return the topic and values of a push; None for other or unreadable frames."""
    channel = CHANNELS.get(str(frame.get("tp")))
    if channel is None or "ts" not in frame:
        return None
    interval = Interval(frame["kt"]) if channel is Channel.KLINE else None
    try:
        return Topic(channel, frame["c"], interval), push_values(channel, frame)
    except (ArithmeticError, KeyError):
        return None


def push_values(channel: Channel, row: dict[str, Any]) -> tuple[Any, ...]:
    """Return the values by which the pushes of a topic are distinguished."""
    match channel:
        case Channel.TRADE:
            return trade_key(row)
        case Channel.SNAPSHOT:
            return row["ts"], Decimal(row["lp"]), Decimal(row["v"])
        case Channel.DEPTH:
            levels = [*row["b"][:1], *row["a"][:1]]
            return row["ts"], *(Decimal(str(one["p"])) for one in levels)
        case Channel.KLINE:
            return row["ts"], Decimal(row["cl"]), Decimal(row["v"])


def trade_key(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return time, price and size of a trade's row."""
    return row["ts"], Decimal(str(row["p"])), Decimal(str(row["v"]))


def tick_values(tick: Any) -> tuple[Any, ...]:
    """Return the same values as ``push_values``, of a decoded tick."""
    match tick:
        case Trade():
            return trade_key_of(tick)
        case Snapshot():
            return tick.timestamp, tick.last_price, tick.volume
        case Depth():
            levels = [*tick.bids[:1], *tick.asks[:1]]
            return tick.timestamp, *(one.price for one in levels)
        case _:
            return tick.timestamp, tick.close, tick.volume


def trade_key_of(trade: Trade[Any]) -> tuple[Any, ...]:
    """Return time, price and size of a decoded trade."""
    return trade.timestamp, trade.price, trade.size


def topic_of_event(event: Any) -> Topic | None:
    """Return the topic of a tick or gap."""
    if isinstance(event, Gap):
        return event.topic
    return None if isinstance(event, Dropped) else event.topic


def stamp(at: float) -> int:
    """Return a time of the loop as ``received_at``, in microseconds."""
    return int((START + at) * 1e9) // 1000


def loop_time(timestamp: datetime) -> float:
    """Return a wall-clock time as a time of the loop."""
    return timestamp.timestamp() - START


def short(gap: Gap) -> str:
    """Return a gap as short text, in times of the loop."""
    since, until = loop_time(gap.since), loop_time(gap.until)
    return (
        f"Gap({gap.topic}, {since:.3f}-{until:.3f}, {gap.status}, "
        f"{gap.recovered}, {gap.reason!r})"
    )
