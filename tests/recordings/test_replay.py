"""Replay: the same methods and types as of a client, without losing a tick."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from qos_async import (
    Client,
    ClosedError,
    DropOldest,
    Gap,
    Interrupted,
    Latest,
    RecordingError,
    RejectedError,
    RequestError,
    Snapshot,
    Strict,
    Topic,
    replay,
)
from qos_async.recordings import Recorder
from tests.support.factories import prices
from tests.support.memory_transport import (
    Network,
    gaps_and_ticks,
    kline,
    opened,
    snapshot,
    trade,
)
from tests.support.recording_files import (
    SECOND,
    START,
    event,
    fetched,
    frame,
    recorded,
    started,
    trades,
    write,
)

AAPL = "US:AAPL"
BEGAN = datetime.fromtimestamp(START / SECOND, UTC)


def after(seconds):
    return BEGAN + timedelta(seconds=seconds)


async def events_of(place, speed=None, **options):
    client = replay(place, speed, **options)
    async with client, client.watch_trades(AAPL) as sub:
        return [one async for one in gaps_and_ticks(sub.events())]


@pytest.mark.parametrize("speed", [None, 1.0, 1000])
@pytest.mark.virtual_time
async def test_ticks_are_replayed_as_received_and_the_loop_ends(
    tmp_path, inline, speed
):
    write(tmp_path, recorded(trades(1, 1, 2), trades(2.5, 3)))
    began = asyncio.get_running_loop().time()
    got = await events_of(tmp_path, speed)
    took = asyncio.get_running_loop().time() - began
    assert prices(got) == [1, 2, 3]
    assert [one.received_at - START for one in got] == [10**9, 10**9, 2_500_000_000]
    if speed == 1.0:  # From the first frame to the end of the recording.
        assert took == pytest.approx(999, abs=1)
    elif speed == 1000:
        assert took == pytest.approx(0.999, abs=0.1)


@pytest.fixture
def inline(monkeypatch):
    """In virtual time there are no threads."""

    async def run(call, *args):
        return call(*args)

    monkeypatch.setattr(asyncio, "to_thread", run)


@pytest.mark.parametrize("buffer", [Latest(), DropOldest(1), Strict(1), None])
async def test_without_a_speed_the_replay_waits_for_the_slowest_consumer(
    tmp_path, buffer
):
    count = 500
    parts = [trades(n / 100, n) for n in range(count // 2)]
    write(tmp_path, recorded(*parts, trades(50, *range(count // 2, count))))
    seen = []

    async def read(sub, pause):
        got = []
        async for tick in sub:
            got.append(int(tick.price))
            if pause:
                await asyncio.sleep(0)
                await asyncio.sleep(0)
        seen.append(got)

    async with (
        replay(tmp_path, None) as client,
        client.watch_trades(AAPL, buffer=buffer) as slow,
        client.watch_trades(AAPL) as quick,
    ):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(read(slow, pause=True))
            tasks.create_task(read(quick, pause=False))
        assert slow.stats.dropped == 0
    assert seen == [list(range(count))] * 2


async def test_batches_are_full_without_a_speed(tmp_path):
    write(tmp_path, recorded(*[trades(n, n) for n in range(300)]))
    async with replay(tmp_path, None) as client, client.watch_trades(AAPL) as sub:
        sizes = [len(batch) async for batch in sub.batches(max_items=100, max_wait=9)]
    assert sum(sizes) == 300
    assert sizes[0] == 100


@pytest.mark.parametrize("speed", [None, 1000.0])
async def test_an_outage_is_a_gap_with_the_recorded_times_and_reason(tmp_path, speed):
    outage = event(12, "lost", reason="the cable") + event(19, "opened")
    write(tmp_path, recorded(trades(10, 1), outage, trades(19, 2), end=20))
    first, gap, second = await events_of(tmp_path, speed)
    assert prices([first, second]) == [1, 2]
    assert (gap.topic, gap.reason) == (Topic("trade", AAPL), "the cable")
    assert (gap.since, gap.until) == (after(10), after(19))
    assert gap.status == "unfilled"


def live_again(at):
    """Return the entries of a link that is opened and has its topic."""
    return event(at, "opened") + event(at, "subscribed", topics=[f"trade {AAPL}"])


def _frames_dropped():
    return recorded(trades(1, 1), event(2, "dropped", count=7), trades(3, 2))


def _slept():
    return recorded(trades(1, 1), trades(100, 2))


def _killed():
    return (
        started()
        + event(0, "opened")
        + trades(1, 1)
        + started(9, run="b")
        + trades(9, 2)
    )


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        ([_frames_dropped()], "7 frames were not recorded: the disk was too slow"),
        ([_slept()], "nothing was recorded for 99 s"),
        ([_killed()], "the recording was interrupted"),
        (
            [
                recorded(trades(1, 1)),
                started(2000, run="b") + event(2000, "opened") + trades(2001, 2),
            ],
            "the recording was closed",
        ),
        (
            [
                started() + event(0, "opened") + trades(1, 1) + b'{"at',
                started(2, number=2, link=True) + trades(3, 2),
            ],
            "the recording is damaged: qos-0.jsonl.zst: ends in the middle of a line",
        ),
    ],
    ids=["dropped", "slept", "killed", "closed", "damaged"],
)
async def test_everything_missing_from_a_recording_is_a_gap(tmp_path, texts, reason):
    mark = event(0.5, "subscribed", topics=[f"trade {AAPL}"])
    for number, text in enumerate(texts):
        head, end, rest = text.partition(b"\n")
        write(tmp_path, head + end + mark + rest, name=f"qos-{number}")
    got = await events_of(tmp_path)
    assert prices(got) == [1, 2]
    assert [one.reason for one in got if isinstance(one, Gap)] == [reason]


@pytest.mark.fault("N95")
@pytest.mark.parametrize("dropped", [0, 2])
async def test_an_outage_in_which_frames_were_dropped_is_not_filled(tmp_path, dropped):
    """The numbers of frames in the end of the outage are those before that."""
    write(
        tmp_path,
        recorded(
            trades(1, 1),
            event(2, "lost", reason="the cable"),
            live_again(3),
            *([event(4, "dropped", count=dropped)] if dropped else []),
            trades(4, 4),
            trades(5, 5),
            fetched(6, trade(2), trade(3), 0),
            trades(7, 6),
            gaps=True,
        ),
    )
    got = await events_of(tmp_path)
    gaps = {one.status for one in got if isinstance(one, Gap)}
    assert gaps == ({"unfilled"} if dropped else {"filled"})
    assert prices(got) == ([1, 4, 5, 6] if dropped else [1, 2, 3, 4, 5, 6])


@pytest.mark.fault("N97")
@pytest.mark.parametrize("speed", [None, 1000.0])
@pytest.mark.parametrize("again", [False, True])
async def test_frames_dropped_within_an_outage_have_their_own_gap(
    tmp_path, again, speed
):
    """Between the ticks that were held back before and after them."""
    further = (
        event(6, "lost", reason="cut again"),
        live_again(7),
    )
    write(
        tmp_path,
        recorded(
            trades(1, 1),
            event(2, "lost", reason="the cable"),
            live_again(3),
            trades(4, 4),
            event(5, "dropped", count=1),
            trades(6, 6),
            *(further if again else ()),
            trades(8, 8),
            fetched(9, trade(2), trade(3), 0, 1),
            trades(10, 10),
            event(11, "lost", reason="the end"),
            live_again(12),
            fetched(13, trade(11)),
            trades(14, 12),
            gaps=True,
        ),
    )
    got = await events_of(tmp_path, speed)
    dropped = "1 frames were not recorded: the disk was too slow"
    assert [
        one.reason if isinstance(one, Gap) else int(one.price)
        for one in got
        if not isinstance(one, Interrupted)
    ] == [
        *(1, "the cable", 4, dropped, 6),
        *(("cut again",) if again else ()),
        *(8, 10, "the cable", 11, 12),
    ]
    assert [one.status for one in got if isinstance(one, Gap)][-1] == "filled"


@pytest.mark.fault("N97")
async def test_frames_dropped_while_the_link_is_lost_do_not_end_the_outage(tmp_path):
    write(
        tmp_path,
        recorded(
            trades(1, 1),
            event(2, "lost", reason="the cable"),
            event(3, "dropped", count=1),
            live_again(8),
            trades(8, 8),
            fetched(9, trade(2), trade(3), 0, until=8),
            trades(10, 10),
            gaps=True,
        ),
    )
    first, gap, *others = [
        one for one in await events_of(tmp_path) if not isinstance(one, Interrupted)
    ]
    assert prices([first, *others]) == [1, 8, 10]
    assert (gap.status, gap.since) == ("unfilled", after(1))
    assert gap.until >= after(8)


@pytest.mark.fault("N96")
async def test_places_ascend_where_frames_came_after_the_end_of_an_outage(tmp_path):
    write(
        tmp_path,
        recorded(
            trades(1, 1),
            event(2, "lost", reason="the cable"),
            live_again(3),
            trades(5, 3),
            trades(6, 4, 5),
            fetched(6, trade(2), left=1),
            trades(7, 6),
            gaps=True,
        ),
    )
    ticks = [one for one in await events_of(tmp_path) if not isinstance(one, Gap)]
    assert prices(ticks) == [1, 2, 3, 4, 5, 6]
    places = [tick.place for tick in ticks]
    assert places == sorted({*places})


async def test_the_next_file_of_a_run_is_not_a_gap(tmp_path):
    write(tmp_path, recorded(trades(1, 1)).rpartition(b'{"at"')[0], name="qos-0")
    more = started(2, number=1, link=True, topics=[f"trade {AAPL}"]) + trades(2, 2)
    write(tmp_path, more, name="qos-1")
    got = await events_of(tmp_path)
    assert prices(got) == [1, 2]
    assert len(got) == 2


async def test_only_subscribed_topics_are_replayed_and_recorded_replies_are_not(
    tmp_path,
):
    ack = {"type": "T", "msg": "OK", "reqid": 1}
    parts = frame(1, ack, trade(1), trade(2, "US:TSLA"), snapshot(3), trade(4))
    write(tmp_path, recorded(parts))
    async with replay(tmp_path, None) as client:
        async for tick in client.watch_trades(AAPL):
            assert tick.price in (1, 4)
        assert client.stats.ticks_by_channel["trade"] == 2
        assert client.stats.unrouted == client.stats.unmatched == 0


async def test_numbers_are_of_the_requested_type(tmp_path):
    write(tmp_path, recorded(trades(1, 1)))
    [tick] = await events_of(tmp_path, numbers=float)
    assert isinstance(tick.price, float)


async def test_a_topic_that_was_not_recorded_is_rejected_by_name(tmp_path):
    write(tmp_path, recorded(trades(1, 1)))
    async with replay(tmp_path, None) as client:
        assert client.topics == (Topic("trade", AAPL),)
        assert (client.begins_at, client.ends_at) == (BEGAN, after(1000))
        with pytest.raises(RejectedError, match="not in the recording") as refused:
            async with client.watch_trades("US:TSLA"):
                pass
        assert refused.value.symbols == ("US:TSLA",)


async def test_requests_are_answered_with_the_values_so_far(tmp_path):
    bars = frame(1.01, kline(60, 7), kline(120, 8), kline(120, 9))
    book = {"tp": "D", "c": AAPL, "b": [{"p": "1", "v": "2"}], "a": [], "ts": 5}
    topics = [f"{name} {AAPL}" for name in ("trade", "snapshot", "depth", "kline")]
    topics[-1] += " 1m"
    write(
        tmp_path,
        recorded(
            trades(1, *range(60)),
            bars,
            frame(1.02, snapshot("83504.10"), book),
            trades(1.03, 99),
            trades(30, 100),
            topics=topics,
        ),
    )
    async with replay(tmp_path) as client:
        async for tick in client.watch_trades(AAPL):
            if tick.price == 99:
                break
        snapshots = await client.fetch_snapshots(AAPL, "US:TSLA")
        assert str(snapshots[AAPL].last_price) == "83504.10"
        assert snapshots.missing == ("US:TSLA",)
        assert (await client.fetch_depth(AAPL, via="stream"))[AAPL].bids[0].size == 2
        last = await client.fetch_trades(AAPL, count=3)
        assert prices(last[AAPL]) == [58, 59, 99]
        closes = await client.fetch_klines(AAPL, interval="1m", count=5)
        assert [int(bar.close) for bar in closes[AAPL]] == [7, 9]
        older = await client.fetch_history(AAPL, interval="1m", end=119)
        assert [int(bar.close) for bar in older[AAPL]] == [7]
        assert (await client.fetch_instruments(AAPL)).missing == (AAPL,)
        with pytest.raises(RequestError, match="is not available in a recording"):
            await client.fetch_calendar("US")


async def test_subscribing_after_the_end_ends_at_once(tmp_path):
    write(tmp_path, recorded(trades(1, 1)))
    async with replay(tmp_path, None) as client:
        async for _ in client.watch_trades(AAPL):
            pass
        with pytest.raises(ClosedError):
            client.watch_trades(AAPL)
        assert "Replay of" in repr(client)


@pytest.mark.parametrize(
    "speed", [0, -1, float("inf"), float("nan"), 10**400, True, "fast"]
)
def test_an_invalid_speed_raises(speed):
    with pytest.raises(ValueError, match="speed must be a number above 0 or None"):
        replay("somewhere", speed)


def test_invalid_numbers_raise():
    with pytest.raises(ValueError, match="numbers must be one of Decimal, float, str"):
        replay("somewhere", numbers=int)


async def test_a_missing_recording_raises(tmp_path):
    client = replay(tmp_path / "nowhere")
    with pytest.raises(RuntimeError, match="enter it first"):
        _ = client.topics
    with pytest.raises(RecordingError, match="does not exist"):
        async with client:
            pass


async def test_a_bot_receives_from_a_recording_what_it_received_live(tmp_path):
    net = Network()

    async def bot(client: Client, until: int):
        async with client.watch(Topic("trade", AAPL), Topic("snapshot", AAPL)) as sub:
            got = []
            async for one in gaps_and_ticks(sub.events()):
                got.append(one)
                if len(got) == until:
                    return got
            return got

    async def market():
        peer = await net.link(0)
        await net.until(lambda: len(peer.topics) == 2)
        peer.push(trade(1), snapshot(2), trade(3))
        await asyncio.sleep(0.01)
        peer.end(1001, "maintenance")
        peer = await net.link(1)
        await net.until(lambda: len(peer.topics) == 2)
        peer.push(trade(4), snapshot(5))

    recorder = Recorder(tmp_path)
    async with opened(net, recorder=recorder, recover=False, jitter=0.0) as client:
        serving = asyncio.create_task(market())
        live = await bot(client, until=7)
        await serving
    async with replay(tmp_path, None) as client:
        again = await bot(client, until=99)

    def essence(events):
        return [
            (one.topic, one.reason)
            if isinstance(one, Gap)
            else (one.last_price if isinstance(one, Snapshot) else one.price)
            for one in events
        ]

    assert essence(again) == essence(live)
    assert any(isinstance(one, Gap) for one in live)
    stamps = [
        (a.received_at, b.received_at)
        for a, b in zip(live, again, strict=True)
        if not isinstance(a, Gap)
    ]
    assert all(abs(a - b) < 50_000_000 for a, b in stamps)


async def test_a_replay_that_was_not_entered_raises_and_can_be_closed(tmp_path):
    client = replay(tmp_path)
    for ask in (lambda: client.state, lambda: client.stats, client.report):
        with pytest.raises(RuntimeError, match="enter it first"):
            ask()
    with pytest.raises(RuntimeError, match="enter it first"):
        client.watch_trades(AAPL)
    assert not hasattr(client, "watch_trade")
    await client.aclose()


async def test_without_a_speed_large_batches_lose_nothing(tmp_path):
    count, each = 80_000, 400
    parts = [trades(n / 1e4, *range(n, n + each)) for n in range(0, count, each)]
    write(tmp_path, recorded(*parts))
    async with replay(tmp_path, None) as client, client.watch_trades(AAPL) as sub:
        batches = sub.batches(max_items=count, max_wait=5.0)
        got = [int(tick.price) async for batch in batches for tick in batch]
    assert got == list(range(count))


class CoarseLoop(asyncio.SelectorEventLoop):
    """A loop whose clock moves in steps, as on Windows or of uvloop."""

    step = 0.0156

    def time(self) -> float:
        return super().time() // self.step * self.step


@pytest.mark.fault("F36")
@pytest.mark.parametrize("step", [0.001, 0.0156])
def test_gaps_have_the_recorded_times_on_a_coarse_clock(tmp_path, step):
    def outage(at):
        return event(at + 2, "lost", reason="the cable") + event(at + 9, "opened")

    parts = [
        part
        for at in (10, 30, 50)
        for part in (trades(at, 1), trades(at + 1, 1), outage(at))
    ]
    write(tmp_path, recorded(*parts, trades(60, 2), end=61))
    loop = CoarseLoop()
    loop.step = step
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        got = runner.run(events_of(tmp_path))
    gaps = [one for one in got if isinstance(one, Gap)]
    assert [(gap.since, gap.until) for gap in gaps] == [
        (after(at + 1), after(at + 9)) for at in (10, 30, 50)
    ]
