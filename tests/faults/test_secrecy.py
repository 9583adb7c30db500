"""The key: where it is while it travels, and that it is nowhere else."""

from __future__ import annotations

import asyncio
import json
import traceback
from types import TracebackType
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from qos_async import Client, QosError
from qos_async.sim import Simulator
from tests.faults.test_handshakes import CALM, client_of, listening
from tests.support.http_servers import serving
from tests.support.leak_check import assert_absent
from tests.support.memory_transport import KEY

pytestmark = pytest.mark.fault("U19", "I13")


def seen_by_an_error_reporter(error: BaseException) -> list[str]:
    """Return every local variable of the library's frames, as error trackers do."""
    found = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None:
            continue
        waiting += [one.__cause__, one.__context__]
        step: TracebackType | None = one.__traceback__
        while step is not None:
            found += [repr(value) for value in step.tb_frame.f_locals.values()]
            step = step.tb_next
    assert len(found) > 3
    return found


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")


@pytest.mark.fault("D4")
@pytest.mark.parametrize("key_in", ["header", "url"])
@pytest.mark.parametrize("verb", ["connect", "fetch"])
@pytest.mark.parametrize("status", [None, 401, 404, 307, 500])
async def test_no_error_and_no_variable_in_its_traceback_shows_the_key(
    key_in, verb, status
):
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status or 200, headers={"Location": "/else"})

    async def ask(address: str) -> QosError:
        async with client_of(address, key_in=key_in) as client:
            try:
                if verb == "connect":
                    await client.connect()
                else:
                    await client.fetch_snapshots("US:AAPL")
            except QosError as exc:
                return exc
        raise AssertionError("it should have failed")

    if status is None:
        async with listening(hang_up) as address:
            error = await ask(address)
    else:
        async with serving(answer) as url:
            error = await ask(url.authority)
    assert error.__cause__ is error.__context__ is None
    assert_absent(KEY, error, seen_by_an_error_reporter(error))
    assert_absent(
        KEY,
        *traceback.TracebackException.from_exception(
            error, capture_locals=True
        ).format(),
    )


@pytest.mark.fault("D2")
async def test_a_request_of_the_users_own_on_a_borrowed_session_has_no_key():
    seen: list[dict[str, str]] = []

    async def note(request: web.Request) -> web.Response:
        seen.append({**request.headers, "url": str(request.url)})
        return web.Response()

    async with Simulator(key=KEY) as sim, aiohttp.ClientSession() as session:
        client = Client(
            KEY,
            http_url=sim.http_url,
            stream_url=sim.stream_url,
            session=session,
            timing=CALM,
        )
        async with client:
            await client.connect()
            await client.fetch_snapshots("US:AAPL")
            assert_absent(KEY, dict(session.headers), vars(session))
            async with serving(note) as url, session.get(url) as response:
                await response.read()
    assert len(seen) == 1
    assert_absent(KEY, seen)


@pytest.mark.fault("D3")
async def test_cookies_of_the_server_are_not_sent_back():
    seen: list[str | None] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Cookie"))
        response = web.json_response({"msg": "OK", "data": []})
        response.set_cookie("track", "me")
        return response

    async with serving(answer) as url, client_of(url.authority) as client:
        for _ in range(2):
            await client.fetch_snapshots("US:AAPL")
    assert seen == [None, None]


HOSTILE = "\x1b[31mred\x07\r\nERROR forged line\u202e {0.__class__} %s %(x)s $HOME"


@pytest.mark.fault("D4", "D9")
@pytest.mark.parametrize("where", ["refusal", "close", "remark", "garbage", "http"])
async def test_text_of_the_server_is_data_everywhere(where, caplog):
    async with Simulator(key=KEY) as sim, client_at(sim) as client:
        await client.connect()
        messages: list[str] = []
        changes = client.states()
        if where == "refusal":
            sim.reject(HOSTILE, "RS")
            messages.append(
                await failure(client.fetch_snapshots("US:AAPL", via="stream"))
            )
        elif where == "http":
            sim.fail_http(404, body=json.dumps({"msg": HOSTILE}).encode())
            messages.append(await failure(client.fetch_snapshots("US:AAPL")))
        elif where == "close":
            await sim.close(4000, HOSTILE)
            messages.append((await anext(changes)).reason)
        else:
            sim.push(HOSTILE.encode() if where == "garbage" else {"msg": HOSTILE})
            await sim.until(lambda: "red" in caplog.text)
    messages += [
        r.getMessage() for r in caplog.records if r.name.startswith("qos_async")
    ]
    hit = [text for text in messages if "red" in text]
    assert hit
    for text in hit:
        assert text.isprintable()
        assert r"\x1b[31mred" in text


async def failure(request_task: Any) -> str:
    with pytest.raises(QosError) as caught:
        await request_task
    return str(caught.value)


def client_at(sim: Simulator) -> Client:
    return Client(KEY, http_url=sim.http_url, stream_url=sim.stream_url, timing=CALM)
