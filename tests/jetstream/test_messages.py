"""The form of messages: golden bytes, and what is read back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qos_async.jetstream import messages
from qos_async.jetstream.messages import Fence, Position, Stamp
from qos_async.recordings import format as directory_format
from qos_async.recordings.format import Entry, NewerFormatError

NUMBERS = st.integers(0, 2**64 - 1)
POSITIONS = st.builds(Position, NUMBERS, NUMBERS)
STAMPS = st.builds(
    Stamp,
    st.text("abcXYZ019_-", min_size=1, max_size=64),
    POSITIONS,
    st.none() | POSITIONS,
    NUMBERS,
    NUMBERS,
)
PUSHES = st.lists(
    st.binary(min_size=1, max_size=40).filter(messages.fits_topic), min_size=1
)


def test_headers_of_form_1_stay_as_they_are():
    stamp = Stamp("main", Position(17, 4), Position(17, 1), 1741958378000000000, 5000)
    golden = {
        "Qos-Entry": "1 main 17 4 17.1 1741958378000000000 5000",
        "Nats-Msg-Id": "main.17.4",
    }
    assert messages.encode_headers(stamp) == golden
    assert messages.decode_stamp(golden) == stamp
    first = stamp._replace(previous=None)
    assert messages.encode_headers(first)["Qos-Entry"].split(" ")[4] == "-"
    assert messages.decode_stamp(messages.encode_headers(first)) == first


def test_a_fence_of_form_1_stays_as_it_is():
    fence = Fence(recorder="main", token="t0", host="h", pid=7, at=1741958378000000000)
    golden = (
        b'{"recorder":"main","token":"t0","host":"h","pid":7,'
        b'"at":1741958378000000000,"form":1}'
    )
    assert messages.encode_fence(fence) == golden
    assert messages.decode_fence(golden) == fence


@given(STAMPS)
def test_a_stamp_reads_back(stamp):
    headers = messages.encode_headers(stamp)
    assert messages.decode_stamp(headers) == stamp
    named = (stamp.recorder, stamp.position)
    assert messages.parse_message_id(headers[messages.MESSAGE_ID]) == named
    assert messages.message_id(*named) == headers[messages.MESSAGE_ID]


@given(PUSHES)
def test_pushes_of_a_topic_are_kept_byte_for_byte(pushes):
    assert messages.decode_pushes(messages.encode_pushes(pushes)) == pushes


def test_a_push_with_a_line_feed_does_not_fit_into_a_message_of_a_topic():
    assert messages.fits_topic(b'{"tp":"T"}')
    assert not messages.fits_topic(b'{"tp":\n"T"}')
    assert not messages.fits_topic(b"")


def test_a_link_message_is_a_line_of_the_directory_format():
    line = directory_format.encode_event(5, "lost", up=2, reason="gone")
    assert (
        messages.encode_link(line) == b'{"at":5,"up":2,"event":"lost","reason":"gone"}'
    )
    entry = messages.decode_link(messages.encode_link(line))
    assert entry == Entry(at=5, elapsed=2, kind="lost", reason="gone")


def test_an_unknown_event_of_a_link_is_an_entry_that_readers_can_count():
    assert messages.decode_link(b'{"at":5,"up":2,"event":"later"}').kind == "unknown"


def test_a_message_without_the_header_has_no_stamp():
    assert messages.decode_stamp(None) is None
    assert messages.decode_stamp({"Nats-Msg-Id": "x"}) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "1",
        "1 main 17 4 17.1 5",
        "1 main 17 4 17.1 5 6 7",
        "1 main 17 -4 - 5 6",
        "1 main 17 4 17 5 6",
        "1 main \u0661 4 - 5 6",
        f"1 main {'9' * 5000} 4 - 5 6",
    ],
)
def test_a_header_that_cannot_be_read_is_an_error(text):
    with pytest.raises(ValueError, match="header of an entry"):
        messages.decode_stamp({"Qos-Entry": text})


def test_a_newer_form_is_an_error_that_names_it():
    with pytest.raises(NewerFormatError, match=r"form 2.*pip install --upgrade"):
        messages.decode_stamp({"Qos-Entry": "2 what ever"})
    newer = b'{"form":9,"recorder":"a","token":"b","host":"c","pid":1,"at":2}'
    with pytest.raises(NewerFormatError, match="form 9"):
        messages.decode_fence(newer)


@pytest.mark.parametrize("payload", [b"", b"{}", b"\xff", b'{"recorder":1}'])
def test_a_fence_that_cannot_be_read_is_an_error(payload):
    with pytest.raises(ValueError, match="not a fence of a recorder"):
        messages.decode_fence(payload)


@pytest.mark.parametrize("text", ["", "main", "main.1", ".1.2", "main.1.x", "a.1.2.3"])
def test_an_id_of_another_kind_is_an_error(text):
    with pytest.raises(ValueError, match=r"id of a message|not a number"):
        messages.parse_message_id(text)


def test_places_of_ticks_name_stream_recorder_and_message():
    stamp = Stamp("main", Position(17, 4), None, 1, 2)
    assert messages.place_of(1741958378000, stamp, 3) == "1741958378000.main.17.4.3"
