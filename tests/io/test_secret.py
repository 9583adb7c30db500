"""The API key: validation and redaction."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from qos_async._io.secret import Secret
from qos_async.errors import AuthenticationError
from tests.support.leak_check import assert_absent

CANARY = 'CANARY/7+"&=<x>'


def test_a_key_is_returned_unchanged():
    assert Secret(CANARY).read() == CANARY
    assert Secret("x").read() == "x"


def test_a_callable_is_called_at_each_use():
    keys = iter(["one", "two"])
    secret = Secret(lambda: next(keys))
    assert [secret.read(), secret.read()] == ["one", "two"]
    assert secret.redact("one two three") == "*** *** three"


@pytest.mark.parametrize("key", [None, ""])
def test_a_missing_key_raises_with_the_remedy(key):
    with pytest.raises(AuthenticationError, match=r"QOS_API_KEY.*key="):
        Secret(key)


BAD: list[Any] = ["CANARY key", "CANARY\n", "kéyCANARY", "CANARY" * 50, b"CANARY", 5]


@pytest.mark.fault("U19", "D2")
@pytest.mark.parametrize("key", BAD)
def test_a_key_not_valid_in_a_header_raises_without_showing_it(key):
    for make in (lambda: Secret(key), Secret(lambda: key).read):
        with pytest.raises(AuthenticationError, match="QOS_API_KEY") as caught:
            make()
        assert_absent("CANARY", caught.value)


def test_a_callable_that_fails_is_named_but_not_quoted():
    def broken():
        raise KeyError(CANARY)

    with pytest.raises(AuthenticationError, match="KeyError") as caught:
        Secret(broken).read()
    graph = [caught.value.__cause__, caught.value.__context__, caught.value.args]
    assert_absent(CANARY, *graph)


def test_a_coroutine_function_raises_and_leaves_no_warning():
    async def later():
        return CANARY

    secret: Any = Secret
    with pytest.raises(AuthenticationError, match="coroutine"):
        secret(later).read()


@pytest.mark.fault("U19", "D2")
def test_a_secret_has_no_revealing_repr_and_cannot_be_pickled():
    secret = Secret(CANARY)
    assert repr(secret) == str(secret) == "Secret(***)"
    for save in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="Secret"):
            save(secret)


@pytest.mark.fault("U19")
@pytest.mark.parametrize(
    "text",
    [
        f"key {CANARY} expired",
        "https://x/?key=CANARY%2F7%2B%22%26%3D%3Cx%3E",
        str(URL("https://x/").with_query(key=CANARY)),
        '{"key": "CANARY/7+\\"&=<x>"}',
        "<b>CANARY/7+&quot;&amp;=&lt;x&gt;</b>",
    ],
    ids=["raw", "quoted", "yarl", "json", "html"],
)
def test_the_key_is_redacted_in_every_encoding(text):
    assert "***" in Secret(CANARY).redact(text)
    assert_absent("CANARY", Secret(CANARY).redact(text))


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1))
def test_a_request_with_the_key_is_detected(key):
    secret = Secret(key[:256])
    key = secret.read()
    url = URL("https://host/path")
    assert secret.is_in_request({"key": key}, url)
    assert secret.is_in_request({}, url.update_query(key=key))
    assert not secret.is_in_request({"other": key + "x"}, url)


def chained(*, hidden: bool) -> BaseException:
    error = KeyError("hidden")
    error.__cause__ = None if hidden else ValueError(CANARY)
    error.__context__ = ValueError(CANARY)
    error.__suppress_context__ = hidden
    return error


def attached() -> BaseException:
    error = KeyError("hidden")
    error.request = {"headers": [(b"key", CANARY.encode())]}  # type: ignore[attr-defined]
    return error


def test_the_leak_check_finds_the_canary_in_all_places():
    group = ExceptionGroup("several", [KeyError(CANARY)])
    for hiding in (chained(hidden=False), chained(hidden=True), attached(), group):
        with pytest.raises(AssertionError, match="the secret is in"):
            assert_absent(CANARY, hiding)
    assert_absent(CANARY, KeyError("hidden"))
