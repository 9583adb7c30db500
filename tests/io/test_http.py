"""The HTTP client against real servers on the loopback."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import logging
import shutil
import socket
import ssl
import subprocess
import sys
import zlib
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from qos_async._core.queries import Queries, merge
from qos_async._io.retry import ATTEMPTS, Patience
from qos_async.config import Limits, Timing
from qos_async.errors import (
    AuthenticationError,
    ClosedError,
    ConnectError,
    DecodeError,
    LimitError,
    QosError,
    RejectedError,
    RequestTimeoutError,
    TransportError,
)
from tests.support.http_servers import (
    CANARY,
    HttpCounters,
    Waits,
    http_client,
    ok,
    serving,
)
from tests.support.leak_check import assert_absent

QUERIES = Queries(Decimal, chunk=10)
SAMPLES = Path(__file__).parent.parent / "samples"
IMPATIENT = Timing(request_timeout=0.15, connect_timeout=5.0)
[SNAPSHOTS] = QUERIES.snapshots(["US:AAPL", "US:TSLA"])
[SINGLE] = QUERIES.snapshots(["US:NONE"])


def saying(status: int = 200, body: str | bytes = b"", **headers: str) -> Any:
    async def handle(request: web.Request) -> web.Response:
        data = body.encode() if isinstance(body, str) else body
        return web.Response(status=status, body=data, headers=headers)

    return handle


def rejecting(msg: str, status: int = 200) -> Any:
    return saying(status, json.dumps({"msg": msg}))


async def test_a_query_is_a_post_with_the_key_in_a_header():
    seen = []

    async def handle(request: web.Request) -> web.Response:
        seen.append((request.method, request.path_qs, request.headers.copy()))
        assert await request.json() == {"codes": ["US:AAPL,TSLA"]}
        return ok([{"c": "US:TSLA", "lp": "246.5"}])

    async with serving(handle) as url, http_client(url / "v1/") as http:
        found = await http.fetch(SNAPSHOTS)
    assert found["US:TSLA"].last_price == Decimal("246.5")
    assert merge([SNAPSHOTS], [found]).missing == ("US:AAPL",)
    [(method, path, headers)] = seen
    assert (method, path) == ("POST", "/v1/snapshot")
    assert headers["Content-Type"] == "application/json"
    assert headers["key"] == CANARY


async def test_the_key_is_sent_in_the_url_if_configured():
    seen = []

    async def handle(request: web.Request) -> web.Response:
        seen.append((request.path, request.query["key"], request.headers.get("key")))
        return ok([])

    async with serving(handle) as url, http_client(url, key_in="url") as http:
        await http.fetch(SNAPSHOTS)
    assert seen == [("/snapshot", CANARY, None)]


async def test_path_and_query_of_the_address_are_kept():
    seen = []

    async def handle(request: web.Request) -> web.Response:
        seen.append(request.path_qs)
        return ok([])

    async with serving(handle) as url:
        for key_in in ("header", "url"):
            async with http_client(
                f"{url}/gate?to=qos", key="k", key_in=key_in
            ) as http:
                await http.fetch(SNAPSHOTS)
    assert seen == ["/gate/snapshot?to=qos", "/gate/snapshot?to=qos&key=k"]


async def test_the_key_is_read_for_each_attempt():
    keys = iter(["old", "new"])
    seen = []

    async def handle(request: web.Request) -> web.Response:
        seen.append(request.headers["key"])
        return ok([]) if len(seen) == 2 else web.Response(status=500)

    async with serving(handle) as url, http_client(url, key=lambda: next(keys)) as http:
        await http.fetch(SNAPSHOTS)
    assert seen == ["old", "new"]


@pytest.mark.parametrize(
    "name", [path.name for path in sorted(SAMPLES.glob("http-*.response.json"))]
)
async def test_recorded_responses_are_decoded_over_http(name):
    body = (SAMPLES / name).read_bytes()
    rows = json.loads(body)["data"]
    names = [row["c"] for row in rows] if isinstance(rows, list) else []
    requested: dict[str, Any] = {
        "http-depth": lambda: QUERIES.depths(names)[0],
        "http-history": lambda: QUERIES.history(names, interval="1d", end=0)[0],
        "http-instrument-info": lambda: QUERIES.instruments(names)[0],
        "http-kline": lambda: QUERIES.klines(names, interval="1d")[0],
        "http-snapshot": lambda: QUERIES.snapshots(names)[0],
        "http-trade": lambda: QUERIES.trades(names)[0],
        "http-market-calendar": lambda: QUERIES.calendar(rows),
        "http-product-list": lambda: QUERIES.products(rows),
    }
    query = requested[name.partition(".")[0]]()
    async with serving(saying(200, body)) as url, http_client(url) as http:
        found = await http.fetch(query)
    assert set(found) == set(names or rows)


async def failed_fetch(
    handler: Any, query: Any = SNAPSHOTS, **options: Any
) -> QosError:
    async with serving(handler) as url, http_client(url, **options) as http:
        with pytest.raises(QosError) as caught:
            await http.fetch(query)
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert_absent(CANARY, caught.value)
    return caught.value


REFUSALS = {
    "a refusal": (rejecting("codes error"), RejectedError, "codes error"),
    "an expired key": (rejecting("Key expired."), AuthenticationError, "Key expired"),
    "words of the plan": (rejecting("symbol limit"), LimitError, "symbol limit"),
    "400 with words": (rejecting("bad codes", 400), RejectedError, "bad codes"),
    "404 without": (saying(404, "<html>"), RejectedError, "HTTP 404"),
    "401": (saying(401), AuthenticationError, "has not expired"),
    "403 with words": (rejecting("go away", 403), AuthenticationError, "go away"),
    "403, of the plan": (rejecting("limit", 403), LimitError, "limit"),
    "500, of the key": (rejecting("Key expired.", 500), AuthenticationError, "expired"),
    "400 saying OK": (rejecting("OK", 400), RejectedError, "HTTP 400"),
    "other rows": (saying(200, '{"msg":"OK","data":[7]}'), DecodeError, r"\[7\]"),
    "a redirect": (saying(307, Location="/x"), ConnectError, "set http_url"),
    "not modified": (saying(304), ConnectError, "set http_url"),
}


@pytest.mark.fault("P26", "T17")
@pytest.mark.parametrize("name", REFUSALS)
async def test_a_permanent_error_is_raised_without_a_retry(name):
    handler, kind, words = REFUSALS[name]
    counters = HttpCounters()
    error = await failed_fetch(handler, counters=counters)
    assert type(error) is kind
    assert (counters.requests, counters.retries) == (1, 0)
    with pytest.raises(kind, match=words):
        raise error


async def test_a_rejection_names_the_operation_and_a_single_symbol():
    error = await failed_fetch(rejecting("no such code"), SINGLE)
    assert isinstance(error, RejectedError)
    assert (error.operation, error.symbols) == ("/snapshot", ("US:NONE",))
    error = await failed_fetch(rejecting("no such code"))
    assert isinstance(error, RejectedError)
    assert error.symbols == ()


FAILURES: dict[str, tuple[Any, type[QosError]]] = {
    "503": (saying(503, "<html>busy"), TransportError),
    "500 with words": (rejecting("internal error", 500), RejectedError),
    "429": (saying(429), LimitError),
    "429 with words": (rejecting("slow down", 429), LimitError),
    "too frequent": (rejecting("Request too frequent."), LimitError),
    "too frequent in Chinese": (rejecting("请求过于频繁"), LimitError),
    "400, too frequent": (rejecting("too frequent", 400), LimitError),
    "busy": (rejecting("server busy, try again later"), RejectedError),
    "busy in Chinese": (rejecting("系统繁忙"), RejectedError),
    "html": (saying(200, "<html>hi\x1b</html>"), DecodeError),
    "nothing": (saying(204), DecodeError),
    "empty": (saying(200, ""), DecodeError),
    "other json": (saying(200, "[1]"), DecodeError),
    "deep json": (saying(200, '{"x":' + "[" * 100_000), DecodeError),
    **{
        str(status): (saying(status, "<html>"), TransportError)
        for status in (408, 425, 500, 502, 504, *range(520, 528), 530)
    },
}
UNREADABLE = {
    "html": (saying(200, "<html>hi\x1b</html>"), r"<html>hi\\x1b"),
    "nothing": (saying(204), "not JSON with a msg"),
    "other json": (saying(200, "[1]"), r"\[1\]"),
    "deep json": (saying(200, '{"x":' + "[" * 100_000), r"\[\[\["),
}


@pytest.mark.fault("P26")
@pytest.mark.parametrize("name", UNREADABLE)
async def test_the_error_for_an_unreadable_response_shows_its_beginning(name):
    handler, words = UNREADABLE[name]
    error = await failed_fetch(handler)
    with pytest.raises(DecodeError, match=words):
        raise error


@pytest.mark.fault("P25", "T16")
@pytest.mark.parametrize("name", FAILURES)
async def test_a_transient_error_is_retried_and_then_raised(name):
    handler, kind = FAILURES[name]
    counters, waits = HttpCounters(), Waits()
    options: dict[str, Any] = {"counters": counters, "sleep": waits}
    error = await failed_fetch(handler, rng=lambda: 1.0, **options)
    assert type(error) is kind
    assert counters.requests == ATTEMPTS
    assert counters.retries == ATTEMPTS - 1
    assert waits.seconds == [0.5, 1.0, 2.0]


@pytest.mark.fault("P26", "U19")
async def test_the_servers_text_is_escaped_cut_and_without_the_key():
    error = await failed_fetch(rejecting(f"codes \n\x1b[31m {CANARY} {'x' * 500}"))
    assert isinstance(error, RejectedError)
    assert r"\n\x1b[31m ***" in error.message
    assert len(error.message) < 250


@pytest.mark.parametrize("before", range(186, 200, 4))
async def test_a_key_in_an_undecodable_response_is_redacted_before_the_cut(before):
    echo = "x" * before + CANARY
    for body in (echo, json.dumps({"msg": "OK", "data": echo})):
        async with serving(saying(200, body)) as url, http_client(url) as http:
            with pytest.raises(DecodeError) as caught:
                await http.fetch(SNAPSHOTS)
        assert_absent("canar", caught.value)


@pytest.mark.fault("T18")
async def test_no_request_follows_a_redirect():
    seen = []

    async def thief(request: web.Request) -> web.Response:
        seen.append(request.headers.get("key"))
        return ok([])

    async with serving(thief) as elsewhere:
        error = await failed_fetch(saying(308, Location=str(elsewhere)))
    assert isinstance(error, ConnectError)
    assert seen == []


@pytest.mark.fault("P26")
async def test_a_small_response_that_decompresses_to_a_huge_one_raises_in_little_memory():
    packer = zlib.compressobj(wbits=31)
    block = bytes(1024 * 1024)
    first = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    bomb = first + again * 999  # About 1 MB, 1 GB decompressed.
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    error = await failed_fetch(saying(200, bomb, **{"Content-Encoding": "gzip"}))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert isinstance(error, DecodeError)
    assert "too large" in str(error)
    unit = 1024 if sys.platform == "linux" else 1
    assert grown * unit < 150 * 1024 * 1024


async def test_a_large_compressed_response_is_decoded():
    rows = [{"c": "US:AAPL", "lp": "1", "pad": "x" * 3_000_000}]
    packed = gzip.compress(json.dumps({"msg": "OK", "data": rows}).encode())
    handler = saying(200, packed, **{"Content-Encoding": "gzip"})
    async with serving(handler) as url, http_client(url) as http:
        assert [*await http.fetch(SNAPSHOTS)] == ["US:AAPL"]


async def once(broken: Any) -> tuple[list[Any], Any]:
    """Respond with ``broken`` first, then correctly."""
    seen: list[Any] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        seen.append(request)
        found: web.StreamResponse = (
            await broken(request) if len(seen) == 1 else ok([{"c": "US:TSLA"}])
        )
        return found

    return seen, handle


async def cut(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"msg":"OK","data":[')
    assert request.transport is not None
    request.transport.abort()
    return response


async def hang_up(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


ROWS = gzip.compress(json.dumps({"msg": "OK", "data": [{"c": "US:TSLA"}]}).encode())


async def cut_gzip(request: web.Request) -> web.StreamResponse:
    """Cut within the compressed body; ``Content-Length`` is right."""
    return web.Response(body=ROWS[:-20], headers={"Content-Encoding": "gzip"})


async def cut_body(request: web.Request) -> web.StreamResponse:
    """Cut a body that only the end of the connection delimits."""
    assert request.transport is not None
    request.transport.write(
        b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"msg":"OK","da'
    )
    request.transport.close()
    return web.Response()


ONCE = {
    "gzip cut": cut_gzip,
    "body cut": cut_body,
    "nothing": saying(200),
    "html": saying(200, "<html>"),
    "408": saying(408),
    "425": saying(425),
    "429": saying(429),
    "521": saying(521),
    "too frequent": rejecting("Request too frequent."),
}


@pytest.mark.fault("F16", "F21")
@pytest.mark.parametrize("name", ONCE)
async def test_what_may_succeed_later_is_requested_again(name):
    seen, handle = await once(ONCE[name])
    async with serving(handle) as url, http_client(url) as http:
        assert [*await http.fetch(SNAPSHOTS)] == ["US:TSLA"]
    assert len(seen) == 2


PLAN = Limits(http_requests=100_000, http_period=60.0)
TOO_FAST = {
    "429": saying(429),
    "429 with words": rejecting("slow down", 429),
    "too frequent": rejecting("Request too frequent."),
    "too frequent in Chinese": rejecting("访问频率过高"),
}


@pytest.mark.fault("F33")
@pytest.mark.parametrize("name", TOO_FAST)
async def test_a_refusal_for_the_pace_waits_for_the_period_of_the_plan(name):
    waits, counters = Waits(), HttpCounters()
    options: dict[str, Any] = {"sleep": waits, "limits": PLAN, "counters": counters}
    error = await failed_fetch(TOO_FAST[name], **options)
    assert isinstance(error, LimitError)
    assert waits.seconds == [60.0, 60.0, 60.0]
    assert counters.requests == ATTEMPTS


@pytest.mark.fault("F33")
async def test_a_second_refusal_for_the_pace_waits_for_the_period_whatever_it_asks():
    waits = Waits()
    handler = saying(429, **{"Retry-After": "2"})
    await failed_fetch(handler, sleep=waits, limits=PLAN)
    assert waits.seconds == [2.0, 60.0, 60.0]


@pytest.mark.fault("F33")
async def test_a_date_of_retry_after_is_one_of_the_servers_clock():
    waits = Waits()
    dates = {
        "Date": "Thu, 01 Jan 2015 00:00:00 GMT",
        "Retry-After": "Thu, 01 Jan 2015 00:00:42 GMT",
    }
    await failed_fetch(saying(503, **dates), sleep=waits)
    assert waits.seconds == [42.0, 42.0, 42.0]


def failing(times: int, broken: Any) -> Any:
    """Respond correctly to the first request, and again after ``times`` failures."""
    seen: list[Any] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        seen.append(request)
        if 1 < len(seen) <= times + 1:
            found: web.StreamResponse = await broken(request)
            return found
        return ok([{"c": "US:TSLA"}])

    return handle


@pytest.mark.fault("F33")
@pytest.mark.parametrize("name", ["429", "503", "hang up"])
async def test_a_long_job_waits_for_as_long_as_it_takes(name):
    broken = {"429": saying(429), "503": saying(503), "hang up": hang_up}[name]
    told: list[tuple[QosError, float]] = []
    patience, waits = Patience(lambda *wait: told.append(wait)), Waits()
    async with (
        serving(failing(20, broken)) as url,
        http_client(url, sleep=waits, limits=PLAN, rng=lambda: 1.0) as http,
    ):
        for _ in range(2):
            found = await http.fetch(SNAPSHOTS, patience=patience)
            assert [*found] == ["US:TSLA"]
    assert [seconds for _, seconds in told] == waits.seconds
    assert (len(waits.seconds), waits.seconds[-1]) == (20, 60.0)


@pytest.mark.fault("F33")
@pytest.mark.parametrize(
    ("broken", "kind", "requests"),
    [
        pytest.param(rejecting("Key expired."), AuthenticationError, 1, id="key"),
        pytest.param(rejecting("no such code"), RejectedError, 1, id="code"),
        pytest.param(saying(404), RejectedError, 1, id="404"),
        pytest.param(saying(200, "<html>"), DecodeError, ATTEMPTS, id="html"),
    ],
)
async def test_what_waiting_cannot_change_ends_a_long_job(broken, kind, requests):
    patience, counters = Patience(), HttpCounters()
    async with (
        serving(failing(100, broken)) as url,
        http_client(url, counters=counters) as http,
    ):
        await http.fetch(SNAPSHOTS, patience=patience)
        with pytest.raises(kind):
            await http.fetch(SNAPSHOTS, patience=patience)
    assert counters.requests == 1 + requests


@pytest.mark.fault("F33")
async def test_a_long_job_does_not_begin_without_a_network():
    counters = HttpCounters()
    async with http_client("http://127.0.0.1:1", counters=counters) as http:
        with pytest.raises(ConnectError):
            await http.fetch(SNAPSHOTS, patience=Patience())
    assert counters.requests == ATTEMPTS


async def stall(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(5)
    return web.Response()


async def drip(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(100):
        await response.write(b" ")
        await asyncio.sleep(0.02)
    return response


@pytest.mark.fault("P26")
@pytest.mark.parametrize("broken", [cut, hang_up, stall, drip])
async def test_a_broken_or_slow_connection_is_retried(broken):
    seen, handle = await once(broken)
    counters = HttpCounters()
    async with (
        serving(handle) as url,
        http_client(url, timing=IMPATIENT, counters=counters) as http,
        asyncio.timeout(2),
    ):
        assert [*await http.fetch(SNAPSHOTS)] == ["US:TSLA"]
    assert (len(seen), counters.retries) == (2, 1)


async def test_a_missing_response_is_a_timeout():
    timing = Timing(request_timeout=0.05)
    error = await failed_fetch(stall, timing=timing)
    assert isinstance(error, RequestTimeoutError)
    assert isinstance(error, TimeoutError)
    assert "0.05 s" in str(error)


async def test_a_refused_connection_is_a_connect_error_and_uses_no_slot():
    async with serving(saying()) as url:
        pass
    counters = HttpCounters()
    limits = Limits(http_requests=1, http_period=60.0)
    async with (
        http_client(url, counters=counters, limits=limits) as http,
        asyncio.timeout(2),
    ):
        with pytest.raises(ConnectError, match="cannot be reached") as caught:
            await http.fetch(SNAPSHOTS)
    assert counters.requests == ATTEMPTS
    assert_absent(CANARY, caught.value)


async def alert(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(10)
    writer.write(b"\x15\x03\x03\x00\x02\x02\x50")  # internal_error
    await writer.drain()
    writer.close()


async def fin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(10)
    writer.close()


@pytest.mark.fault("T21")
@pytest.mark.parametrize("greet", [alert, fin])
async def test_a_broken_tls_handshake_is_retried(greet):
    counters = HttpCounters()
    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        async with http_client(f"https://{host}:{port}", counters=counters) as http:
            with pytest.raises(TransportError) as caught:
                await http.fetch(SNAPSHOTS)
    assert "cannot be trusted" not in str(caught.value)
    assert counters.requests == ATTEMPTS
    assert_absent(CANARY, caught.value)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Return a self-signed certificate."""
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("needs openssl")
    made = tmp_path / "both.pem"
    words = f"req -x509 -nodes -newkey rsa:2048 -keyout {made} -subj /CN=x"
    done = subprocess.run(
        [openssl, *words.split()], capture_output=True, check=True, text=True
    )
    with made.open("a") as file:
        file.write(done.stdout)
    return made


