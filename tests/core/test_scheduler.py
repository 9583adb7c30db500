"""The queue of one-off requests, and the matching of replies."""

from __future__ import annotations

import json
import math

import pytest

from qos_async._core.scheduler import PendingCommand, RequestQueue
from qos_async._core.wire import Reply


def queue(*puts: float) -> RequestQueue:
    requests = RequestQueue(8.0)
    for reqid, put in enumerate(puts, 1):
        requests.add(reqid, "RS", {"codes": ["US:A"]}, now=put)
    return requests


def test_requests_are_sent_once_and_in_order():
    requests = queue(0.0, 0.0)
    assert requests.has_work
    first, second = requests.next(1.0), requests.next(2.0)
    assert first
    assert second
    assert [first.reqid, second.reqid] == [1, 2]
    assert requests.next(3.0) is None
    assert not requests.has_work
    assert json.loads(first.frame) == {"type": "RS", "codes": ["US:A"], "reqid": 1}


def test_a_queued_request_times_out():
    requests = queue(1.0, 2.0)
    assert requests.deadline == 9.0
    assert requests.take_expired(8.9) == []
    assert [r.reqid for r in requests.take_expired(9.0)] == [1]
    assert requests.take_expired(9.0) == []
    assert requests.deadline == 10.0


def test_the_timeout_restarts_when_a_request_is_sent():
    requests = queue(1.0)
    requests.next(7.0)
    assert requests.deadline == 15.0
    assert requests.take_expired(14.9) == []
    assert [r.reqid for r in requests.take_expired(15.0)] == [1]
    assert requests.deadline == math.inf


def test_no_queued_request_times_out_while_another_is_pending():
    requests = queue(0.0, 0.0)
    requests.next(7.0)
    requests.block()
    assert requests.deadline == 15.0
    assert [r.reqid for r in requests.take_expired(15.0)] == [1]
    requests.unblock(15.0)
    assert requests.deadline == 23.0
    assert requests.take_expired(22.9) == []
    assert [r.reqid for r in requests.take_expired(23.0)] == [2]


def test_a_request_has_expired_at_its_deadline_for_any_floats():
    for put in (1e-16, 0.1, 12345.678, 1e6 + 0.1):
        requests = queue(put)
        assert [r.reqid for r in requests.take_expired(requests.deadline)] == [1]


def test_a_finished_request_is_removed_sent_or_not():
    requests = queue(9.0, 9.0)
    requests.next(9.0)
    assert requests.remove(1)
    assert requests.remove(1) is None
    assert requests.remove(2)
    assert not requests.has_work
    assert requests.remove(77) is None
    assert requests.deadline == math.inf


def test_take_sent_returns_only_sent_requests():
    requests = queue(9.0, 9.0)
    requests.next(9.0)
    assert [r.reqid for r in requests.take_sent()] == [1]
    assert requests.take_sent() == []
    left = requests.next(10.0)
    assert left
    assert left.reqid == 2


FRAME = PendingCommand("T", 8.0, 5)
BEAT = PendingCommand("H", 8.0)


@pytest.mark.fault("P5", "P6", "P7")
@pytest.mark.parametrize(
    ("sent", "reply", "fits"),
    [
        (FRAME, Reply("T", "OK", 5), True),
        (FRAME, Reply("T", "no", 5), True),
        (FRAME, Reply("T", "OK"), True),
        (FRAME, Reply("T", "no"), True),
        (FRAME, Reply("", "no"), True),
        (FRAME, Reply("", "no", 5), True),
        (FRAME, Reply("error", "no", 5), True),
        (FRAME, Reply("error", "no"), True),
        (FRAME, Reply("", "OK", 5), False),
        (FRAME, Reply("error", "OK", 5), False),
        (FRAME, Reply("T", "OK", 4), False),
        (FRAME, Reply("T", "OK", -5), False),
        (FRAME, Reply("T", "no", 4), False),
        (FRAME, Reply("", "no", 4), False),
        (FRAME, Reply("TC", "OK", 5), False),
        (FRAME, Reply("S", "no", 5), False),
        (FRAME, Reply("RT", "OK", 5), False),
        (FRAME, Reply("H", "OK"), False),
        (BEAT, Reply("H", "OK"), True),
        (BEAT, Reply("H", "no"), True),
        (BEAT, Reply("", "no"), True),
        (BEAT, Reply("T", "OK"), False),
        (BEAT, Reply("H", "OK", 3), False),
    ],
    ids=lambda value: repr(value).partition(", data")[0],
)
def test_fields_of_a_reply_must_match_if_present(
    sent: PendingCommand,
    reply: Reply,
    fits: bool,  # noqa: FBT001
):
    assert sent.matches(reply) is fits
