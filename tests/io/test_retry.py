"""HTTP retries and exception mapping; aioresponses plays the server."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from typing import Any

import aiohttp
import pytest
import yarl
from aiohttp.client_reqrep import ConnectionKey
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from qos_async._core.queries import Queries
from qos_async._io.retry import (
    ATTEMPTS,
    Outcome,
    Patience,
    Retry,
    retry_after,
    retrying,
)
from qos_async.config import Timing
from qos_async.errors import (
    ConnectError,
    QosError,
    RequestTimeoutError,
    TransportError,
)
from tests.support.aiohttp_compat import aioresponses
from tests.support.http_servers import CANARY, HttpCounters, Waits, http_client
from tests.support.leak_check import assert_absent

URL = "https://api.qos.hk"
[SNAPSHOTS] = Queries(Decimal, chunk=10).snapshots(["US:AAPL"])
OK = {"msg": "OK", "data": [{"c": "US:AAPL", "lp": "1"}]}
HOST = ConnectionKey("api.qos.hk", 443, True, True, None, None, None)
HEADERS = CIMultiDictProxy(CIMultiDict({"key": CANARY, "Authorization": "hunter2"}))
INFO = aiohttp.RequestInfo(yarl.URL(URL), "POST", HEADERS)


@pytest.fixture
def server():
    with aioresponses() as mock:
        yield mock


@pytest.fixture
def waits():
    return Waits()


async def test_a_transient_failure_is_followed_by_the_result(server, waits):
    counters = HttpCounters()
    server.post(f"{URL}/snapshot", status=503)
    server.post(f"{URL}/snapshot", payload=OK)
    async with http_client(URL, sleep=waits, counters=counters) as http:
        assert list(await http.fetch(SNAPSHOTS)) == ["US:AAPL"]
    assert (counters.requests, counters.retries) == (2, 1)
    server.assert_called_with(
        f"{URL}/snapshot",
        method="POST",
        data=b'{"codes":["US:AAPL"]}',
        headers={"Content-Type": "application/json", "key": CANARY},
        ssl=True,
        proxy=None,
        allow_redirects=False,
        raise_for_status=False,
        timeout=aiohttp.ClientTimeout(total=None, connect=15.0),
    )


async def test_the_wait_is_random_below_a_bound_that_doubles_up_to_the_maximum(
    server, waits
):
    server.post(f"{URL}/snapshot", status=500, repeat=True)
    chances = iter([1.0, 0.5, 1.0, 1.0])
    timing = Timing(backoff_initial=2.0, backoff_max=5.0)
    options: dict[str, Any] = {"sleep": waits, "rng": lambda: next(chances)}
    async with http_client(URL, timing=timing, **options) as http:
        with pytest.raises(TransportError, match="HTTP 500"):
            await http.fetch(SNAPSHOTS)
    assert waits.seconds == [2.0, 2.0, 5.0]


@pytest.mark.fault("T15", "P25")
async def test_retry_after_sets_the_wait(server, waits):
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    for header in ("7", later, "soon"):
        server.post(f"{URL}/snapshot", status=429, headers={"Retry-After": header})
    server.post(f"{URL}/snapshot", payload=OK)
    async with http_client(URL, sleep=waits, rng=lambda: 0.25) as http:
        await http.fetch(SNAPSHOTS)
    assert waits.seconds[0] == 7.0
    assert waits.seconds[1] == pytest.approx(99.5, abs=2.0)
    assert waits.seconds[2] == 0.25 * 2.0


@pytest.mark.fault("T15")
@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("5", 5.0),
        (" 5 ", 5.0),
        ("0", 1.0),
        ("9999999999999999999999", 300.0),
        ("-5", None),
        ("1.5", 1.5),
        ("1.", 1.0),
        (".5", None),
        ("1e3", None),
        ("nan", None),
        ("9" * 400, 300.0),
        ("\u0665", None),
        (" 2\t", 2.0),
        ("0\x1f", None),
        ("Thu, 01 Jan 1970 00:02:00 GMT", 20.0),
        ("Thu, 01 Jan 1970 00:02:00 -0000", 20.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 1.0),
        ("Fri, 01 Jan 2100 00:00:00 GMT", 300.0),
        ("Fri, 99 Jan 2100 00:00:00 GMT", None),
        ("Fri, 01 Jan 99999999999999999999 00:00:00 GMT", None),
    ],
)
def test_a_retry_after_header_is_parsed(header, seconds):
    assert retry_after(header, 100.0) == seconds


@pytest.mark.fault("T15")
@settings(max_examples=50)
@given(st.text(max_size=40))
def test_any_retry_after_header_gives_a_bounded_wait(header):
    seconds = retry_after(header, 1e9)
    assert seconds is None or 1.0 <= seconds <= 300.0


def certificate() -> Exception:
    return aiohttp.ClientConnectorCertificateError(HOST, ssl.CertificateError("self"))


def response_error(kind: Any, status: int) -> Exception:
    error: Exception = kind(INFO, (), status=status, message=CANARY)
    return error


MENDING: dict[str, tuple[Exception, type[QosError]]] = {
    "reset": (ConnectionResetError(CANARY), TransportError),
    "closed": (aiohttp.ServerDisconnectedError(CANARY), TransportError),
    "os error": (aiohttp.ClientOSError(104, CANARY), TransportError),
    "cut body": (aiohttp.ClientPayloadError(CANARY), TransportError),
    "refused": (
        aiohttp.ClientConnectorError(HOST, ConnectionRefusedError(111, CANARY)),
        ConnectError,
    ),
    "dns": (
        aiohttp.ClientConnectorDNSError(HOST, OSError(-2, "no name")),
        ConnectError,
    ),
    "slow": (TimeoutError(CANARY), RequestTimeoutError),
    "slow read": (aiohttp.SocketTimeoutError(CANARY), RequestTimeoutError),
    "slow connect": (aiohttp.ConnectionTimeoutError(CANARY), ConnectError),
    "tls": (
        aiohttp.ClientConnectorSSLError(HOST, ssl.SSLError(1, "wrong version")),
        ConnectError,
    ),
    "proxy down": (response_error(aiohttp.ClientHttpProxyError, 502), ConnectError),
}
LASTING: dict[str, tuple[Exception, type[QosError]]] = {
    "certificate": (certificate(), ConnectError),
    "fingerprint": (
        aiohttp.ServerFingerprintMismatch(b"a", b"b", "api.qos.hk", 443),
        ConnectError,
    ),
    "proxy says no": (response_error(aiohttp.ClientHttpProxyError, 407), ConnectError),
    "no http": (response_error(aiohttp.ClientResponseError, 400), ConnectError),
    "bad url": (aiohttp.InvalidURL(f"x{CANARY}"), ConnectError),
}


@pytest.mark.fault("T19", "T20", "T21", "T22", "U19")
@pytest.mark.parametrize("name", [*MENDING, *LASTING])
async def test_an_exception_of_aiohttp_is_mapped(server, name):
    exc, kind = {**MENDING, **LASTING}[name]
    counters = HttpCounters()
    server.post(f"{URL}/snapshot", exception=exc, repeat=True)
    async with http_client(URL, counters=counters) as http:
        with pytest.raises(QosError) as caught:
            await http.fetch(SNAPSHOTS)
    assert type(caught.value) is kind
    assert counters.requests == (ATTEMPTS if name in MENDING else 1)
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert_absent(CANARY, caught.value)
    assert_absent("hunter2", caught.value)


async def test_a_cancelled_call_is_not_retried(server):
    counters = HttpCounters()
    server.post(f"{URL}/snapshot", exception=asyncio.CancelledError(), repeat=True)
    async with http_client(URL, counters=counters) as http:
        with pytest.raises(asyncio.CancelledError):
            await http.fetch(SNAPSHOTS)
    assert counters.requests == 1


async def test_concurrent_calls_do_not_share_their_attempts(server):
    server.post(f"{URL}/snapshot", status=500, repeat=True)
    counters = HttpCounters()
    async with http_client(URL, counters=counters) as http:
        both = (http.fetch(SNAPSHOTS), http.fetch(SNAPSHOTS))
        found = await asyncio.gather(*both, return_exceptions=True)
    assert all(type(one) is TransportError for one in found)
    assert counters.requests == 2 * ATTEMPTS


@pytest.mark.fault("F33")
async def test_the_back_off_stays_bounded_however_often_a_long_job_waits():
    waits, patience = Waits(), Patience()
    outcomes: Any = iter([Outcome(retry=Retry.BUSY)] * 1100 + [Outcome(value=7)])
    retry = retrying(
        Timing(),
        period=60.0,
        on_retry=lambda *_: None,
        patience=patience,
        rng=lambda: 1.0,
        sleep=waits,
    )

    async def attempt() -> Outcome[Any]:
        return next(outcomes)

    assert (await retry(attempt)).unwrap() == 7
    assert waits.seconds[:8] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0]
    assert waits.seconds[-1] == 60.0
