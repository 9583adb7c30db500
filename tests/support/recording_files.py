"""Recordings written by tests, with times to the nanosecond."""

from __future__ import annotations

import json
from pathlib import Path

from qos_async.recordings.format import (
    encode_event,
    encode_frames,
    encode_header,
    load_zstd,
)
from tests.support.memory_transport import trade

__all__ = ["SECOND", "event", "frame", "recorded", "started", "trades", "write"]

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
TOPIC = "trade US:AAPL"


def started(at=0.0, *, run="a", number=0, link=False, topics=()):
    return encode_header(_ns(at), run, number, link=link, topics=list(topics))


def event(at, kind, **more):
    return encode_event(_ns(at), kind, **more)


def frame(at, *frames):
    raw = [f if isinstance(f, bytes) else json.dumps(f).encode() for f in frames]
    return encode_frames(_ns(at), raw, bytes)


def trades(at, *prices):
    return frame(at, *(trade(price) for price in prices))


def recorded(*parts, topics=(TOPIC,), end=1000):
    """Return the lines of a recording: the link opens, the parts, and the end."""
    start = (started(), event(0, "opened"), event(0, "subscribed", topics=list(topics)))
    return b"".join([*start, *parts, event(end, "closed")])


def write(place, *texts, name="qos-1"):
    """Write a file with a compressed frame for each text."""
    Path(place).mkdir(exist_ok=True)
    file = Path(place) / f"{name}.jsonl.zst"
    file.write_bytes(b"".join(map(_compressed, texts)))
    return file


def _compressed(text):
    packer = load_zstd().ZstdCompressor()
    return packer.compress(text, packer.FLUSH_FRAME)


def _ns(at):
    return START + round(at * SECOND)
