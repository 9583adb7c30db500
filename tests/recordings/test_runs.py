"""A recorder that ends in an outage, and the next one: the time between has its gap."""

from __future__ import annotations

import pytest

from qos_async import Gap, Interrupted, follow, replay
from tests.recordings.test_replay import AAPL, after
from tests.support.memory_transport import trade
from tests.support.recording_files import (
    TOPIC,
    event,
    fetched,
    frame,
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


TESLA = "US:TSLA"
BOTH = [TOPIC, f"trade {TESLA}"]


def write_killed(folder, *, rotated):
    """Write outages of two topics, of which a killed recorder has ended one."""
    first = recorded(
        *(frame(1, trade(1)), frame(1, trade(11, TESLA))),
        *(event(2, "lost", reason="the cable"), event(3, "opened")),
        event(3, "subscribed", topics=BOTH),
        *(frame(4, trade(12, TESLA)), frame(5, trade(2)), frame(5, trade(13, TESLA))),
        topics=BOTH,
        gaps=True,
        run="a",
    )
    last = (
        *(fetched(6, since=2, until=5), frame(7, trade(3))),
        *(frame(8, trade(14, TESLA)), frame(9, trade(4))),
    )
    first = first[: first.rindex(b"\n", 0, -1) + 1]  # It was killed: nothing closed it.
    if rotated:
        write(folder, first, name="qos-1")
        open_link = {"link": True, "topics": BOTH, "awaited": BOTH}
        following = started(6, run="a", number=1, gaps=True, **open_link)
        write(folder, b"".join([following, *last]), name="qos-2")
    else:
        write(folder, b"".join([first, *last]), name="qos-1")
    second = (
        *(started(20, run="b", gaps=True), event(20, "opened")),
        *(event(20, "subscribed", topics=BOTH), frame(21, trade(5))),
        *(frame(22, trade(15, TESLA)), frame(23, trade(6))),
    )
    write(folder, b"".join(second), name="qos-3")


async def ticks_of(client, last):
    found = []
    async with client:
        async for one in client.watch_trades(AAPL, TESLA):
            found.append((int(one.price), one.place))
            if one.price == last:
                break
    return found


@pytest.mark.fault("N152")
@pytest.mark.parametrize("rotated", [False, True])
async def test_ticks_of_an_outage_without_a_recorded_end_follow_what_was_delivered(
    tmp_path, rotated
):
    write_killed(tmp_path, rotated=rotated)
    whole = await ticks_of(replay(tmp_path, None), 6)
    assert [price for price, _ in whole] == [1, 11, 2, 3, 4, 12, 13, 14, 5, 15, 6]
    assert [place for _, place in whole] == sorted({place for _, place in whole})
    for number, (_, place) in enumerate(whole[:-1], 1):
        assert await ticks_of(replay(tmp_path, None, start=place), 6) == whole[number:]
        assert await ticks_of(follow(tmp_path, place), 6) == whole[number:]


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
