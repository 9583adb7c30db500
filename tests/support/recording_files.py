"""Recordings written by tests, with times to the nanosecond."""

from __future__ import annotations

import json
import re
from pathlib import Path

from qos_async.recordings.blocks import FileId, compressor, encode_block, encode_head
from qos_async.recordings.format import (
    encode_event,
    encode_frames,
    encode_header,
    load_zstd,
)
from tests.support.memory_transport import trade

__all__ = [
    "SECOND",
    "START",
    "blocks",
    "event",
    "fetched",
    "frame",
    "recorded",
    "started",
    "trades",
    "write",
    "write_bytes",
    "write_old",
]

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
TOPIC = "trade US:AAPL"


def started(at=0.0, *, up=None, run="a", number=0, link=False, topics=(), **more):
    times = {"up": _up(at, up)}
    return encode_header(
        _ns(at), run, number, link=link, topics=list(topics), **times, **more
    )


def event(at, kind, *, up=None, **more):
    return encode_event(_ns(at), kind, up=_up(at, up), **more)


def frame(at, *frames, up=None):
    raw = [f if isinstance(f, bytes) else json.dumps(f).encode() for f in frames]
    return encode_frames(_ns(at), raw, bytes, up=_up(at, up))


def trades(at, *prices, up=None):
    return frame(at, *(trade(price) for price in prices), up=up)


def fetched(at, *rows, topic=TOPIC, status="filled", since=1, until=9, **more):
    """Return the end of an outage, with rows as objects of the wire and as numbers."""
    return event(
        at,
        "fetched",
        topics=[topic],
        status=status,
        reason="the cable",
        since=_ns(since),
        until=_ns(until),
        rows=list(rows),
        **more,
    )


def recorded(*parts, topics=(TOPIC,), end=1000, up=None, **header):
    """Return the lines of a recording: the link opens, the parts, and the end."""
    start = (
        started(**header),
        event(0, "opened"),
        event(0, "subscribed", topics=list(topics)),
    )
    return b"".join([*start, *parts, event(end, "closed", up=up)])


def blocks(*texts, run=b"12345678", number=0):
    """Return the head of a file, and a block for each text."""
    packer, file = compressor(load_zstd(), 3), FileId(run, number)
    lines, packed = 0, []
    for text in texts:
        packed.append(encode_block(file, lines, text, packer))
        lines += text.count(b"\n")
    size = len(encode_head(file)) + sum(map(len, packed))
    return [encode_head(file, lines=lines, size=size), *packed]


def write(place, *texts, name="qos-1"):
    """Write a file with a block for each text; its head has the run of its first line."""
    found = re.search(rb'^{.*"run":"(\w+)","file":(\d+)', b"".join(texts))
    run, number = found.groups() if found else (b"12345678", 0)
    file = FileId(run.ljust(8, b"-")[:8], int(number))
    raw = b"".join(blocks(*texts, run=file.run, number=file.number))
    return write_bytes(place, raw, name=name)


def write_old(place, *texts, name="qos-1"):
    """Write a file of format 1, with a compressed frame for each text."""
    packer, old = compressor(load_zstd(), 3), []
    for text in texts:
        line = text.replace(b'"recording":2', b'"recording":1')
        line = re.sub(rb',"up":-?\d+', b"", line)
        old.append(packer.compress(line, packer.FLUSH_FRAME))
    return write_bytes(place, b"".join(old), name=name)


def write_bytes(place, raw, *, name="qos-1"):
    Path(place).mkdir(exist_ok=True)
    file = Path(place) / f"{name}.jsonl.zst"
    file.write_bytes(raw)
    return file


def _compressed(text):
    packer = load_zstd().ZstdCompressor()
    return packer.compress(text, packer.FLUSH_FRAME)


def _ns(at):
    return START + round(at * SECOND)


def _up(at, up):
    """Return the time since the start: of the wall clock, where none is given."""
    return round((at if up is None else up) * SECOND)
