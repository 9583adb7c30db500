"""The stream's end of one subscription."""

from __future__ import annotations

import asyncio

import pytest

from qos_async import (
    DropOldest,
    LimitError,
    RejectedError,
    Strict,
    Topic,
    Trade,
)
from qos_async._core.buffers import Policy
from qos_async._io.clocks import SYSTEM_CLOCK
from qos_async._io.loop_binding import LoopBinding
from qos_async._io.subscription_queue import SubscriptionQueue
from qos_async.errors import AuthenticationError, RequestTimeoutError
from tests.support.factories import flat_kline, gap

GAP = gap(Topic("trade", "US:AAPL"), 1, status="filled")
trade: Trade[float] = Trade(symbol="US:AAPL", price=1.0)


AAPL, TSLA = Topic("trade", "US:AAPL"), Topic("trade", "US:TSLA")


def inbox(*topics: Topic) -> SubscriptionQueue:
    made = opened()
    made.acks.add(topics)
    return made


def opened(policy: Policy = DropOldest(), *, final: bool = False) -> SubscriptionQueue:  # noqa: B008 - frozen
    return SubscriptionQueue(
        policy,
        final=final,
        binding=LoopBinding(),
        clock=SYSTEM_CLOCK,
        close=lambda _: None,
    )


@pytest.mark.virtual_time
async def test_a_consumer_waits_until_enough_ticks_or_an_event_arrive():
    one = inbox(AAPL)
    for news in ("ticks", "gap", "end"):
        sleeping = asyncio.create_task(one.wait(5))
        await asyncio.sleep(0)
        one.put([trade] * 2)
        one.put([trade])
        await asyncio.sleep(1)
        assert not sleeping.done()
        match news:
            case "ticks":
                one.put([trade])
                one.put([trade])
            case "gap":
                one.put_gap(GAP, 0)
            case _:
                one.end()
        await asyncio.sleep(0)
        assert sleeping.done()
        await sleeping
        one.buffer.take_all(99)


async def test_a_queue_of_final_klines_holds_growing_ones_back():
    one = opened(final=True)
    one.put([flat_kline(60), flat_kline(60), flat_kline(120), flat_kline(180)])
    assert [k.timestamp for k in one.buffer.take_all(9)] == [60, 120]
    assert one.stats.unfinished == 2


def test_a_rejection_is_returned_once_and_the_rest_stays_live():
    one = inbox(AAPL, TSLA)
    one.ack([AAPL])
    one.reject([TSLA], "no such code")
    error = one.acks.pop_error()
    assert isinstance(error, RejectedError)
    assert (error.symbols, error.message, error.operation) == (
        ("US:TSLA",),
        "no such code",
        "T",
    )
    assert one.acks.pop_error() is None
    assert (one.acks.topics, one.gaps.live, one.acks.unacked) == ({AAPL}, {AAPL}, set())


def test_a_rejection_is_returned_when_every_topic_is_settled():
    one = inbox(AAPL, TSLA)
    one.reject([TSLA], "too many symbols")
    assert one.acks.pop_error() is None
    one.ack([AAPL])
    assert isinstance(one.acks.pop_error(), LimitError)


async def test_a_late_ack_clears_the_timeout():
    one = inbox(AAPL)
    one.acks.ack_timed_out([AAPL])
    one.ack([AAPL])
    await one.wait_acked()


@pytest.mark.virtual_time
async def test_a_late_ack_raises_on_entering_and_not_in_a_loop():
    one = inbox(AAPL)
    one.acks.ack_timed_out([AAPL])
    assert one.acks.pop_error() is None
    with pytest.raises(RequestTimeoutError, match="trade US:AAPL"):
        await one.wait_acked()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(60):
            await one.wait_acked()


def test_the_terminal_error_is_returned_each_time_as_a_new_instance():
    one = inbox(AAPL)
    one.end(AuthenticationError("expired"))
    one.end()
    first, second = one.acks.pop_error(), one.acks.pop_error()
    assert isinstance(first, AuthenticationError)
    assert first is not second
    assert str(first) == str(second) == "expired"


def test_an_ordinary_end_clears_an_ack_timeout():
    one = inbox(AAPL)
    one.acks.ack_timed_out([AAPL])
    one.end()
    assert one.acks.pop_error() is None


def test_a_terminal_error_is_not_replaced_by_a_rejection():
    one = inbox(AAPL, TSLA)
    one.reject([TSLA], "no such code")
    one.end(AuthenticationError("expired"))
    one.remove([AAPL])
    assert isinstance(one.acks.pop_error(), AuthenticationError)


def test_removing_an_absent_topic_removes_nothing():
    one = opened(Strict(1))
    assert one.remove([AAPL]) == set()
