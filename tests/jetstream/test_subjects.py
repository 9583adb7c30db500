"""Subjects of topics, links and fences."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qos_async.jetstream import subjects
from qos_async.topics import WireTopic

FORBIDDEN = re.compile(r"[.*>%\s\x00-\x20\x7f]|[^\x00-\x7f]")
CODES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=16)


@given(CODES)
@example("BRK.B")
@example("*")
@example(">")
@example("%2E")
@example("\ud800")
@example("é 中\x00\r\n")
def test_a_token_has_no_character_that_nats_treats_specially_and_reads_back(code):
    token = subjects.escape(code)
    assert not FORBIDDEN.search(token.replace("%", ""))
    assert subjects.unescape(token) == code


def test_codes_of_the_service_stay_readable_in_subjects():
    plain = ["AAPL", "600519", "BF/B", "^GSPC", "ES=F", "M&M", "NG1!", "$X", "A_B-C"]
    assert [subjects.escape(code) for code in plain] == plain
    assert subjects.escape("BRK.B") == "BRK%2EB"


@given(
    st.sampled_from("STD"),
    st.text("ABCDEFGH", min_size=2, max_size=8),
    CODES,
)
def test_a_topic_reads_back_from_its_subject(letter, market, code):
    topic = WireTopic(letter, f"{market}:{code}")
    assert subjects.topic_of(subjects.topic_subject("QOS", topic)) == topic


@given(CODES, st.integers(0, 10**6))
def test_a_kline_topic_keeps_its_interval(code, kt):
    topic = WireTopic("K", f"US:{code}", kt)
    subject = subjects.topic_subject("QOS", topic)
    assert subject.endswith(f".{kt}")
    assert subjects.topic_of(subject) == topic


@pytest.mark.parametrize(
    "subject",
    [
        "QOS.link.default",
        "QOS.fence.default",
        "QOS.T.US",
        "QOS.T.US.AAPL.1",
        "QOS.K.US.AAPL",
        "QOS.K.US.AAPL.x",
        "QOS.X.US.AAPL",
        "QOS.ST.US.AAPL",
        "QOS.T.US.%FF",
        "QOS",
    ],
)
def test_a_subject_of_another_kind_has_no_topic(subject):
    assert subjects.topic_of(subject) is None


def test_link_and_fence_name_their_recorder():
    assert subjects.recorder_of(subjects.link_subject("QOS", "main-1")) == "main-1"
    assert subjects.recorder_of(subjects.fence_subject("QOS", "main-1")) == "main-1"
    assert subjects.recorder_of("QOS.T.US.AAPL") is None
    assert subjects.recorder_of("QOS.link") is None


def test_a_filter_covers_a_letter_and_a_market():
    assert subjects.topic_filter("QOS", "T", "US") == "QOS.T.US.>"
    assert subjects.topic_filter("QOS") == "QOS.*.*.>"


@pytest.mark.parametrize("code", ["", "." * 67, "x" * 201])
def test_a_code_without_a_subject_is_refused(code):
    with pytest.raises(ValueError, match=r"is empty|at most 200"):
        subjects.escape(code)


@pytest.mark.parametrize("name", ["", "a b", "a.b", "é", "x" * 65, "a\n"])
def test_a_name_of_a_recorder_has_letters_digits_and_dashes(name):
    with pytest.raises(ValueError, match="use 1 to 64 ASCII letters"):
        subjects.check_recorder(name)
    assert subjects.check_recorder("feed_A-1") == "feed_A-1"
