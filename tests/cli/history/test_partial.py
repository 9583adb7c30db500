"""Tests of ``qos_async.cli.history.partial``."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from qos_async.cli.history.paging import START
from qos_async.cli.history.partial import PartError, PartialDownload, part_path
from tests.support.history_pages import (
    REQUEST,
    START_AT,
    bars,
    minutes,
)


def test_pages_are_read_oldest_first_and_exact(kept):
    with PartialDownload(kept, REQUEST) as part:
        assert minutes(part) == [60, 70, 75, 80, 81, 82]
        assert next(part.pages()) == bars(60)
        assert (part.count, part.resumed_from, part.ended) == (6, 6, None)
        assert part.progress_text() == "6 bars back to 2025-01-31 01:00"
        part.add(bars(58, 59))
        part.finish(START)
        assert minutes(part)[:3] == [58, 59, 60]
    with PartialDownload(kept, REQUEST) as part:
        assert (part.count, part.ended) == (8, START)


def test_a_truncated_line_is_cut_off(kept):
    """And the next page is on a line of its own."""
    whole = kept.read_bytes()
    ends = [place + 1 for place, byte in enumerate(whole) if byte == ord("\n")]
    for cut in {0, 1, *(end + by for end in ends for by in (-9, -1, 0, 9))}:
        kept.write_bytes(whole[:cut])
        pages = max(sum(end <= cut for end in ends) - 1, 0)
        with PartialDownload(kept, REQUEST) as part:
            assert part.count == [0, 3, 5, 6][pages]
            part.add(bars(1))
        with PartialDownload(kept, REQUEST) as part:
            assert part.count == [0, 3, 5, 6][pages] + 1


@pytest.mark.parametrize(
    "line",
    [
        b'{"bars":[]}',
        b'{"bars":[[1738281540,"1","1","1","1",null]]',
        b'{"bars":[["x","1","1","1","1",null]]}',
        b'{"bars":[[1738285200,"1","1","1","1",null]]}',  # As old as the one before.
        b'{"bars":[[1738281600,"1","1","1","1",null],[1738281540,"1","1","1","1","2"]]}',
        b'{"bars":[[1738281539,"1","1","1","1",null]]}',  # Before the start.
        b"\x00" * 40,
    ],
)
def test_an_invalid_line_is_cut_off_with_all_that_follows(line, kept):
    with kept.open("ab") as file:
        file.write(line + b'\n{"ended":"start"}\n')
    with PartialDownload(kept, REQUEST) as part:
        assert (part.count, part.ended) == (6, None)


def test_a_file_without_pages_is_removed(path):
    with PartialDownload(path, REQUEST):
        assert path.exists()
    assert not path.exists()


def test_spans_back_from_now_resume_the_range_of_the_first_run(kept):
    """Not the one of this run."""
    later = replace(REQUEST, start=START_AT + 60, end=START_AT + 99)
    with PartialDownload(kept, later) as part:
        assert (part.request, part.count) == (REQUEST, 6)


@pytest.mark.parametrize(
    "other",
    [
        {"symbol": "CF:ETHUSDT"},
        {"interval": "5m"},
        {"adjusted": True},
        {"source": "https://api.qos.hk"},
        {"asked": ("2025-01-30", None)},
        {"asked": ("2025-01-31", "2025-01-31")},
    ],
)
def test_pages_of_another_request_raise(other, kept):
    different = replace(REQUEST, **other)
    message = "CF:BTCUSDT 1m from 2025-01-31 .simulator, seed 1.: finish it .* --force"
    with pytest.raises(PartError, match=message):
        PartialDownload(kept, different)
    with PartialDownload(kept, REQUEST) as part:
        assert part.count == 6, "nothing was lost"
    with PartialDownload(kept, different, anew=True) as part:
        assert part.count == 0


@pytest.mark.parametrize("content", [b"my notes", b"my notes\n", b'{"a":1}\n'])
def test_a_foreign_file_is_left_alone(content, path):
    path.write_bytes(content)
    with pytest.raises(PartError, match=r"in the way: .*; move it"):
        PartialDownload(path, REQUEST, anew=True)
    assert path.read_bytes() == content


def test_a_second_run_is_locked_out(kept):
    with (
        PartialDownload(kept, REQUEST),
        pytest.raises(PartError, match="another qos history"),
    ):
        PartialDownload(kept, REQUEST)


def test_readers_of_a_directory_skip_the_file(tmp_path):
    assert part_path(tmp_path / "x.parquet") == tmp_path / ".x.parquet.part"


def test_a_download_of_an_earlier_version_is_resumed(kept, tmp_path):
    assert part_path(tmp_path / "bars.csv") == kept
    with PartialDownload(part_path(tmp_path / "bars.csv"), REQUEST) as part:
        assert part.resumed_from == 6
        part.remove()
    assert part_path(tmp_path / "bars.csv") == tmp_path / ".bars.csv.part"
