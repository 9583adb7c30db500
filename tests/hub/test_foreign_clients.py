"""Programs that know nothing of a hub, each unmodified, and the processes of ours."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncGenerator, Generator
from typing import Any

import pytest
import websockets
from qos_api.ws_client import QOSWebSocketClient

from qos_async import Client
from qos_async.cli import main
from qos_async.cli.command_line import parse
from qos_async.hub import Hub, HubClientStats, HubStats
from qos_async.recordings import replay
from qos_async.sim import Simulator
from tests.support.cli_process import finish, run, start

pytestmark = pytest.mark.slow


@contextlib.asynccontextmanager
async def hub_of(sim: Simulator) -> AsyncGenerator[Hub]:
    client = Client(sim.key, http_url=sim.http_url, stream_url=sim.stream_url)
    async with Hub(client) as hub:
        yield hub


async def test_the_sdk_of_the_vendor_shares_a_key_with_a_client_of_ours():
    async with Simulator(rate=20.0) as sim, hub_of(sim) as hub:
        sdk = QOSWebSocketClient("any-key")
        sdk.ws_url = f"{hub.stream_url}?key=any-key"
        received: list[Any] = []

        async def on_trade(trade: Any) -> None:
            received.append((trade.ts, float(trade.p)))

        sdk.register_callback("T", on_trade)
        await sdk.connect()
        await sdk.subscribe_trades(["US:AAPL"])
        async with (
            Client("other", http_url=hub.http_url, stream_url=hub.stream_url) as client,
            client.watch_trades("US:AAPL") as trades,
        ):
            own = [await anext(aiter(trades)) for _ in range(20)]
        await sim.until(lambda: len(received) >= 40, timeout=15)
        [snapshot] = await sdk.request_snapshot(["US:AAPL"])
        assert float(snapshot.lp) > 0
        sdk._running = False
        tasks = [t for t in asyncio.all_tasks() if "qos_api" in repr(t)]
        await sdk.disconnect()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        tape = [(row["ts"], float(row["p"])) for row in sim.tape("US:AAPL")]
        at = next(n for n in range(len(tape)) if tape[n : n + 5] == received[:5])
        assert tape[at : at + len(received)] == received
        assert len(own) == 20
        assert sim.connections == 1
        assert sim.violations == []


async def test_a_bare_websocket_has_acknowledgement_state_and_pushes():
    async with Simulator(rate=20.0) as sim, hub_of(sim) as hub:
        async with websockets.connect(f"{hub.stream_url}?key=x") as ws:
            await ws.send('{"type":"D","codes":["US:AAPL"],"reqid":1}')
            first = json.loads(await ws.recv())
            book = json.loads(await ws.recv())
        assert (first["type"], first["msg"], first["reqid"]) == ("D", "OK", 1)
        assert (book["tp"], book["c"]) == ("D", "US:AAPL")


@pytest.mark.fault("H14")
@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize(
    ("extra", "status"), [((), "200"), (("-H", "Origin: https://evil.example"), "403")]
)
async def test_curl_is_answered_and_a_page_of_a_browser_is_not(extra, status):
    async with Simulator() as sim, hub_of(sim) as hub:
        command = ["curl", "-s", "-w", "\n%{http_code}", *extra, "-d"]
        process = await asyncio.create_subprocess_exec(
            *command,
            '{"codes":["US:AAPL"]}',
            f"{hub.http_url}/snapshot",
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        body, _, code = out.decode().rpartition("\n")
        assert code == status
        assert ("data" in json.loads(body)) is (status == "200")


@contextlib.contextmanager
def hub_process(*words: str) -> Generator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """Run ``qos hub``; yield it, and the environment that it prints."""
    process = start("hub", "--sim", "--port", "0", *words)
    try:
        lines = [process.stdout.readline() for _ in range(3)]
        pairs = (line.removeprefix("export ").strip().split("=", 1) for line in lines)
        yield process, dict(pairs)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


async def test_two_processes_share_the_key_of_the_command():
    with hub_process() as (process, variables):
        url = variables["QOS_HTTP_URL"]
        options: dict[str, Any] = {
            "http_url": url,
            "stream_url": variables["QOS_STREAM_URL"],
        }
        async with (
            Client(variables["QOS_API_KEY"], **options) as client,
            client.watch_trades("US:AAPL") as trades,
        ):
            await anext(aiter(trades))
            ran = await asyncio.to_thread(run, "hub", "status", url)
            found = await asyncio.to_thread(run, "hub", "status", url, "--json")
        assert ran.code == 0
        assert "1 client, 1 of 10 symbols, 1 topic, " in ran.out
        assert "trade US:AAPL" in ran.out
        assert "upstream was last lost" in ran.out
        assert json.loads(found.out)["clients"][0]["topics"] == ["trade US:AAPL"]
        process.send_signal(signal.SIGTERM)
        assert (await asyncio.to_thread(finish, process)).code == 0


@pytest.mark.fault("H17")
async def test_sigterm_closes_the_clients_with_1012():
    with hub_process() as (process, variables):
        async with websockets.connect(variables["QOS_STREAM_URL"]) as ws:
            await ws.send('{"type":"H"}')
            await ws.recv()
            process.send_signal(signal.SIGTERM)
            with pytest.raises(websockets.ConnectionClosed):
                await ws.recv()
            assert ws.close_code == 1012
        await asyncio.to_thread(finish, process)


async def test_a_hub_may_record_what_arrives(tmp_path):
    with hub_process("--record", str(tmp_path / "recorded")) as (process, variables):
        options: dict[str, Any] = {
            "http_url": variables["QOS_HTTP_URL"],
            "stream_url": variables["QOS_STREAM_URL"],
        }
        async with (
            Client("any", **options) as client,
            client.watch_trades("US:AAPL") as trades,
        ):
            received = [await anext(aiter(trades)) for _ in range(3)]
        process.send_signal(signal.SIGTERM)
        assert (await asyncio.to_thread(finish, process)).code == 0
    async with replay(tmp_path / "recorded", speed=None) as past:
        events = past.watch_trades("US:AAPL")
        replayed = [await anext(aiter(events)) for _ in range(3)]
    fields = [(t.timestamp, t.price, t.size) for t in received]
    assert [(t.timestamp, t.price, t.size) for t in replayed] == fields


def test_where_it_cannot_record_it_does_not_start(tmp_path):
    place = tmp_path / "a-file"
    place.write_text("")
    ran = run("hub", "--sim", "--port", "0", "--record", str(place))
    assert ran.code != 0
    assert "Traceback" not in ran.err
    assert str(place) in ran.err


def test_a_status_without_a_hub_is_one_sentence():
    ran = run("hub", "status", "http://127.0.0.1:9")
    assert ran.code == 1
    assert ran.err.splitlines()[-1] == (
        "qos: no hub answers at http://127.0.0.1:9: start one with qos hub"
    )


@pytest.mark.fault("H16")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--host", "0.0.0.0"), "it needs --tokens, one for each client (or without"),
        (("--tokens", "missing.toml"), "cannot read missing.toml"),
        (("--tokens", "~nobodyhere/t.toml"), "~nobodyhere"),
        (("--tls-cert", "~nobodyhere/x.pem"), "~nobodyhere"),
        (("--tls-cert", "x.pem", "--tls-key", "~nobodyhere/x.pem"), "~nobodyhere"),
        (("--keep", "~nobodyhere/kept"), "~nobodyhere"),
        (("--tokens", ""), "is empty"),
        (("--tls-key", "x.pem"), "--tls-key needs --tls-cert"),
        (("--tls-cert", "missing.pem"), "cannot read missing.pem"),
        (("--json",), "--json is an option of qos hub status"),
    ],
)
def test_options_that_cannot_work_are_refused(words, message):
    ran = run("hub", "--sim", *words)
    assert ran.code == 2
    assert message in ran.err


@pytest.mark.fault("F20")
@pytest.mark.parametrize("option", ["--tokens", "--tls-cert", "--tls-key", "--keep"])
def test_a_tilde_in_an_option_is_the_home_directory(option, monkeypatch, tmp_path):
    """Shells leave the ``~`` of ``--tls-cert=~/hub.pem`` to the program."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    options = parse(["hub", f"{option}=~/file"])
    assert vars(options)[option[2:].replace("-", "_")] == tmp_path / "file"