def distrusted(listener: socket.socket, certificate: Path) -> None:
    """Accept two TLS handshakes that fail, without errors logged by asyncio."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    for _ in range(2):
        with (
            contextlib.suppress(OSError),
            listener.accept()[0] as peer,
            context.wrap_socket(peer, server_side=True) as wrapped,
        ):
            wrapped.recv(1)


@pytest.mark.fault("T20")
async def test_an_untrusted_server_raises_without_a_retry(certificate):
    counters = HttpCounters()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        server = asyncio.create_task(
            asyncio.to_thread(distrusted, listener, certificate)
        )
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        for trust in (True, aiohttp.Fingerprint(b"x" * 32)):
            async with http_client(url, counters=counters, ssl=trust) as http:
                with pytest.raises(ConnectError, match="cannot be trusted") as caught:
                    await http.fetch(SNAPSHOTS)
            assert_absent(CANARY, caught.value)
        await server
    assert counters.requests == 2


@pytest.mark.fault("T19")
@pytest.mark.parametrize("broken", ["https://a..b", f"https://{'a' * 64}.hk"])
async def test_a_host_that_does_not_resolve_is_a_connect_error(broken):
    counters = HttpCounters()
    async with http_client(broken, counters=counters) as http:
        with pytest.raises(ConnectError, match="cannot be") as caught:
            await http.fetch(SNAPSHOTS)
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert counters.requests == 1
    assert_absent(CANARY, caught.value)


@pytest.mark.parametrize("kind", [ValueError, TypeError, UnicodeError, KeyError])
async def test_any_other_exception_is_a_connect_error(kind, monkeypatch):
    async with http_client("https://api.qos.hk") as http:

        async def exchange(*_: Any) -> Any:
            raise kind(CANARY)

        monkeypatch.setattr(http, "_exchange", exchange)
        with pytest.raises(ConnectError, match=f"request: {kind.__name__}") as caught:
            await http.fetch(SNAPSHOTS)
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert_absent(CANARY, caught.value)


async def test_a_server_without_http_raises_without_a_retry():
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        async with http_client(f"http://{host}:{port}") as http:
            with pytest.raises(ConnectError, match="does not speak HTTP") as caught:
                await http.fetch(SNAPSHOTS)
    assert_absent(CANARY, caught.value)


@pytest.mark.fault("T22")
async def test_a_proxy_that_rejects_is_named_without_its_password():
    requested: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requested.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(proxy, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        named = f"http://user:hunter2@{host}:{port}"
        async with http_client("https://api.qos.hk", proxy=named) as http:
            with pytest.raises(ConnectError, match=r"proxy .* HTTP 407") as caught:
                await http.fetch(SNAPSHOTS)
    assert_absent("hunter2", caught.value)
    assert_absent(CANARY, caught.value, *requested)
    assert len(requested) == 1


async def test_raise_for_status_of_a_borrowed_session_is_ignored():
    async with (
        aiohttp.ClientSession(raise_for_status=True) as session,
        serving(rejecting("bad codes", 400)) as url,
        http_client(url, borrowed=session) as http,
    ):
        with pytest.raises(RejectedError, match="bad codes") as caught:
            await http.fetch(SNAPSHOTS)
    assert_absent(CANARY, caught.value)


async def test_fetching_after_the_session_was_closed_raises_closed_error():
    async with http_client("http://127.0.0.1:1") as http:
        pass
    with pytest.raises(ClosedError):
        await http.fetch(SNAPSHOTS)


async def test_a_key_that_cannot_be_read_raises_and_uses_no_slot():
    keys: Any = iter([None, CANARY])
    limits = Limits(http_requests=1, http_period=60.0)
    async with (
        serving(saying(200, '{"msg":"OK"}')) as url,
        http_client(url, key=lambda: next(keys), limits=limits) as http,
        asyncio.timeout(1),
    ):
        with pytest.raises(AuthenticationError, match="no API key") as caught:
            await http.fetch(SNAPSHOTS)
        assert caught.value.__context__ is None
        assert await http.fetch(SNAPSHOTS) == {}


async def test_retries_are_logged_in_one_line_without_the_key(caplog):
    caplog.set_level(logging.DEBUG)
    await failed_fetch(rejecting(f"busy\n{CANARY}", 503), key_in="url")
    records = [one for one in caplog.records if one.name == "qos_async.http"]
    assert len(records) == ATTEMPTS - 1
    assert all("\n" not in one.getMessage() for one in records)
    assert all(one.levelno == logging.INFO for one in records)
    assert_absent(CANARY, *caplog.records)
    assert_absent(CANARY, caplog.text)


def gaps(times: list[float], requests: int) -> list[float]:
    return [
        later - first for first, later in zip(times, times[requests:], strict=False)
    ]


@pytest.mark.fault("P25")
async def test_the_server_never_sees_more_requests_than_the_plan_with_retries():
    times: list[float] = []

    async def handle(request: web.Request) -> web.Response:
        times.append(asyncio.get_running_loop().time())
        await asyncio.sleep(0.02 * (len(times) % 3))
        return ok([]) if len(times) > 3 else web.Response(status=500)

    limits = Limits(http_requests=3, http_period=0.15)
    async with (
        serving(handle) as url,
        http_client(url, limits=limits) as http,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(6):
            group.create_task(http.fetch(SNAPSHOTS))
    assert len(times) == 6 + 3
    assert min(gaps(times, 3)) >= 0.15


@pytest.mark.fault("P25")
async def test_waiting_calls_are_served_in_order_and_a_cancelled_one_uses_no_slot():
    order: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        order.append((await request.json())["codes"][0])
        return ok([])

    limits = Limits(http_requests=1, http_period=0.05)
    async with serving(handle) as url, http_client(url, limits=limits) as http:
        requested = [QUERIES.snapshots([f"US:{name}"])[0] for name in "ABCD"]
        tasks = [asyncio.create_task(http.fetch(query)) for query in requested]
        await asyncio.sleep(0.02)
        tasks[1].cancel()
        async with asyncio.timeout(1):
            await asyncio.gather(*tasks, return_exceptions=True)
    assert order == ["US:A", "US:C", "US:D"]
    assert tasks[1].cancelled()


async def test_a_request_cancelled_in_flight_releases_its_slot():
    arrived = asyncio.Event()

    async def arrive(request: web.Request) -> web.StreamResponse:
        arrived.set()
        return await stall(request)

    _, handle = await once(arrive)
    limits = Limits(http_requests=1, http_period=0.05)
    async with serving(handle) as url, http_client(url, limits=limits) as http:
        task = asyncio.create_task(http.fetch(SNAPSHOTS))
        await arrived.wait()
        task.cancel()
        async with asyncio.timeout(1):
            assert [*await http.fetch(SNAPSHOTS)] == ["US:TSLA"]


# Damaged bodies


@pytest.mark.fault("F22")
@pytest.mark.parametrize(
    "headers",
    ["Content-Encoding: deflate\r\nContent-Length: 9", "Transfer-Encoding: chunked"],
)
async def test_a_response_with_a_damaged_body_is_asked_for_again(headers):
    seen = []

    async def serve(reader: Any, writer: Any) -> None:
        await reader.readuntil(b"}")
        seen.append(1)
        writer.write(f"HTTP/1.1 200 OK\r\n{headers}\r\n\r\nxyz!!\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, http_client(f"http://127.0.0.1:{port}") as http:
        with pytest.raises(TransportError) as caught:
            await http.fetch(SNAPSHOTS)
    assert len(seen) == ATTEMPTS
    assert not isinstance(caught.value, ConnectError)
    assert "does not speak HTTP" not in str(caught.value)


@pytest.mark.fault("F1")
@pytest.mark.parametrize("allowed", [1, 2, 5])
async def test_requests_at_once_on_a_smaller_plan_all_succeed(allowed):
    left = allowed
    sent = 0

    async def sleep(seconds: float) -> None:
        nonlocal left
        await asyncio.sleep(0.02)
        left = allowed

    async def handle(request: web.Request) -> web.Response:
        nonlocal left, sent
        sent += 1
        left -= 1
        return ok([]) if left >= 0 else web.Response(status=429)

    async with serving(handle) as url, http_client(url, sleep=sleep) as http:
        await asyncio.gather(*[http.fetch(SNAPSHOTS) for _ in range(12)])
    assert sent <= 12 * 3
