"""Checks of ``qos doctor PLACE`` that need no server."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from qos_async.cli.doctor import streams
from qos_async.jetstream.lease import LeaseRecord
from qos_async.jetstream.places import parse_place
from qos_async.jetstream.streams import StreamInfo

PLACE = parse_place("nats://a,nats://b,nats://c/QOS", {})
GOOD: dict[str, Any] = {
    "subjects": ["QOS.>"],
    "max_bytes": 1000,
    "num_replicas": 3,
    "duplicate_window": 60_000_000_000,
    "allow_direct": True,
    "allow_batched": True,
}


def info(**config: Any) -> StreamInfo:
    nodes = [{"name": "n2", "current": True}, {"name": "n3", "current": False}]
    state = {
        "messages": 10,
        "bytes": 500,
        "first_ts": "2025-01-01T00:00:00Z",
        "last_ts": "2025-01-02T00:00:00Z",
    }
    found = {
        "config": {**GOOD, **config},
        "state": state,
        "cluster": {"leader": "n1", "replicas": nodes},
    }
    return msgspec.convert(found, StreamInfo)


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("2.10.22", "can lose whole streams when nodes are killed"),
        ("2.10.25", "cannot fence recorders by subject"),
        ("2.12.1", "can lose stored messages when nodes are added or removed"),
        ("2.12.2-RC.1", "can lose stored messages"),
    ],
)
def test_known_bad_servers_are_named(version, words):
    problem, hint = streams._version_problem(version)
    assert problem == ": a known bad server"
    assert words in hint
    assert "upgrade to 2.14 or later" in hint


@pytest.mark.parametrize(
    ("version", "hint"),
    [("2.15.1", ""), ("2.14.0", ""), ("2.12.3", "recorders are slower before 2.14")],
)
def test_other_servers_are_good(version, hint):
    assert streams._version_problem(version) == ("", hint)


def test_nodes_that_are_behind_are_named():
    found = {one.check: one for one in streams._stream(PLACE, info(), {})}
    assert found["stream"].status == "ok"
    assert (found["nodes"].status, found["nodes"].detail) == ("failed", "n1 leads")
    assert found["nodes"].hint == "these are behind or gone: n3"
    assert found["retention"].detail.startswith(
        "500 bytes a day lately; it keeps 2.0 days"
    )


def test_settings_that_a_recorder_would_not_choose_are_named():
    found = next(iter(streams._stream(PLACE, info(num_replicas=1, max_bytes=-1), {})))
    assert found.status == "failed"
    assert "it grows until the disk is full" in found.hint
    assert "stored on 1 node(s), and 3 were asked for" in found.hint


def test_a_disk_without_room_for_the_stream_is_reported(tmp_path, monkeypatch):
    page = {
        "config": {"max_storage": 100, "store_dir": str(tmp_path)},
        "stats": {"reserved_storage": 50},
    }
    [check] = streams._disk("u", page, info(max_bytes=1 << 60))
    assert check.status == "failed"
    assert "more than that: make room, or lower its max_bytes" in check.hint
    page = {"config": {"max_storage": 100}, "stats": {"reserved_storage": 200}}
    [check] = streams._disk("u", page, info())
    assert "its streams may grow to 200 bytes: lower max_bytes" in check.hint


@pytest.mark.parametrize(
    ("config", "status", "words"),
    [
        ({"sync_always": True}, "ok", "after each write"),
        ({"sync_interval": 1_000_000_000}, "ok", "1 s, which a power loss"),
        ({"sync_interval": 120_000_000_000}, "failed", "120 s, which a power loss"),
    ],
)
def test_the_flush_interval_is_judged(config, status, words):
    [check] = streams._flush_interval({"u": {"jetstream": {"config": config}}})
    assert check.status == status
    assert words in check.detail


def test_leases_are_judged_by_their_renewals():
    held, renewed = (LeaseRecord(token="t", seconds=10, host="h", at=n) for n in (1, 2))
    assert streams._lease("us", held, renewed).status == "ok"
    late = streams._lease("us", held, held)
    assert (late.status, "not renewed while this ran" in late.detail) == (
        "failed",
        True,
    )
    never = streams._lease("us", None, None)
    assert (never.status, never.detail) == (
        "ok",
        "us: no recorder of this name has taken one yet",
    )
    assert streams._lease("us", LeaseRecord(token="", seconds=10), None).hint
