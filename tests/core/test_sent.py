"""Which reply answers a frame."""

from __future__ import annotations

import pytest

from qos_async._core.scheduler import PendingCommand
from qos_async._core.wire import Reply

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
def test_what_a_reply_carries_must_fit_and_what_it_leaves_out_does_not_matter(
    sent: PendingCommand,
    reply: Reply,
    fits: bool,  # noqa: FBT001
):
    assert sent.matches(reply) is fits
