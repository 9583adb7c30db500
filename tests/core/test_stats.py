"""The text report on statistics."""

from __future__ import annotations

import pytest

from qos_async import LinkState
from qos_async._core.stats import report
from qos_async.stats import Stats, SubscriptionStats

NOW = 1_700_000_000.0

READER = SubscriptionStats(
    received=1200,
    delivered=1190,
    dropped=3,
    recovered=2,
    gaps=1,
    backlog=7,
    lag=2.5,
)
LIVELY = Stats(
    state=LinkState.OPEN,
    links=3,
    reconnects_by_reason={"silence": 2, "close 1001": 1},
    frames_received=123_456,
    bytes_received=14_800_000,
    ticks_by_channel={"trade": 1000, "depth": 0},
    answers=40,
    unmatched=2,
    unreadable=1,
    unrouted=6,
    gaps_by_status={"filled": 1, "partial": 2},
    recovered=17,
    dropped=3,
    subscriptions=1,
    backlog=7,
    consumer_lag=2.5,
    commands=4,
    command_wait_last=1.0,
    command_wait_max=3.0,
    command_wait_total=6.0,
    heartbeat_round_trip=0.0123,
    clock_offset=-0.41,
    clock_error=0.06,
    http_requests=7,
    http_retries=1,
    http_bytes_received=12_345,
    http_bytes_sent=987,
)

PAGE = """\
QOS client at 2023-11-14 22:13:20 UTC
state           open for 12 min 5 s, since 2023-11-14 22:01:15 UTC
last reason     the server closed the link with 1001: bye
links           3 opened
reconnects      3: 2 silence, 1 close 1001
frames in       123,456, 14.8 MB
frames out      0, 0 B
ticks           1,000 trade
  undelivered   6 unrouted
answers         40 (2 unmatched)
skipped         1 unreadable
gaps            3: 1 filled, 2 partial; 17 ticks recovered
dropped         3
subscriptions   1 open, 7 waiting, up to 2.5 s
  trade US:AAPL: 1,200 received, 1,190 delivered, 3 dropped, 1 gap, 7 waiting, up to 2.5 s
commands        4 sent; waited 1.0 s last, 1.5 s on average, 3.0 s at most
heartbeat       round trip 12 ms
server clock    0.41 s behind, ± 0.06 s
HTTP            7 requests (1 repeated), 12.3 kB in, 987 B out
"""


def lines(stats: Stats, since: float = NOW) -> dict[str, str]:
    page = report(stats, (), since=since, reason="", now=NOW)
    return {line[:16].strip(): line[16:] for line in page.splitlines()}


def test_a_report_has_all_statistics_in_order():
    shown = report(
        LIVELY,
        [("trade US:AAPL", READER)],
        since=NOW - 725,
        reason="the server closed the link with 1001: bye",
        now=NOW,
    )
    assert shown == PAGE


def test_an_unused_client_has_a_short_report():
    shown = lines(Stats())
    assert shown["state"].startswith("idle for 0 ms")
    assert shown["last reason"] == "none"
    assert shown["reconnects"] == shown["ticks"] == shown["gaps"] == "0"
    assert shown["commands"] == "0 sent"
    assert shown["heartbeat"] == "none yet"
    assert shown["server clock"] == "not known yet"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.25, "250 ms"),
        (59.0, "59.0 s"),
        (60, "1 min"),
        (3600, "1 h"),
        (3661, "1 h 1 min"),
        (90_061, "1 d 1 h"),
        (-5, "0 ms"),
    ],
)
def test_a_duration_is_shown_in_its_two_largest_units(seconds, shown):
    assert lines(Stats(), NOW - seconds)["state"].startswith(f"idle for {shown},")


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1_500_000, "1.5 MB"),
        (2_000_000_000, "2.0 GB"),
        (3 * 10**15, "3,000.0 TB"),
    ],
)
def test_a_size_is_shown_in_a_fitting_unit(count, shown):
    assert lines(Stats(bytes_sent=count))["frames out"] == f"0, {shown}"
