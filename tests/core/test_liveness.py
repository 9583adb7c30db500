"""When to speak, and when to stop believing."""

from __future__ import annotations

from qos_async._core.keepalive import Liveness


def live() -> Liveness:
    return Liveness(interval=15.0, timeout=25.0, now=100.0)


def test_the_first_heartbeat_and_the_first_doubt_count_from_the_beginning():
    assert live().heartbeat_at == 115.0
    assert live().timeout_at == 125.0


def test_a_heartbeat_puts_off_only_the_next_heartbeat():
    alive = live()
    alive.heartbeat_sent(116.0)
    assert alive.heartbeat_at == 131.0
    assert alive.timeout_at == 125.0


def test_hearing_something_puts_off_only_the_doubt():
    alive = live()
    alive.last_received_at = 110.0
    assert alive.timeout_at == 135.0
    assert alive.heartbeat_at == 115.0
