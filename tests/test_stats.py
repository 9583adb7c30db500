"""Statistics and their OpenMetrics text."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from qos_async import Channel, LinkState
from qos_async.stats import Stats, SubscriptionStats

LIVELY = Stats(
    state=LinkState.BACKOFF,
    links=3,
    reconnects_by_reason={"silence": 2, "close 1001": 1},
    frames_received=20,
    bytes_received=2000,
    ticks_by_channel={"trade": 7, "depth": 5},
    gaps_by_status={"filled": 1, "partial": 2},
    consumer_lag=0.25,
    command_wait_total=1e-7,
    heartbeat_round_trip=0.012,
    clock_offset=-3.5,
    clock_error=0.5,
    retention_left=3600.5,
)


def read(stats: Stats) -> dict[str, Metric]:
    families = text_string_to_metric_families(stats.to_openmetrics())
    return {family.name: family for family in families}


def value(stats: Stats, name: str, **labels: str) -> float:
    return next(
        sample.value
        for family in read(stats).values()
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    )


def test_an_unused_client_has_counted_nothing():
    fields = msgspec.structs.asdict(Stats())
    assert fields.pop("state") is LinkState.IDLE
    assert not any(fields.pop("ticks_by_channel").values())
    assert not any(fields.pop("gaps_by_status").values())
    assert not any(fields.values())
    assert Stats().ticks == Stats().gaps == Stats().reconnects == 0


def test_totals_are_sums():
    assert (LIVELY.ticks, LIVELY.gaps, LIVELY.reconnects) == (12, 3, 3)


def test_the_counters_of_a_client_are_a_frozen_snapshot():
    with pytest.raises(AttributeError):
        Stats().links = 1  # type: ignore[misc]


def test_the_counters_of_a_subscription_are_a_frozen_snapshot():
    picture = SubscriptionStats(
        received=3, delivered=1, dropped=1, recovered=0, gaps=0, backlog=1
    )
    with pytest.raises(AttributeError):
        picture.received = 4  # type: ignore[misc]
    assert picture.received == picture.delivered + picture.dropped + picture.backlog


def test_prometheus_reads_every_number():
    names = Stats.__struct_fields__
    values: dict[str, Any] = dict(zip(names, range(1000, 2000), strict=False))
    values["state"] = LinkState.OPEN
    values["reconnects_by_reason"] = {"silence": 11, "close 1001": 12}
    values["ticks_by_channel"] = {"trade": 13, "kline": 14}
    values["gaps_by_status"] = {"filled": 15, "unfilled": 16}
    samples = [
        sample.value
        for family in read(Stats(**values)).values()
        for sample in family.samples
        if family.type != "stateset"
    ]
    numbers = [number for number in values.values() if isinstance(number, int)]
    assert sorted(samples) == [*range(11, 17), *numbers]


def test_every_name_has_the_prefix_and_every_help_is_a_sentence():
    families = read(LIVELY)
    assert all(name.startswith("qos_") for name in families)
    assert all(family.documentation.endswith(".") for family in families.values())


def test_units_are_declared():
    units = {name: family.unit for name, family in read(LIVELY).items()}
    assert units["qos_received_bytes"] == "bytes"
    assert units["qos_consumer_lag_seconds"] == "seconds"
    assert units["qos_ticks"] == ""


def test_counters_and_gauges_have_their_types():
    kinds = {name: family.type for name, family in read(LIVELY).items()}
    assert kinds["qos_frames_received"] == "counter"
    assert kinds["qos_backlog"] == "gauge"
    assert kinds["qos_link_state"] == "stateset"


def test_counters_by_kind_have_a_label():
    assert value(LIVELY, "qos_ticks_total", channel="trade") == 7
    assert value(LIVELY, "qos_gaps_total", status="partial") == 2
    assert value(LIVELY, "qos_reconnects_total", reason="close 1001") == 1


def test_known_series_are_there_from_the_start():
    for channel in Channel:
        assert value(Stats(), "qos_ticks_total", channel=channel.value) == 0
    for status in ("filled", "partial", "unverified", "unfilled"):
        assert value(Stats(), "qos_gaps_total", status=status) == 0


def test_the_state_is_one_of_all_states():
    states = {
        state: value(LIVELY, "qos_link_state", qos_link_state=state.value)
        for state in LinkState
    }
    assert [state for state, on in states.items() if on] == [LinkState.BACKOFF]


def test_an_unknown_value_has_no_sample():
    families = read(Stats())
    assert families["qos_clock_offset_seconds"].samples == []
    assert families["qos_heartbeat_round_trip_seconds"].samples == []


def test_small_and_negative_numbers_are_exact():
    assert value(LIVELY, "qos_command_wait_seconds_total") == 1e-7
    assert value(LIVELY, "qos_clock_offset_seconds") == -3.5
    assert value(LIVELY, "qos_retention_left_seconds") == 3600.5
    assert math.isclose(value(LIVELY, "qos_heartbeat_round_trip_seconds"), 0.012)


@example("\\")
@example("\\n")
@example("\n")
@example('"')
@given(st.text())
def test_labels_are_escaped_and_read_back(word):
    stats = Stats(reconnects_by_reason={word: 5})
    assert value(stats, "qos_reconnects_total", reason=word) == 5


def test_the_text_ends_as_openmetrics_ends():
    assert LIVELY.to_openmetrics().endswith("\n# EOF\n")
