"""Limits and timing: defaults, and invalid values."""

from __future__ import annotations

import math
from typing import Any

import pytest

from qos_async.config import HTTP_URL, STREAM_URL, Limits, Timing

SECONDS = [
    "heartbeat",
    "silence",
    "request_timeout",
    "connect_timeout",
    "backoff_initial",
    "backoff_max",
    "stable_after",
    "close_timeout",
]
COUNTS = ["symbols", "connections", "http_requests"]
MAY_BE_ZERO = ["backoff_max", "stable_after"]


def test_the_defaults_are_those_of_the_default_plan():
    assert HTTP_URL == "https://api.qos.hk"
    assert STREAM_URL == "wss://api.qos.hk/ws"
    limits, timing = Limits(), Timing()
    assert [limits.symbols, limits.connections, limits.http_requests] == [10, 1, 10]
    assert [limits.command_interval, limits.http_period] == [1.0, 60.0]
    assert [timing.heartbeat, timing.silence, timing.request_timeout] == [15, 25, 8]
    assert [timing.connect_timeout, timing.close_timeout] == [15, 3]
    assert [timing.backoff_initial, timing.backoff_max] == [0.5, 60]
    assert timing.stable_after == 60
    timing.check(limits)


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("wrong", [0, -1, 1.5, 1.0, "10", True, None, math.inf])
def test_an_invalid_count_raises_with_its_name(name: str, wrong: Any):
    with pytest.raises(ValueError, match="must be a whole number from 1") as caught:
        Limits(**{name: wrong})
    assert name in str(caught.value)
    assert repr(wrong) in str(caught.value)


BAD_SECONDS: list[Any] = [-1, -0.001, math.inf, math.nan, "1", True, None]


@pytest.mark.parametrize("name", ["command_interval", "http_period"])
@pytest.mark.parametrize("wrong", BAD_SECONDS)
def test_an_invalid_limit_in_seconds_raises_with_its_name(name: str, wrong: Any):
    with pytest.raises(ValueError, match="must be a number of seconds") as caught:
        Limits(**{name: wrong})
    assert name in str(caught.value)
    assert repr(wrong) in str(caught.value)


@pytest.mark.parametrize("name", SECONDS)
@pytest.mark.parametrize("wrong", BAD_SECONDS)
def test_an_invalid_duration_raises_with_its_name(name: str, wrong: Any):
    with pytest.raises(ValueError, match="must be a number of seconds") as caught:
        Timing(**{name: wrong})
    assert name in str(caught.value)
    assert repr(wrong) in str(caught.value)


@pytest.mark.parametrize("name", [n for n in SECONDS if n not in MAY_BE_ZERO])
def test_a_duration_that_must_be_above_zero_raises_for_zero(name: str):
    with pytest.raises(ValueError, match=f"{name} must be .* above 0"):
        Timing(**{name: 0})


@pytest.mark.parametrize("name", MAY_BE_ZERO)
def test_a_duration_that_may_be_zero_accepts_zero(name: str):
    assert getattr(Timing(**{name: 0}), name) == 0


def test_limits_without_a_rate_are_accepted():
    limits = Limits(command_interval=0, http_period=0)
    Timing().check(limits)


def test_the_error_for_a_negative_duration_does_not_suggest_zero():
    with pytest.raises(ValueError, match="above 0, not -1"):
        Timing(heartbeat=-1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"heartbeat": 20.1, "silence": 40.0},
        {"heartbeat": 30.0, "silence": 40.0},
        {"request_timeout": 13.1},
        {"heartbeat": 14.0, "request_timeout": 14.5},
    ],
)
def test_heartbeats_over_thirty_seconds_apart_raise(
    wrong: dict[str, float],
):
    with pytest.raises(ValueError, match="over the 30 s that the service") as caught:
        Timing(**wrong)
    text = str(caught.value)
    for name, value in wrong.items():
        if name != "silence":
            assert f"{name} {value:g} s" in text
    assert "lower one of them" in text


def test_heartbeats_of_exactly_thirty_seconds_are_accepted():
    assert Timing(heartbeat=20.0, silence=29.0, request_timeout=8.0).heartbeat == 20


def test_the_command_interval_of_the_plan_counts_as_well():
    timing = Timing(heartbeat=19.5)
    timing.check(Limits(command_interval=0.5))
    with pytest.raises(ValueError, match=r"command_interval 1 s .* lower one of them"):
        timing.check(Limits())


@pytest.mark.parametrize("silence", [10.0, 15.0])
def test_silence_must_be_longer_than_a_heartbeat(silence: float):
    with pytest.raises(ValueError, match="must be longer than heartbeat") as caught:
        Timing(heartbeat=15.0, silence=silence)
    assert f"silence ({silence:g} s)" in str(caught.value)
    assert "heartbeat (15 s)" in str(caught.value)


def test_options_are_frozen_and_keyword_only():
    with pytest.raises(AttributeError):
        Limits().symbols = 3  # type: ignore[misc]
    with pytest.raises(AttributeError):
        Timing().heartbeat = 3  # type: ignore[misc]
    with pytest.raises(TypeError):
        Limits(10)  # type: ignore[call-arg]
