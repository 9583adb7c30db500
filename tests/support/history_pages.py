"""Requests and pages of ``qos history``."""

from __future__ import annotations

import calendar
from typing import Any, cast
from unittest.mock import Mock

from qos_async import (
    Interval,
    Kline,
)
from qos_async.cli.history.partial import Request
from qos_async.cli.history.progress import (
    Progress,
)


def at(*when):
    """Return epoch seconds of a date and time in UTC."""
    return calendar.timegm((*when, 0, 0, 0)[:6])


START_AT = at(2025, 1, 31)
MINUTE = 60
REQUEST = Request(
    symbol="CF:BTCUSDT",
    interval="1m",
    adjusted=False,
    source="simulator, seed 1",
    asked=("2025-01-31", None),
    start=START_AT,
    end=START_AT + 100 * MINUTE,
)


def bars(*minutes):
    return [
        Kline(
            symbol="CF:BTCUSDT",
            interval=Interval.MIN_1,
            timestamp=START_AT + minute * MINUTE,
            open="1.10",
            high="1.30",
            low="1.00",
            close="1.20",
            volume=None,
        )
        for minute in minutes
    ]


def minutes(part):
    return [
        (bar.timestamp - START_AT) // MINUTE for page in part.pages() for bar in page
    ]


class Recorded(Progress):
    """Counts pages, and keeps the messages."""

    def __init__(self):
        super().__init__(cast("Any", Mock()))
        self.pages, self.notes = 0, []

    def _show(self, now):
        self.pages += 1

    def _print(self, text):
        self.notes.append(text)
