"""Places of streams, and the credentials for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from qos_async.jetstream.places import (
    Credentials,
    ServerAddress,
    is_stream,
    parse_place,
)
from tests.support.leak_check import assert_absent

SECRET = "hunter-2"


def parse(place: str, **environ: str):
    return parse_place(place, environ)


def test_a_place_names_servers_and_a_stream():
    place = parse("nats://a:4000,nats://b/QOS")
    assert place.servers == (ServerAddress("a", 4000), ServerAddress("b", 4222))
    assert (place.stream, place.tls, bool(place.credentials)) == ("QOS", False, False)
    assert str(place) == "nats://a:4000,nats://b:4222/QOS"


def test_the_scheme_may_stand_before_the_first_server_only():
    assert parse("tls://a,b:1/Q") == parse("tls://a,tls://b:1/Q")
    assert parse("tls://a,b:1/Q").tls


def test_an_ipv6_address_stands_in_brackets():
    place = parse("nats://[::1]:4223/QOS")
    assert place.servers == (ServerAddress("::1", 4223),)
    assert str(place) == "nats://[::1]:4223/QOS"


def test_only_text_that_begins_with_nats_or_tls_is_a_stream():
    assert is_stream("nats://a/Q")
    assert is_stream("TLS://a/Q")
    assert not is_stream("recordings")
    assert not is_stream(Path("nats://a/Q"))


@pytest.mark.parametrize(
    "place",
    [f"nats://joe:{SECRET}@a/Q", f"nats://joe:{SECRET}@a,nats://joe:{SECRET}@b/Q"],
)
def test_a_user_and_a_password_may_stand_before_the_host(place):
    assert parse(place).credentials == Credentials(user="joe", password=SECRET)


def test_a_single_word_before_the_host_is_a_token():
    assert parse("nats://t%2Fk@a/Q").credentials == Credentials(token="t/k")


def test_credentials_come_from_the_environment(tmp_path):
    file = tmp_path / "user.creds"
    file.touch()
    user = parse("nats://a/Q", QOS_NATS_USER="joe", QOS_NATS_PASSWORD=SECRET)
    assert user.credentials == Credentials(user="joe", password=SECRET)
    token = parse("nats://a/Q", QOS_NATS_TOKEN=SECRET)
    assert token.credentials == Credentials(token=SECRET)
    creds = parse("nats://a/Q", QOS_NATS_CREDS=str(file))
    assert creds.credentials == Credentials(file=str(file))


def test_credentials_of_the_place_come_before_those_of_the_environment():
    place = parse("nats://joe:one@a/Q", QOS_NATS_TOKEN="two")
    assert place.credentials == Credentials(user="joe", password="one")


def test_certificates_in_the_environment_demand_tls(tmp_path):
    file = tmp_path / "ca.pem"
    file.touch()
    place = parse("nats://a/Q", QOS_NATS_CA=str(file))
    assert place.tls
    assert place.ca == str(file)


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"QOS_NATS_USER": "joe"}, "set both QOS_NATS_USER and QOS_NATS_PASSWORD"),
        ({"QOS_NATS_PASSWORD": SECRET}, "set both"),
        (
            {"QOS_NATS_TOKEN": SECRET, "QOS_NATS_USER": "j", "QOS_NATS_PASSWORD": "p"},
            "set only one of QOS_NATS_USER and QOS_NATS_TOKEN",
        ),
        ({"QOS_NATS_CREDS": "/no/such"}, "QOS_NATS_CREDS names /no/such"),
        ({"QOS_NATS_CA": "/no/such"}, "QOS_NATS_CA names /no/such"),
    ],
)
def test_an_environment_that_contradicts_itself_is_an_error(environ, message):
    with pytest.raises(ValueError, match=message):
        parse("nats://a/Q", **environ)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("nats://a", "the name of the stream is missing"),
        ("nats://", "the name of the stream is missing"),
        ("nats:///Q", "the name of the stream is missing"),
        ("nats://a/", "a stream is named by"),
        ("nats://a/Q.X", "a stream is named by"),
        ("nats://a/Q*", "a stream is named by"),
        ("nats://a:x/Q", "a port is a number"),
        ("nats://a:0/Q", "a port is a number"),
        ("nats://a:70000/Q", "a port is a number"),
        ("nats://a,tls://b/Q", "the same scheme"),
        ("nats://a,http://b/Q", "expected nats:// or tls://"),
        ("nats://a,,b/Q", "a server is a host and a port"),
        ("nats://a/b/Q", "a server is a host and a port"),
        ("nats://a?x=1/Q", "a server is a host and a port"),
        ("nats://j:1@a,nats://j:2@b/Q", "the same credentials"),
        ("nats://:pass@a/Q", "a user is missing"),
    ],
)
def test_a_malformed_place_is_an_error_with_the_reason(place, message):
    with pytest.raises(ValueError, match=message):
        parse(place)


@pytest.mark.parametrize(
    "place",
    [
        f"nats://joe:{SECRET}@a",
        f"nats://joe:{SECRET}@a/Q.X",
        f"nats://joe:{SECRET}/x@a/Q",
        f"nats://joe:x,{SECRET}@a/Q",
        f"nats://joe:{SECRET}/Q",
        f"nats://joe:1@a,nats://joe:{SECRET}@b/Q",
        f"nats://:{SECRET}@a/Q",
        f"nats://joe:{SECRET}@a:x/Q",
    ],
)
def test_a_password_shows_in_no_error(place):
    with pytest.raises(ValueError, match="malformed place") as caught:
        parse(place)
    assert_absent(SECRET, caught.value)


def test_a_password_shows_in_no_repr():
    place = parse(f"nats://joe:{SECRET}@a/Q")
    assert SECRET not in f"{place} {place!r} {place.credentials!r} {place.credentials}"
    assert place.credentials.redact(f"no {SECRET}!") == "no ***!"
