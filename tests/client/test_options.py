"""Invalid options raise at once with a reason; unclosed clients warn."""

from __future__ import annotations

import asyncio
import gc
import ssl
from typing import Any

import aiohttp
import pytest

from qos_async import (
    Client,
    ClosedError,
    DropOldest,
    Latest,
    Limits,
    Strict,
    Timing,
    Topic,
)
from qos_async.sim import Simulator
from tests.support.leak_check import assert_absent
from tests.support.memory_transport import KEY

WRONG: list[tuple[str, Any, str]] = [
    ("proxy", "host:3128", "http://host:3128"),
    ("proxy", "socks5://host:1080", "http:// or https://"),
    ("proxy", "http://", "http:// or https://"),
    ("proxy", "http://a..b", "http:// or https://"),
    ("proxy", "", "http:// or https://"),
    ("proxy", 3128, "str or None, not int"),
    ("ssl", False, "SSLContext"),
    ("ssl", None, "SSLContext"),
    ("ssl", 0, "SSLContext"),
    ("ssl", 1, "SSLContext"),
    ("ssl", "x", "SSLContext"),
    ("session", "x", "ClientSession"),
    ("session", aiohttp.ClientSession, "ClientSession"),
    ("limits", {"symbols": 3}, "Limits"),
    ("limits", 0, "Limits"),
    ("limits", Limits, "Limits"),
    ("timing", 5.0, "Timing"),
    ("timing", Timing, "Timing"),
    ("http_url", 5, "str or None, not int"),
    ("http_url", "", "starts with"),
    ("http_url", b"https://api.qos.hk", "str or None, not bytes"),
    ("stream_url", 5, "str or None, not int"),
    ("stream_url", "wss://a..b/ws", "host name"),
    ("http_url", "https://a..b", "host name"),
    ("http_url", f"https://{'a' * 64}.hk", "host name"),
    ("key", 5, "str, a callable or None, not int"),
    ("key", KEY.encode(), "str, a callable or None, not bytes"),
    ("allow_insecure", "no", "bool"),
    ("recover", None, "bool"),
    ("numbers", "float", "Decimal"),
    ("key_in", ["header"], "header"),
]


@pytest.mark.parametrize(("option", "value", "words"), WRONG)
async def test_an_invalid_option_is_named(option, value, words):
    with pytest.raises(ValueError, match=words) as caught:
        Client(**{"key": KEY, option: value})
    if not option.endswith("_url"):
        assert str(caught.value).startswith(f"{option}")
    assert_absent(KEY, caught.value)


async def test_a_closed_session_raises():
    async with aiohttp.ClientSession() as session:
        pass
    with pytest.raises(ValueError, match=r"session .* closed"):
        Client(KEY, session=session)


def test_no_password_is_shown():
    for proxy in ("socks5://user:hunter2@host:1", "user:hunter2@host:1"):
        with pytest.raises(ValueError, match="proxy") as caught:
            Client(KEY, proxy=proxy)
        assert "hunter2" not in str(caught.value)


async def test_valid_options_are_accepted():
    print_ = aiohttp.Fingerprint(b"x" * 32)
    async with aiohttp.ClientSession() as session:
        for options in (
            {"proxy": "http://user:pw@host:3128", "session": session},
            {"proxy": "https://host"},
            {"ssl": ssl.create_default_context()},
            {"ssl": print_},
            {"http_url": "https://bücher.example", "stream_url": "wss://[2001:db8::1]"},
            {"http_url": "https://a_b.example.", "recover": False},
        ):
            Client(lambda: KEY, **options)


@pytest.mark.parametrize("buffer", [0, False, 10, "x", DropOldest, Latest, Strict, []])
async def test_an_invalid_buffer_raises_before_anything_starts(buffer):
    client = Client(KEY)
    for verb in (client.watch_trades, client.watch_snapshots, client.watch_depth):
        with pytest.raises(ValueError, match="buffer must be") as caught:
            verb("US:AAPL", buffer=buffer)
    if isinstance(buffer, type):
        assert f"call it, {buffer.__name__}()" in str(caught.value)
    with pytest.raises(ValueError, match="buffer"):
        client.watch_klines("US:AAPL", interval="1m", buffer=buffer)
    with pytest.raises(ValueError, match="buffer"):
        client.watch(Topic("trade", "US:AAPL"), buffer=buffer)
    assert client.state == "idle"
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize("wrong", ["US:AAPL", None, ("trade", "US:AAPL")])
async def test_a_wrong_topic_is_a_value_error(wrong):
    with pytest.raises(ValueError, match="expected a Topic"):
        Client(KEY).watch(wrong)


# The end, and other loops


async def test_a_closed_client_does_not_wait_for_the_quota(start, dial):
    sim = await start(plan=Limits(http_requests=1, http_period=60.0))
    client = dial(sim)
    await client.fetch_snapshots("US:AAPL")
    await client.aclose()
    async with asyncio.timeout(0.5):
        with pytest.raises(ClosedError):
            await client.fetch_snapshots("US:AAPL")
        with pytest.raises(ClosedError):
            await client.fetch_calendar("US")
        with pytest.raises(ClosedError):
            await anext(client.iter_history("US:AAPL", interval="1m", start=1.0))


async def test_a_client_that_is_closing_accepts_no_requests(sim, dial, monkeypatch):
    client = dial(sim)
    await client.fetch_snapshots("US:AAPL")
    running, on = asyncio.Event(), asyncio.Event()

    async def stop() -> None:
        running.set()
        await on.wait()

    monkeypatch.setattr(client._stream, "stop", stop)
    closing = asyncio.create_task(client.aclose())
    await running.wait()
    with pytest.raises(ClosedError):
        await client.fetch_snapshots("US:AAPL")
    on.set()
    await closing


def elsewhere(work: Any) -> BaseException | None:
    try:
        asyncio.run(work)
    except Exception as exc:  # noqa: BLE001
        return exc
    return None


@pytest.mark.fault("U14")
def test_a_second_event_loop_raises_with_an_explanation():
    async def begin() -> Client:
        async with Simulator(key=KEY) as sim:
            client = Client(KEY, http_url=sim.http_url, stream_url=sim.stream_url)
            await client.fetch_snapshots("US:AAPL")
            return client

    async def watch() -> None:
        client.watch_trades("US:AAPL")

    client = asyncio.run(begin())
    for work in (
        client.fetch_snapshots("US:AAPL"),
        client.fetch_snapshots("US:AAPL", via="stream"),
        client.connect(),
        watch(),
    ):
        error = elsewhere(work)
        assert type(error) is RuntimeError
        assert str(error) == (
            "this client belongs to another event loop: make a new Client in this one"
        )
    assert elsewhere(client.aclose()) is None
    assert type(elsewhere(watch())) is ClosedError


@pytest.mark.fault("U3", "U13")
async def test_a_client_that_was_not_closed_warns(sim, dial):
    async with aiohttp.ClientSession() as session:
        client = dial(sim, session=session)
        await client.fetch_snapshots("US:AAPL")
        open_ones = [client]
        del client
        with pytest.warns(ResourceWarning, match="Unclosed client"):
            open_ones.clear()


@pytest.mark.fault("U13")
async def test_only_a_client_that_was_used_and_not_closed_warns(
    sim, dial, recwarn: pytest.WarningsRecorder
):
    unused, closed = dial(sim), dial(sim)
    await closed.fetch_snapshots("US:AAPL")
    await closed.aclose()
    with pytest.raises(ValueError, match="ssl"):
        dial(sim, ssl=None)
    del unused, closed
    gc.collect()
    assert [str(one.message) for one in recwarn] == []
