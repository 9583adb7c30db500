"""The stream's end of queue subscription."""

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
TRADE: Trade[float] = Trade(symbol="US:AAPL", price=1.0)
AAPL, TSLA = Topic("trade", "US:AAPL"), Topic("trade", "US:TSLA")


def queue_of(*topics: Topic) -> SubscriptionQueue:
    queue = empty_queue()
    queue.acks.add(topics)
    return queue


def empty_queue(
    policy: Policy | None = None, *, final: bool = False
) -> SubscriptionQueue:
    return SubscriptionQueue(
        policy or DropOldest(),
        final=final,
        binding=LoopBinding(),
        clock=SYSTEM_CLOCK,
        close=lambda _: None,
    )


@pytest.mark.virtual_time
async def test_a_consumer_waits_until_enough_ticks_or_an_event_arrive():
    queue = queue_of(AAPL)
    for wake in ("ticks", "gap", "end"):
        sleeping = asyncio.create_task(queue.wait(5))
        await asyncio.sleep(0)
        queue.put([TRADE] * 2)
        queue.put([TRADE])
        await asyncio.sleep(1)
        assert not sleeping.done()
        match wake:
            case "ticks":
                queue.put([TRADE])
                queue.put([TRADE])
            case "gap":
                queue.put_gap(GAP, 0)
            case _:
                queue.end()
        await asyncio.sleep(0)
        assert sleeping.done()
        await sleeping
        queue.buffer.take_all(99)


async def test_a_queue_of_final_klines_holds_growing_ones_back():
    queue = empty_queue(final=True)
    queue.put([flat_kline(60), flat_kline(60), flat_kline(120), flat_kline(180)])
    assert [k.timestamp for k in queue.buffer.take_all(9)] == [60, 120]
    assert queue.stats.unfinished == 2


def test_a_rejection_is_returned_once_and_the_rest_stays_live():
    queue = queue_of(AAPL, TSLA)
    queue.ack([AAPL])
    queue.reject([TSLA], "no such code")
    error = queue.acks.pop_error()
    assert isinstance(error, RejectedError)
    assert (error.symbols, error.message, error.operation) == (
        ("US:TSLA",),
        "no such code",
        "T",
    )
    assert queue.acks.pop_error() is None
    assert (queue.acks.topics, queue.gaps.live, queue.acks.unacked) == (
        {AAPL},
        {AAPL},
        set(),
    )


def test_a_rejection_is_returned_when_every_topic_is_settled():
    queue = queue_of(AAPL, TSLA)
    queue.reject([TSLA], "too many symbols")
    assert queue.acks.pop_error() is None
    queue.ack([AAPL])
    assert isinstance(queue.acks.pop_error(), LimitError)


async def test_a_late_ack_clears_the_timeout():
    queue = queue_of(AAPL)
    queue.acks.ack_timed_out([AAPL])
    queue.ack([AAPL])
    await queue.wait_acked()


@pytest.mark.virtual_time
async def test_a_late_ack_raises_in_tasks_that_wait_for_it_only():
    queue = queue_of(AAPL)
    waiting = asyncio.create_task(queue.wait_acked())
    await asyncio.sleep(0)
    queue.acks.ack_timed_out([AAPL])
    assert queue.acks.pop_error() is None
    with pytest.raises(RequestTimeoutError, match="trade US:AAPL"):
        await waiting
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(60):
            await queue.wait_acked()


async def test_each_task_gets_the_decision_on_its_own_topics():
    queue = queue_of(AAPL, TSLA)
    tasks = [asyncio.create_task(queue.wait_acked([one])) for one in (AAPL, TSLA)]
    await asyncio.sleep(0)
    queue.reject([TSLA], "no such code")
    await asyncio.sleep(0.01)
    assert [task.done() for task in tasks] == [False, True]
    assert isinstance(tasks[1].exception(), RejectedError)
    queue.ack([AAPL])
    await tasks[0]
    assert queue.acks.pop_error() is None


async def test_a_rejection_that_a_cancelled_task_did_not_raise_goes_to_the_consumer():
    queue = queue_of(AAPL, TSLA)
    task = asyncio.create_task(queue.wait_acked())
    await asyncio.sleep(0)
    queue.reject([TSLA], "no such code")
    task.cancel()
    await asyncio.wait([task])
    assert queue.acks.pop_error() is None
    queue.ack([AAPL])
    assert isinstance(queue.acks.pop_error(), RejectedError)


async def test_a_task_whose_every_topic_is_rejected_gets_the_error_and_so_does_the_loop():
    queue = queue_of(AAPL)
    task = asyncio.create_task(queue.wait_acked())
    await asyncio.sleep(0)
    queue.reject([AAPL], "no such code")
    for _ in range(2):
        with pytest.raises(RejectedError):
            await task
        with pytest.raises(RejectedError):
            await queue.wait()


def test_the_terminal_error_is_returned_each_time_as_a_new_instance():
    queue = queue_of(AAPL)
    queue.end(AuthenticationError("expired"))
    queue.end()
    first, second = queue.acks.pop_error(), queue.acks.pop_error()
    assert isinstance(first, AuthenticationError)
    assert first is not second
    assert str(first) == str(second) == "expired"


def test_an_ordinary_end_clears_an_ack_timeout():
    queue = queue_of(AAPL)
    queue.acks.ack_timed_out([AAPL])
    queue.end()
    assert queue.acks.pop_error() is None


def test_a_terminal_error_is_not_replaced_by_a_rejection():
    queue = queue_of(AAPL, TSLA)
    queue.reject([TSLA], "no such code")
    queue.end(AuthenticationError("expired"))
    queue.remove([AAPL])
    assert isinstance(queue.acks.pop_error(), AuthenticationError)


def test_removing_an_absent_topic_removes_nothing():
    queue = empty_queue(Strict(1))
    assert queue.remove([AAPL]) == set()
