"""Time in a replay: what waits for time waits for the recorded time, at any speed."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, date, datetime

import pytest

from qos_async import Client, Market, Stale, TradingDay, replay
from qos_async.markets import bars
from qos_async.recordings import format as recording_format
from qos_async.sim import Simulator
from qos_async.testing.virtual import simulate
from tests.support.memory_transport import trade
from tests.support.recording_files import write

SPEEDS = [None, 1.0, 10, 50, 5000]
BITCOIN, TENCENT = "CF:BTCUSDT", "HK:700"
NOON = 1_741_953_600  # 2025-03-14 12:00 UTC, a Friday.
HONG_KONG = 1_741_917_600  # 10:00 in Hong Kong on that day.


@pytest.fixture(autouse=True)
def inline(monkeypatch):
    """In virtual time there are no threads."""

    async def run(call, *args):
        return call(*args)

    monkeypatch.setattr(asyncio, "to_thread", run)


def tape(place, symbol, start, seconds, *, stamps=None, end=600, beats=15):
    """Write a recording of trades at these seconds, with a heartbeat's reply now and then."""
    topics = [f"trade {symbol}"]
    lines: list[tuple[float, bytes]] = [
        (
            0,
            recording_format.encode_header(
                _ns(start, 0), "a", 0, link=True, topics=topics
            ),
        )
    ]
    stamp = stamps or (lambda second: int(start + second))
    for number, second in enumerate(seconds):
        body = json.dumps(trade(number, symbol, ts=stamp(second))).encode()
        lines.append((second, _frames(start, second, body)))
    for second in range(beats, end, beats):
        beat = b'{"type":"H","msg":"OK"}'
        lines.append((second + 0.5, _frames(start, second + 0.5, beat)))
    closed = recording_format.encode_event(_ns(start, end), "closed", up=_ns(0, end))
    lines.append((end, closed))
    lines.sort(key=lambda line: line[0])
    write(place, b"".join(line for _, line in lines))


def _frames(start, second, body):
    at, up = _ns(start, second), _ns(0, second)
    return recording_format.encode_frames(at, [body], bytes, up=up)


def _ns(start, second):
    return round((start + second) * 1e9)


def replayed(place, speed, symbol, read):
    """Return what ``read`` makes of the subscription."""

    async def main():
        client = replay(place, speed)
        async with client, client.watch_trades(symbol) as trades:
            return await read(trades)

    return simulate(main)


async def minutes(trades):
    found = [bar async for bar in bars(trades, "1m", close_after=2)]
    return [(bar.timestamp - NOON, bar.count, bar.final) for bar in found]


# Bars


@pytest.mark.fault("F2")
@pytest.mark.parametrize("speed", SPEEDS)
def test_close_after_waits_for_the_recorded_time(tmp_path, speed):
    tape(tmp_path, BITCOIN, NOON, [n + 0.1 for n in range(0, 70, 2)], end=300)
    assert replayed(tmp_path, speed, BITCOIN, minutes) == [(0, 30, True), (60, 5, True)]


@pytest.mark.parametrize("speed", SPEEDS)
def test_a_bar_that_is_not_over_at_the_end_of_the_recording_is_not_final(
    tmp_path, speed
):
    tape(tmp_path, BITCOIN, NOON, [1, 61, 70], end=100)
    assert replayed(tmp_path, speed, BITCOIN, minutes) == [(0, 1, True), (60, 2, False)]


@pytest.mark.fault("F2")
@pytest.mark.parametrize("speed", SPEEDS)
def test_a_trade_after_its_bar_was_closed_yields_it_again_at_every_speed(
    tmp_path, speed
):
    def stamp(second):
        return NOON + (59 if second == 64 else int(second))

    tape(tmp_path, BITCOIN, NOON, [50, 64, 130], stamps=stamp, end=300)
    expected = [(0, 1, True), (0, 2, True), (120, 1, True)]
    assert replayed(tmp_path, speed, BITCOIN, minutes) == expected


