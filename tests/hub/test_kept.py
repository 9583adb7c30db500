"""Finished klines that are kept."""

import pytest

from qos_async.enums import Interval
from qos_async.hub.kept import KeptBar, KeptBars

NOW = 1_000_000.0
MIN_1 = Interval.MIN_1


def bars(first: int, last: int) -> list[KeptBar]:
    return [KeptBar(60 * n, b'{"ts":%d}' % (60 * n)) for n in range(first, last + 1)]


@pytest.fixture
def kept():
    return KeptBars()


def test_what_was_replied_once_is_known(kept):
    kept.add("US:A", MIN_1, bars(10, 20), NOW)
    assert kept.find("US:A", MIN_1, 5, 60 * 20) == bars(16, 20)
    assert kept.find("US:A", MIN_1, 11, 60 * 20 + 59) == bars(10, 20)
    assert kept.find("US:A", MIN_1, 3, 60 * 15) == bars(13, 15)


def test_what_reaches_beyond_is_not_known(kept):
    kept.add("US:A", MIN_1, bars(10, 20), NOW)
    assert kept.find("US:A", MIN_1, 12, 60 * 20) is None
    assert kept.find("US:A", MIN_1, 1, 60 * 21) is None
    assert kept.find("US:A", MIN_1, 1, 60 * 9) is None
    assert kept.find("US:B", MIN_1, 1, 60 * 20) is None
    assert kept.find("US:A", Interval.MIN_5, 1, 60 * 20) is None


def test_spans_that_share_a_bar_become_one(kept):
    kept.add("US:A", MIN_1, bars(10, 20), NOW)
    kept.add("US:A", MIN_1, bars(20, 30), NOW)
    assert kept.find("US:A", MIN_1, 21, 60 * 30) == bars(10, 30)


def test_between_spans_that_share_none_there_may_be_bars(kept):
    kept.add("US:A", MIN_1, bars(10, 20), NOW)
    kept.add("US:A", MIN_1, bars(21, 30), NOW)
    assert kept.find("US:A", MIN_1, 11, 60 * 30) is None
    assert kept.find("US:A", MIN_1, 10, 60 * 30) == bars(21, 30)


def test_a_span_that_joins_two_makes_one_of_three(kept):
    kept.add("US:A", MIN_1, bars(10, 15), NOW)
    kept.add("US:A", MIN_1, bars(20, 25), NOW)
    kept.add("US:A", MIN_1, bars(15, 20), NOW)
    assert kept.find("US:A", MIN_1, 16, 60 * 25) == bars(10, 25)


def test_a_bar_that_is_not_over_or_only_just_is_not_kept(kept):
    kept.add("US:A", MIN_1, bars(10, 20), 60 * 20 + 30.0)
    assert kept.find("US:A", MIN_1, 1, 60 * 19) is None
    assert kept.find("US:A", MIN_1, 1, 60 * 18) == bars(18, 18)


def test_a_pause_of_the_market_is_no_missing_bar(kept):
    pause = [*bars(10, 12), *bars(100, 103)]
    kept.add("US:A", MIN_1, pause, NOW)
    assert kept.find("US:A", MIN_1, 6, 60 * 102) == pause[:-1]


def test_they_outlive_the_process(tmp_path):
    path = tmp_path / "deeper" / "bars.sqlite"
    first = KeptBars(path)
    first.open()
    first.add("US:A", MIN_1, bars(10, 20), NOW)
    first.close()
    second = KeptBars(path)
    second.open()
    assert second.find("US:A", MIN_1, 2, 60 * 20) == bars(19, 20)
    second.close()


@pytest.mark.fault("H18")
def test_a_damaged_file_costs_what_was_kept_and_no_more(tmp_path, caplog):
    path = tmp_path / "bars.sqlite"
    path.write_bytes(b"not a database" * 100)
    kept = KeptBars(path)
    kept.open()
    kept.add("US:A", MIN_1, bars(10, 20), NOW)
    assert kept.find("US:A", MIN_1, 1, 60 * 20) == bars(20, 20)
    assert [r.getMessage() for r in caplog.records] == [
        "finished klines are not kept: file is not a database"
    ]


@pytest.mark.fault("H18")
def test_a_database_that_fails_counts_as_empty(kept, caplog):
    kept._database.close()
    assert kept.find("US:A", MIN_1, 1, 60) is None
    kept.add("US:A", MIN_1, bars(10, 20), NOW)
    assert len(caplog.records) == 1


@pytest.mark.fault("H18")
def test_it_begins_anew_where_it_grew_too_large(kept, monkeypatch):
    monkeypatch.setattr("qos_async.hub.kept._ROWS_MAX", 15)
    kept.add("US:A", MIN_1, bars(10, 30), NOW)
    kept.add("US:B", MIN_1, bars(10, 12), NOW)
    assert kept.find("US:A", MIN_1, 1, 60 * 20) is None
    assert kept.find("US:B", MIN_1, 1, 60 * 12) == bars(12, 12)


@pytest.mark.parametrize("end", [2**63, -(2**63), 2**200, 10**15])
def test_a_time_that_cannot_be_is_not_known(kept, end):
    kept.add("US:A", Interval.DAY, [KeptBar(end, b"{}")], NOW)
    assert kept.find("US:A", Interval.DAY, 1, end) is None
