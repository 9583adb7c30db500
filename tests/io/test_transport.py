"""Metric labels of link endings."""

from __future__ import annotations

import pytest

from qos_async._io.transport import close_label, status_label


@pytest.mark.parametrize(
    ("code", "word"),
    [
        (None, "broken"),
        (1000, "close 1000"),
        (1005, "close 1005"),
        (1015, "close 1015"),
        (1016, "close other"),
        (2999, "close other"),
        (3000, "close 3xxx"),
        (4999, "close 4xxx"),
        (5000, "close other"),
        (-1, "close other"),
    ],
)
def test_a_close_code_has_a_label(code, word):
    assert close_label(code) == word


def test_a_server_cannot_create_unlimited_labels():
    assert len({close_label(code) for code in range(65_536)}) <= 20
    assert len({status_label(status) for status in range(1000)}) <= 80


@pytest.mark.parametrize(("status", "word"), [(503, "http 503"), (799, "http other")])
def test_an_http_status_has_a_label(status, word):
    assert status_label(status) == word
