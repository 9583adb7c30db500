"""The stream's end of one subscription."""

from __future__ import annotations

from qos_async import DropOldest, LimitError, RejectedError, Strict, Topic
from qos_async._io.inbox import Inbox
from qos_async.errors import AuthenticationError, RequestTimeoutError

AAPL, TSLA = Topic("trade", "US:AAPL"), Topic("trade", "US:TSLA")


def inbox(*topics: Topic) -> Inbox:
    made = Inbox(DropOldest(), final=False)
    made.want(topics)
    return made


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
