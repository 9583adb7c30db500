"""``qos hub status`` beside what may answer at its address, and the output of ``qos hub``."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncGenerator
from typing import Any

import pytest
import trustme
from aiohttp import ClientSession, web
from cryptography.hazmat.primitives import serialization

from qos_async import AuthenticationError, Client
from qos_async.cli import main
from qos_async.hub import Hub, Token
from qos_async.hub.status import StatusError, fetch_status
from qos_async.sim import Simulator

TOKEN = "a-token-of-this-test"


@contextlib.asynccontextmanager
async def served(
    status: int, body: bytes, headers: dict[str, str] | None = None
) -> AsyncGenerator[tuple[str, list[web.Request]]]:
    """Serve one response at any path; yield the address, and the requests."""
    requests: list[web.Request] = []

    async def handle(request: web.BaseRequest) -> web.Response:
        requests.append(request)  # type: ignore[arg-type] # not of an application
        return web.Response(status=status, body=body, headers=headers)

    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", requests
    finally:
        await runner.cleanup()


async def error_of(url: str, key: str | None = None) -> str:
    """Return the message of a status that fails."""
    with pytest.raises(StatusError) as error:
        await fetch_status(url, key)
    return str(error.value)


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b"<html>"), (200, b"{}"), (200, b"\xff"), (404, b"{}"), (500, b"")],
)
async def test_another_server_is_no_hub(status, body):
    async with served(status, body) as (url, _):
        assert await error_of(url) == f"what answers at {url} is no hub"


async def test_a_token_is_not_sent_on_to_where_a_server_points():
    async with served(200, b"{}") as (other, requests):
        moved = {"Location": f"{other}/status"}
        async with served(302, b"", moved) as (url, _):
            assert await error_of(url, TOKEN) == f"what answers at {url} is no hub"
        assert requests == []


async def test_a_server_without_http_is_no_hub():
    async def handle(reader: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")
        writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        assert await error_of(url) == (
            f"what answers at {url} is no hub; one with TLS has an address with https"
        )


async def test_where_none_answers_the_message_says_how_to_start_one():
    url = "http://127.0.0.1:9"
    assert await error_of(url) == f"no hub answers at {url}: start one with qos hub"


@pytest.mark.parametrize(
    "url", ["http://[", "ftp://127.0.0.1", "http://a:b:c", "http://"]
)
async def test_what_is_no_address_is_refused(url):
    expected = f"{url} is no address of a hub, such as http://127.0.0.1:8765"
    assert await error_of(url) == expected


async def test_a_hub_with_tokens_needs_one_of_them():
    async with Simulator() as sim:
        upstream = Client(sim.key, http_url=sim.http_url, stream_url=sim.stream_url)
        async with Hub(upstream, tokens={"bot": Token(token=TOKEN)}) as hub:
            url = hub.http_url.removesuffix("/hub")
            assert "needs a token: add --key TOKEN" in await error_of(url)
            assert "does not accept this token" in await error_of(url, "another-one")
            assert (await fetch_status(url, TOKEN)).ready
            named = url.replace("127.0.0.1", "localhost.localdomain")
            with contextlib.suppress(socket.gaierror):
                socket.getaddrinfo("localhost.localdomain", None)
                assert "refuses this: Not served under" in await error_of(named, TOKEN)


def at(monkeypatch, words, **environment):
    """Return address and key that a command line asks."""
    asked: list[tuple[str, str | None]] = []

    async def fetched(url, key):
        asked.append((url, key))
        raise StatusError("seen")

    monkeypatch.setattr("qos_async.hub.status.fetch_status", fetched)
    for name in ("QOS_API_KEY", "QOS_HTTP_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main(["hub", "status", *words]) == 1
    return asked[0]


@pytest.mark.parametrize(
    ("words", "address"),
    [
        ([], "http://127.0.0.1:8765"),
        (["--port", "9000"], "http://127.0.0.1:9000"),
        (["--host", "::1"], "http://[::1]:8765"),
        (["quotes.lan:1"], "http://quotes.lan:1"),
        (["wss://quotes.lan:1/hub/ws"], "https://quotes.lan:1"),
        (["http://quotes.lan:1/hub/"], "http://quotes.lan:1"),
    ],
)
def test_the_address_of_a_status_may_be_typed_in_any_form(monkeypatch, words, address):
    assert at(monkeypatch, words) == (address, None)


def test_the_status_is_that_of_the_hub_of_the_environment(monkeypatch):
    hub = {"QOS_HTTP_URL": "http://10.0.0.1:8765/hub", "QOS_API_KEY": TOKEN}
    assert at(monkeypatch, [], **hub) == ("http://10.0.0.1:8765", TOKEN)
    assert at(monkeypatch, ["--key", "other"], **hub)[1] == "other"


def test_the_key_of_the_service_is_not_sent_to_a_hub(monkeypatch):
    service = {"QOS_HTTP_URL": "https://api.qos.hk", "QOS_API_KEY": TOKEN}
    for environment in (service, {"QOS_API_KEY": TOKEN}):
        assert at(monkeypatch, [], **environment) == ("http://127.0.0.1:8765", None)
    hub = {"QOS_HTTP_URL": "http://10.0.0.1:8765/hub", "QOS_API_KEY": TOKEN}
    assert at(monkeypatch, ["http://10.0.0.2:8765"], **hub)[1] is None


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.EADDRINUSE, "in use"), "port 8765 is in use: choose another"),
        (
            OSError(errno.EADDRNOTAVAIL, "no"),
            "cannot listen on 127.0.0.1: --host takes",
        ),
        (socket.gaierror(-2, "no name"), "cannot listen on 127.0.0.1: --host takes"),
    ],
)
def test_an_address_that_cannot_be_listened_on_is_one_sentence(
    monkeypatch, capsys, error, message
):
    async def entered(hub):
        raise error

    monkeypatch.setattr(Hub, "__aenter__", entered)
    assert main(["hub", "--sim"]) != 0
    assert capsys.readouterr().err.startswith(f"qos: {message}")


def test_messages_name_options_of_the_command(capsys, tmp_path):
    path = tmp_path / "tokens.toml"
    path.write_text(f'[bot]\ntoken = "{TOKEN}"\nsymbols = 11\n')
    path.chmod(0o600)
    assert main(["hub", "--sim", "--tokens", str(path)]) == 2
    assert "the plan has 10 (see --symbols-limit)" in capsys.readouterr().err
    path.write_text(f'[bot]\ntoken = "{TOKEN}"\n')
    assert main(["hub", "--sim", "--host", "0.0.0.0", "--tokens", str(path)]) == 2
    assert "it needs --tls-cert, or --allow-insecure where" in capsys.readouterr().err


def test_certificates_that_cannot_be_used_are_refused(capsys, tmp_path):
    chain = trustme.CA().issue_cert("127.0.0.1")
    certificate, key = tmp_path / "hub.pem", tmp_path / "hub.key"
    chain.cert_chain_pems[0].write_to_path(certificate)
    private = serialization.load_pem_private_key(chain.private_key_pem.bytes(), None)
    locked = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"passphrase"),
    )
    cases = {
        b"": "not a certificate and its private key in PEM form",
        trustme.CA().issue_cert("a.b").private_key_pem.bytes(): "not a certificate and",
        locked: "the private key has a passphrase",
    }
    words = ["hub", "--sim", "--tls-cert", str(certificate), "--tls-key", str(key)]
    for content, message in cases.items():
        key.write_bytes(content)
        assert main(words) == 2
        assert message in capsys.readouterr().err
    key.unlink()
    assert main(words) == 2
    assert f"cannot read {key}: No such file" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["-1", "x", "inf", "nan"])
def test_a_linger_that_is_no_duration_is_refused(capsys, text):
    assert main(["hub", f"--linger={text}"]) == 2
    assert "is not a number of seconds: try --linger 30" in capsys.readouterr().err


def test_what_the_hub_logs_is_on_stderr(monkeypatch, capsys, tmp_path):
    path = tmp_path / "tokens.toml"
    path.write_text(f'[bot]\ntoken = "{TOKEN}"\n')
    path.chmod(0o644)

    async def entered(hub):
        raise OSError(errno.EADDRINUSE, "in use")

    monkeypatch.setattr(Hub, "__aenter__", entered)
    assert main(["hub", "--sim", "--tokens", str(path)]) != 0
    first, *_ = capsys.readouterr().err.splitlines()
    assert first == (
        f"qos: warning: other users may read the tokens in {path}: chmod 600 {path}"
    )


def test_a_key_that_is_refused_is_reported_with_its_origin(monkeypatch, capsys):
    async def entered(hub):
        raise AuthenticationError("the key is wrong")

    monkeypatch.setattr(Hub, "__aenter__", entered)
    assert main(["hub", "--sim"]) == 3
    expected = "qos: the key is wrong; the key came from the simulator\n"
    assert capsys.readouterr().err == expected


@pytest.mark.fault("F7")
async def test_the_status_has_no_character_that_a_terminal_obeys(monkeypatch):
    reason = "bye \x1b[2J\x9b31m\u202e"
    monkeypatch.setattr("qos_async.hub.upstream.Upstream.reason", reason)
    async with (
        Simulator() as sim,
        Hub(Client(sim.key, http_url=sim.http_url, stream_url=sim.stream_url)) as hub,
        ClientSession() as http,
    ):
        url = hub.http_url.removesuffix("/hub")
        async with http.get(f"{url}/status") as response:
            body = await response.text()
        assert body.isprintable()
        assert (await fetch_status(url, None)).upstream_reason == reason
