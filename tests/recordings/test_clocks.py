"""Recordings whose wall clock was set: the time in them does not go back."""

from __future__ import annotations

import re
import time

import pytest

from qos_async import Client, Gap, Interrupted, replay
from qos_async.markets import bars
from qos_async.recordings import Recorder, contents, convert, read
from tests.support.factories import prices
from tests.support.memory_transport import gaps_and_ticks, trade
from tests.support.recording_files import (
    SECOND,
    START,
    event,
    frame,
    recorded,
    started,
    trades,
    write,
    write_old,
)

AAPL = "US:AAPL"
SET = [-3600, 3600, -19, 0]


def day(step):
    """Return a recording with an outage of 20 s, in which the clock is set."""
    at = 100 + step
    outage = event(80, "lost", reason="cable") + event(at, "opened", up=100)
    more = frame(at + 1, _trade(2, 101), up=101), frame(at + 30, _trade(3, 130), up=130)
    before = [frame(second, _trade(1, second)) for second in (30, 60, 75)]
    return recorded(*before, outage, *more, end=at + 31, up=131)


def _trade(price, ts):
    return trade(price, ts=START // SECOND + ts)


@pytest.mark.fault("F4")
@pytest.mark.parametrize("save", [write, write_old])
@pytest.mark.parametrize("step", SET)
@pytest.mark.parametrize("speed", [None, 1000.0])
async def test_a_gap_ends_after_its_beginning_wherever_the_clock_is_set(
    tmp_path, step, speed, save
):
    save(tmp_path, day(step))
    found = contents(tmp_path)
    assert found.begins_at < found.ends_at
    elapsed = [entry.elapsed for entry in read(tmp_path)]
    assert elapsed == sorted(elapsed)
    async with replay(tmp_path, speed) as client:
        assert client.begins_at < client.ends_at
        async with client.watch_trades(AAPL) as sub:
            got = [one async for one in sub.events()]
    [gap] = [one for one in got if isinstance(one, Gap)]
    [interrupted] = [one for one in got if isinstance(one, Interrupted)]
    assert interrupted.since == gap.since <= gap.until
    assert gap.since.timestamp() == START / SECOND + 75
    if save is write:
        length = (gap.until - gap.since).total_seconds()
        assert length == pytest.approx(25)


@pytest.mark.fault("F4")
@pytest.mark.parametrize("step", SET)
async def test_a_bar_over_the_gap_is_incomplete_wherever_the_clock_is_set(
    tmp_path, step
):
    write(tmp_path, day(step))
    async with replay(tmp_path, None) as client, client.watch_trades(AAPL) as sub:
        found = [bar async for bar in bars(sub, "1m")]
    assert [bar.complete for bar in found] == [False] * len(found)
    assert len(found) == 3


@pytest.mark.fault("F4")
async def test_two_recorders_between_which_the_clock_was_set_back_are_read_in_order(
    tmp_path, monkeypatch
):
    now = [START + 5000 * SECOND]
    monkeypatch.setattr("time.time_ns", lambda: now[0])
    for price in (b"1", b"2"):
        recorder = Recorder(tmp_path)
        recorder.attach(str)
        recorder.opened()
        recorder.frames([b'{"p":%b}' % price], 7, plain=True)
        now[0] += SECOND
        await recorder.aclose()
        now[0] -= 3600 * SECOND
    frames = [entry.frame for entry in read(tmp_path) if entry.kind == "frame"]
    assert frames == [b'{"p":1}', b'{"p":2}']
    found = contents(tmp_path)
    assert found.ends_at >= found.begins_at
    assert convert(tmp_path, tmp_path / "out").rows == {}


def test_times_of_a_recorder_do_not_go_back_with_the_wall_clock(tmp_path, monkeypatch):
    wall = iter(range(START, 0, -1000 * SECOND))
    steady = iter(range(0, 10**12, SECOND))
    monkeypatch.setattr("time.time_ns", lambda: next(wall))
    monkeypatch.setattr("qos_async._io.clocks.steady_ns", lambda: next(steady))
    recorder = Recorder(tmp_path)
    for number in range(4):
        recorder.frames([b"%d" % number], 1, plain=True)
    recorder.close()
    _, *found = read(tmp_path)
    assert [one.elapsed for one in found] == [0, SECOND, 2 * SECOND, 3 * SECOND]
    assert [one.at for one in found] == [START - n * 1000 * SECOND for n in range(4)]


def test_a_second_recorder_goes_on_in_elapsed_time(tmp_path):
    write(tmp_path, started() + trades(5, 1), name="qos-1")
    write(tmp_path, started(100, up=0, run="b") + trades(103, 1, up=3), name="qos-2")
    write(tmp_path, started(50, up=0, run="c") + trades(52, 1, up=2), name="qos-3")
    elapsed = [entry.elapsed / SECOND for entry in read(tmp_path)]
    assert elapsed == [0, 5, 100, 103, 103, 105]


@pytest.mark.fault("F4")
@pytest.mark.parametrize("step", SET)
@pytest.mark.qos(virtual=True)
async def test_a_live_recording_and_its_replay_have_a_gap_wherever_the_clock_is_set(
    tmp_path, step, qos_simulator, qos_environment, monkeypatch
):
    def later(real):
        return lambda: real() + shift[0] * (SECOND if real is now_ns else 1)

    shift, now, now_ns = [0], time.time, time.time_ns
    monkeypatch.setattr(time, "time", later(now))
    monkeypatch.setattr(time, "time_ns", later(now_ns))
    async with Client(recorder=Recorder(tmp_path)) as client:
        trades_ = client.watch_trades("CF:BTCUSDT")
        events = gaps_and_ticks(trades_.events())
        await anext(events)
        qos_simulator.cut()
        shift[0] = step
        async for one in events:
            if isinstance(one, Gap):
                assert one.since <= one.until
                break
        await anext(events)
    async with replay(tmp_path, None) as client:
        sub = client.watch_trades("CF:BTCUSDT")
        got = [one async for one in gaps_and_ticks(sub.events())]
    [gap] = [one for one in got if isinstance(one, Gap)]
    assert gap.since <= gap.until
    assert re.match("the connection broke", gap.reason)
    assert prices([one for one in got if not isinstance(one, Gap)])