@pytest.mark.fault("F2")
@pytest.mark.parametrize("speed", [None, 50])
def test_a_slow_reader_of_a_replay_gets_the_same_bars(tmp_path, speed):
    tape(tmp_path, BITCOIN, NOON, [n + 0.1 for n in range(0, 190, 2)], end=300)

    async def slowly(trades):
        found = []
        async for bar in bars(trades, "1m", close_after=2):
            found.append((bar.timestamp - NOON, bar.count, bar.final))
            await asyncio.sleep(3)
        return found

    expected = [(0, 30, True), (60, 30, True), (120, 30, True), (180, 5, True)]
    assert replayed(tmp_path, speed, BITCOIN, slowly) == expected


@pytest.mark.parametrize("speed", [1.0, 10])
def test_a_bar_is_closed_when_its_time_has_come_and_not_with_the_next_entry(
    tmp_path, speed
):
    tape(tmp_path, BITCOIN, NOON, [1], end=300, beats=30)

    async def main():
        loop = asyncio.get_running_loop()
        client = replay(tmp_path, speed)
        async with client, client.watch_trades(BITCOIN) as trades:
            began = loop.time()
            await anext(bars(trades, "1m", close_after=2))
            return (loop.time() - began) * speed

    assert 60 < simulate(main) < 64


@pytest.mark.fault("F2")
@pytest.mark.parametrize(("speed", "start"), [(50, None), (50, NOON), (1, NOON)])
def test_close_after_in_a_market_of_another_speed_or_time_waits_for_its_time(
    speed, start
):
    async def main():
        async with (
            Simulator(speed=speed, start=start, rate=1.0) as simulator,
            Client(
                simulator.key,
                http_url=simulator.http_url,
                stream_url=simulator.stream_url,
            ) as client,
            client.watch_trades(BITCOIN) as trades,
        ):
            found = bars(trades, "1m", close_after=2)
            return [(await anext(found)).timestamp for _ in range(5)]

    stamps = simulate(main)
    assert stamps == [stamps[0] + 60 * n for n in range(5)]


# Batches


@pytest.mark.fault("F2", "F62")
@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("max_items", [1000, 3])
def test_batches_are_of_recorded_seconds(tmp_path, speed, max_items):
    """At 50 times the speed, a second has the ticks of a second, not of 50."""
    seconds = [0.5, 1, 1.2, 1.9, 2.5, 2.6, 2.7, 2.8, 9.0, 9.9, 10.05]
    tape(tmp_path, BITCOIN, NOON, seconds, end=30)

    async def read(trades):
        assert (await anext(trades)).price == 0
        batches = trades.batches(max_items=max_items, max_wait=1.0)
        return [[int(trade.price) for trade in batch] async for batch in batches]

    found = replayed(tmp_path, speed, BITCOIN, read)
    if speed is None:  # Then they are full.
        assert found == [
            list(range(1, 11))[n : n + max_items] for n in range(0, 10, max_items)
        ]
    elif max_items == 3:
        assert found == [[1, 2, 3], [4, 5, 6], [7], [8, 9], [10]]
    else:
        assert found == [[1, 2, 3], [4, 5, 6, 7], [8, 9], [10]]


# What is fetched up to now


@pytest.mark.fault("F2", "F62")
@pytest.mark.parametrize("start", [NOON, 2 * NOON])
def test_history_up_to_now_ends_with_the_time_of_the_market(start):
    async def main():
        async with (
            Simulator(speed=50, start=start, rate=1.0) as simulator,
            Client(
                simulator.key,
                http_url=simulator.http_url,
                stream_url=simulator.stream_url,
            ) as client,
        ):
            await client.connect()
            await asyncio.sleep(5)
            newest = await client.fetch_klines(BITCOIN, interval="1m", count=5)
            history = await client.fetch_history(BITCOIN, interval="1m", count=5)
            begin = history[BITCOIN][0].timestamp
            pages = client.iter_history(BITCOIN, interval="1m", start=begin)
            [page] = [page async for page in pages]
            last = newest[BITCOIN][-1].timestamp
            assert abs(history[BITCOIN][-1].timestamp - last) <= 300
            assert abs(page[-1].timestamp - last) <= 300

    simulate(main)