@pytest.mark.fault("F13")
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("option", ["--tokens", "--tls-cert"])
def test_a_pipe_in_place_of_a_file_of_the_hub_is_refused(option, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    ran = run("hub", "--sim", option, str(tmp_path / "pipe"))
    assert ran.code == 2
    assert "pipe: not a regular file" in ran.err


def test_a_missing_key_of_a_certificate_is_named(tmp_path):
    cert = tmp_path / "hub.pem"
    cert.write_text("")
    ran = run("hub", "--sim", "--tls-cert", str(cert), "--tls-key", "missing.pem")
    assert ran.code == 2
    assert "missing.pem: No such file" in ran.err


def test_what_a_terminal_would_obey_is_escaped_in_a_status(monkeypatch, capsys):
    client = HubClientStats(
        number=1, owner="a\x9b[2J", topics=["\u202e"], sent=1, backlog=0, conflated=0
    )
    stats = HubStats(
        ready=True,
        upstream="open\u2028",
        upstream_reason="\x1b[2J",
        symbols=1,
        symbols_max=10,
        topics=1,
        interrupted=0,
        ticks=1,
        answered={"live\x1b": 1},
        requests=0,
        refused=0,
        loop_lag_max=0.0,
        clients=[client],
    )

    async def fetched(url, key):
        return stats

    monkeypatch.setattr("qos_async.hub.status.fetch_status", fetched)
    assert main(["hub", "status", "--json"]) == 0
    shown = capsys.readouterr().out
    assert json.loads(shown)["clients"][0]["owner"] == "a\x9b[2J"
    assert main(["hub", "status"]) == 0
    for text in (shown, capsys.readouterr().out):
        assert not {"\x1b", "\x9b", "\u202e", "\u2028"} & set(text)
