"""A recorder that ends in an outage, and the next one: the time between has its gap."""

from __future__ import annotations

import pytest

from qos_async import Gap, Interrupted, follow, replay
from tests.recordings.test_replay import AAPL, after
from tests.support.recording_files import (
    TOPIC,
    event,
    fetched,
    recorded,
    started,
    trades,
    write,
)

LIVE_AGAIN = event(3, "opened"), event(3, "subscribed", topics=[TOPIC])


def write_two_runs(folder, *parts):
    """Write a run with these entries, which ends at 6 s, and one that begins at 8 s."""
    write(folder, recorded(trades(1, 1), *parts, end=6, gaps=True), name="qos-1")
    second = (
        started(8, run="b", gaps=True),
        event(9, "opened"),
        event(9, "subscribed", topics=[TOPIC]),
        trades(10, 10),
        trades(11, 11),
    )
    write(folder, b"".join(second), name="qos-2")


async def followed(folder):
    found = []
    async with follow(folder, "first") as client:
        async for one in client.watch_trades(AAPL).events():
            found.append(one)
            if getattr(one, "price", None) == 11:
                return found
    return found


async def replayed(folder):
    async with replay(folder, None) as client:
        return [one async for one in client.watch_trades(AAPL).events()]


@pytest.mark.fault("N138")
@pytest.mark.parametrize("events_of", [followed, replayed])
@pytest.mark.parametrize(
    ("parts", "spans"),
    [
        ([event(2, "lost", reason="cut")], [(2, 9)]),
        (
            [
                event(2, "lost", reason="cut"),
                fetched(6, since=2, until=6, status="unfilled"),
            ],
            [(2, 6), (6, 9)],
        ),
        (
            [
                event(2, "lost", reason="cut"),
                *LIVE_AGAIN,
                trades(4, 4),
                event(5, "lost", reason="cut again"),
            ],
            [(2, 3), (5, 9)],
        ),
        (
            [
                event(2, "lost", reason="cut"),
                *LIVE_AGAIN,
                event(5, "lost", reason="cut again"),
                fetched(6, since=2, until=3, status="unfilled"),
            ],
            [(2, 3), (5, 9)],
        ),
        ([], [(6, 9)]),
    ],
    ids=[
        "the link is lost",
        "the outage was given up at the end",
        "the link was lost again",
        "the first of two outages was given up at the end",
        "the link is open",
    ],
)
async def test_the_time_between_two_runs_is_in_a_gap(tmp_path, events_of, parts, spans):
    write_two_runs(tmp_path, *parts)
    found = await events_of(tmp_path)
    gaps = [one for one in found if isinstance(one, Gap)]
    for gap, (since, until) in zip(gaps, spans, strict=True):
        assert gap.since <= after(since)
        assert after(until) <= gap.until
        assert gap.reason
        assert gap.status == "unfilled"
    assert len([one for one in found if isinstance(one, Interrupted)]) == len(gaps)
    first, *_, gap, trade, last = [
        one for one in found if not isinstance(one, Interrupted)
    ]
    assert [int(one.price) for one in (first, trade, last)] == [1, 10, 11]
    assert gap is gaps[-1]
