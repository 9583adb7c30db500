"""The stream's end of one subscription."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from qos_async import (
    DropOldest,
    Gap,
    Interval,
    Kline,
    LimitError,
    RejectedError,
    Strict,
    Topic,
    Trade,
)
from qos_async._io.inbox import Inbox
from qos_async.errors import AuthenticationError, RequestTimeoutError

GAP = Gap(
    topic=Topic("trade", "US:AAPL"),
    since=datetime.fromtimestamp(1, UTC),
    until=datetime.fromtimestamp(2, UTC),
    reason="cut",
    status="filled",
)
trade: Trade[float] = Trade(symbol="US:AAPL", price=1.0)


def bar(second: int) -> Kline[float]:
    return Kline(
        symbol="US:AAPL",
        timestamp=second,
        open=1.0,
        high=1.0,
        low=1.0,
        close=1.0,
        interval=Interval.MIN_1,
    )


AAPL, TSLA = Topic("trade", "US:AAPL"), Topic("trade", "US:TSLA")


def inbox(*topics: Topic) -> Inbox:
    made = Inbox(DropOldest(), final=False)
    made.want(topics)
    return made


@pytest.mark.virtual_time
async def test_a_reader_may_sleep_until_many_ticks_wait_or_there_is_news():
    one = inbox(AAPL)
    for news in ("ticks", "gap", "end"):
        sleeping = asyncio.create_task(one.wait(5))
        await asyncio.sleep(0)
        one.deliver_all([trade] * 2)
        one.deliver(trade)
        await asyncio.sleep(1)
        assert not sleeping.done()
        match news:
            case "ticks":
                one.deliver(trade)
                one.deliver(trade)
            case "gap":
                one.tell(GAP, 0)
            case _:
                one.end()
        await asyncio.sleep(0)
        assert sleeping.done()
        await sleeping
        one.buffer.take_all(99)


async def test_a_reader_of_finished_klines_holds_growing_ones_back():
    one = Inbox(DropOldest(), final=True)
    one.deliver_all([bar(60), bar(60), bar(120), bar(180)])
    assert [k.timestamp for k in one.buffer.take_all(9)] == [60, 120]
    assert one.unfinished == 2


def test_a_refusal_is_told_once_and_the_rest_lives_on():
    one = inbox(AAPL, TSLA)
    one.confirm([AAPL])
    one.decline([TSLA], "no such code")
    error = one.take_error()
    assert isinstance(error, RejectedError)
    assert (error.symbols, error.message, error.operation) == (
        ("US:TSLA",),
        "no such code",
        "T",
    )
    assert one.take_error() is None
    assert (one.topics, one.live, one.pending) == ({AAPL}, {AAPL}, set())


def test_a_refusal_is_told_when_all_is_decided():
    one = inbox(AAPL, TSLA)
    one.decline([TSLA], "too many symbols")
    assert one.take_error() is None
    one.confirm([AAPL])
    assert isinstance(one.take_error(), LimitError)


def test_an_answer_after_all_makes_a_timeout_undone():
    one = inbox(AAPL)
    one.unanswered([AAPL])
    one.confirm([AAPL])
    assert one.take_late() is None


def test_a_loop_is_patient_where_entering_is_not():
    one = inbox(AAPL)
    one.unanswered([AAPL])
    assert one.take_error() is None
    assert isinstance(one.take_late(), RequestTimeoutError)
    assert one.take_late() is None


def test_what_ended_it_is_told_for_ever_and_each_time_anew():
    one = inbox(AAPL)
    one.end(AuthenticationError("expired"))
    one.end()
    first, second = one.take_error(), one.take_error()
    assert isinstance(first, AuthenticationError)
    assert first is not second
    assert str(first) == str(second) == "expired"


def test_an_ordinary_end_forgets_that_an_answer_was_late():
    one = inbox(AAPL)
    one.unanswered([AAPL])
    one.end()
    assert one.take_error() is None


def test_what_ended_it_is_not_replaced_by_a_refusal():
    one = inbox(AAPL, TSLA)
    one.decline([TSLA], "no such code")
    one.end(AuthenticationError("expired"))
    one.forget([AAPL])
    assert isinstance(one.take_error(), AuthenticationError)


def test_topics_that_were_never_there_cannot_be_forgotten():
    one = Inbox(Strict(1), final=False)
    assert one.forget([AAPL]) == set()