# Stale


async def silences(trades, **options):
    events = trades.events(stale=True, **options)
    return [event async for event in events if isinstance(event, Stale)]


def quiet_tape(place, symbol, start):
    """Write 40 seconds of ticks, 90 quiet ones, and a tick."""
    tape(place, symbol, start, [*range(1, 41), 131], end=140)


@pytest.mark.fault("F3")
@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize(("symbol", "start"), [(BITCOIN, NOON), (TENCENT, HONG_KONG)])
def test_a_quiet_topic_is_stale_by_the_hours_and_seconds_of_the_recording(
    tmp_path, speed, symbol, start, monkeypatch
):
    quiet_tape(tmp_path, symbol, start)
    # On a Saturday, when Hong Kong is closed.
    monkeypatch.setattr("qos_async.testing.virtual.simulation.WALL", start + 86_400.0)
    [stale] = replayed(tmp_path, speed, symbol, silences)
    assert stale.since == datetime.fromtimestamp(start + 40, UTC)
    assert 60 < stale.quiet < 80
    assert 0.5 < stale.usual < 2


@pytest.mark.fault("F3")
@pytest.mark.parametrize("speed", [None, 1.0, 50])
@pytest.mark.parametrize(
    "start",
    [
        HONG_KONG + 2 * 3600 - 60,  # 11:59: lunch.
        HONG_KONG + 6 * 3600 - 60,  # 15:59: the end of the day.
        HONG_KONG + 86_400,  # Saturday.
    ],
)
def test_a_recording_of_a_closed_market_is_not_suspicious(tmp_path, speed, start):
    quiet_tape(tmp_path, TENCENT, start)
    assert replayed(tmp_path, speed, TENCENT, silences) == []


@pytest.mark.parametrize("speed", [None, 50])
def test_a_recorded_holiday_is_not_suspicious(tmp_path, speed):
    quiet_tape(tmp_path, TENCENT, HONG_KONG)
    days = [TradingDay(date=date(2025, 3, day)) for day in (13, 17)]

    async def read(trades):
        return await silences(trades, calendar={Market.HK: days})

    assert replayed(tmp_path, speed, TENCENT, read) == []


@pytest.mark.fault("F3")
@pytest.mark.parametrize("speed", [None, 50])
@pytest.mark.parametrize(
    ("opening", "count"),
    [
        (datetime(2025, 3, 7, 14, 30, tzinfo=UTC), 1),  # 9:30 in winter.
        (datetime(2025, 3, 10, 13, 30, tzinfo=UTC), 1),  # 9:30 in summer.
        (
            datetime(2025, 3, 7, 13, 30, tzinfo=UTC),
            0,
        ),  # 8:30: pre-market, which is thin.
    ],
)
def test_a_recording_of_new_york_has_the_hours_of_its_day(
    tmp_path, speed, opening, count
):
    quiet_tape(tmp_path, "US:AAPL", opening.timestamp())
    assert len(replayed(tmp_path, speed, "US:AAPL", silences)) == count


@pytest.mark.fault("F3")
def test_stale_follows_the_ticks_that_were_recorded_before_it(tmp_path):
    quiet_tape(tmp_path, BITCOIN, NOON)

    async def read(trades):
        return [type(event).__name__ async for event in trades.events(stale=True)]

    for speed in SPEEDS:
        assert replayed(tmp_path, speed, BITCOIN, read) == [
            *["Trade"] * 40,
            "Stale",
            "Trade",
        ]


def test_days_without_an_entry_take_no_time(tmp_path):
    tape(tmp_path, BITCOIN, NOON, [1, 2, 30 * 86_400], end=30 * 86_400 + 1, beats=10**9)
    assert replayed(tmp_path, None, BITCOIN, silences) == []
