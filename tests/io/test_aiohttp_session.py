"""The aiohttp session, its redirect guard, and address checks."""

from __future__ import annotations

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from qos_async._io.aiohttp_session import (
    AiohttpSession,
    RedirectRefusedError,
    check_url,
)
from qos_async._io.secret import Secret
from qos_async.errors import ClosedError
from tests.support.http_servers import CANARY, serving


class Thief:
    """A second listener, and a server that redirects to it."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.seen: list[str | None] = []
        self.target = URL()

    async def steal(self, request: web.Request) -> web.Response:
        self.seen.append(request.headers.get("key"))
        return web.Response()

    async def point(self, request: web.Request) -> web.Response:
        target = str(self.target.with_host("localhost").with_query(request.query))
        return web.Response(status=self.status, headers={"Location": target})


async def go(session: aiohttp.ClientSession, how: str, url: URL, key_in: str) -> None:
    headers = {"KEY": CANARY} if key_in == "header" else {}
    if key_in == "url":
        url = url.update_query(key=CANARY)
    if how == "post":
        async with session.post(url, headers=headers, data=b"{}"):
            pass
    else:
        await session.ws_connect(url, headers=headers)


@pytest.mark.fault("T18")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("how", ["post", "ws"])
@pytest.mark.parametrize("key_in", ["header", "url"])
@pytest.mark.parametrize("whose", ["own", "borrowed"])
async def test_no_redirect_carries_the_key_elsewhere(status, how, key_in, whose):
    thief = Thief(status)
    secret = Secret(CANARY)
    async with (
        serving(thief.steal) as thief.target,
        serving(thief.point) as url,
        aiohttp.ClientSession() as session,
    ):
        lease = AiohttpSession(
            secret, borrowed=session if whose == "borrowed" else None
        )
        with pytest.raises(RedirectRefusedError):
            await go(lease.session(), how, url, key_in)
        await lease.aclose()
    assert thief.seen == []


async def test_a_borrowed_session_still_follows_redirects_without_the_key():
    thief = Thief(307)
    async with (
        serving(thief.steal) as thief.target,
        serving(thief.point) as url,
        aiohttp.ClientSession() as session,
    ):
        lease = AiohttpSession(Secret(CANARY), borrowed=session)
        assert lease.session() is session
        async with session.post(url, headers={"key": "another"}, data=b""):
            pass
        await lease.aclose()
    assert thief.seen == ["another"]


async def test_a_borrowed_session_is_left_open_and_unchanged():
    async with aiohttp.ClientSession() as session:
        first = AiohttpSession(Secret("one"), borrowed=session)
        second = AiohttpSession(Secret("two"), borrowed=session)
        assert first.session() is first.session() is second.session() is session
        assert len(session.trace_configs) == 2
        await first.aclose()
        assert len(session.trace_configs) == 1
        await second.aclose()
        await second.aclose()
        assert session.trace_configs == []
        assert not session.closed


@pytest.mark.fault("U19", "D3")
async def test_an_owned_session_is_opened_once_and_closed():
    lease = AiohttpSession(Secret(CANARY))
    session = lease.session()
    assert lease.session() is session
    assert isinstance(session.cookie_jar, aiohttp.DummyCookieJar)
    assert not session.trust_env
    await lease.aclose()
    assert session.closed
    with pytest.raises(ClosedError):
        lease.session()


async def test_an_unused_session_opens_nothing():
    await AiohttpSession(Secret(CANARY)).aclose()


async def test_a_borrowed_session_that_was_closed_raises():
    session = aiohttp.ClientSession()
    await session.close()
    lease = AiohttpSession(Secret(CANARY), borrowed=session)
    with pytest.raises(ClosedError, match="borrowed"):
        lease.session()


@pytest.mark.parametrize(
    "url",
    [
        "https://api.qos.hk",
        "https://api.qos.hk/",
        "http://localhost:8080",
        "http://127.9.9.9",
        "http://[::1]:80/x",
    ],
)
def test_an_address_that_keeps_the_key_safe_is_accepted(url):
    assert check_url(url, schemes=("https", "http")) == URL(url)


@pytest.mark.fault("D1")
@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://api.qos.hk", "unencrypted.*https"),
        ("http://127.0.0.1.evil.org", "unencrypted"),
        ("http://localhost.evil.org", "unencrypted"),
        ("http://192.168.0.1", "unencrypted"),
        ("wss://api.qos.hk", "starts with"),
        ("api.qos.hk", "starts with"),
        ("https://", "starts with"),
        ("", "starts with"),
        ("https://host:port", "starts with"),
        ("https://api.qos.hk/#part", "fragment"),
    ],
)
def test_an_address_that_exposes_the_key_raises(url, why):
    with pytest.raises(ValueError, match=why) as caught:
        check_url(url, schemes=("https", "http"))
    assert url.partition("#")[0] in str(caught.value)


def test_a_password_in_an_address_raises_and_is_not_shown():
    for url in ("https://user:hunter2@api.qos.hk", "http://user:hunter2@api.qos.hk"):
        with pytest.raises(ValueError, match=r"api\.qos\.hk.*user name") as caught:
            check_url(url, schemes=("https", "http"))
        assert "hunter2" not in str(caught.value)


def test_a_malformed_address_is_shown_without_its_secrets():
    for url in ("https://user:hunter2@host:port", "ftp:x?key=hunter2"):
        with pytest.raises(ValueError, match="starts with") as caught:
            check_url(url, schemes=("https", "http"))
        assert "hunter2" not in str(caught.value)


def test_allow_insecure_accepts_an_unencrypted_address():
    url = "ws://10.0.0.1/ws"
    with pytest.raises(ValueError, match="use wss"):
        check_url(url, schemes=("wss", "ws"))
    assert check_url(url, schemes=("wss", "ws"), allow_insecure=True) == URL(url)
