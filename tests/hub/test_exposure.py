"""What a hub shows of itself, and what it keeps to itself: readiness, metrics, TLS, tokens."""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import Any

import aiohttp
import pytest
import trustme

from qos_async import Client
from qos_async.hub import Hub, Token
from qos_async.sim import Simulator
from qos_async.testing.virtual import simulate
from tests.support.cli_process import run_on_terminal
from tests.support.hub_rig import Rig, rigged

SECRET = "bot-canary-ab12+KEY"  # The key leak plugin looks for it, too.


def base(hub: Hub) -> str:
    return hub.http_url.removesuffix("/hub")


@pytest.mark.fault("H3")
def test_it_is_ready_while_it_accepts_clients():
    async def main() -> None:
        async with rigged() as rig, aiohttp.ClientSession() as http:
            async with http.get(f"{base(rig.hub)}/readyz") as response:
                assert response.status == 200
            rig.sim.go_down()
            await asyncio.sleep(20)
            async with http.get(f"{base(rig.hub)}/readyz") as response:
                assert response.status == 503
                assert response.headers["Retry-After"] == "1"
            rig.sim.come_back()
            await asyncio.sleep(20)
            async with http.get(f"{base(rig.hub)}/readyz") as response:
                assert response.status == 200

    simulate(main)


def test_its_metrics_are_those_of_the_hub_and_of_its_client():
    async def main() -> None:
        async with rigged() as rig, aiohttp.ClientSession() as http:
            consumer = await rig.consumer("US:AAPL")
            await consumer.client.fetch_trades("US:TSLA", count=3)
            async with http.get(f"{base(rig.hub)}/metrics") as response:
                lines = (await response.text()).splitlines()
            assert {
                "qos_hub_ready 1",
                "qos_hub_clients 1",
                "qos_hub_symbols 1",
                "qos_hub_requests_total 1",
                'qos_hub_answered_total{source="upstream"} 1',
            } <= {*lines}
            assert any(line.startswith("qos_ticks_total") for line in lines)
            assert lines[-1] == "# EOF"
            assert lines.count("# EOF") == 1
            await consumer.stop()

    simulate(main)


@pytest.mark.fault("H16")
@pytest.mark.slow
async def test_over_tls_clients_have_quotes():
    authority = trustme.CA()
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(serving)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    tokens = {"bot": Token(token=SECRET)}
    async with Simulator(rate=20.0) as sim:
        upstream = Client(sim.key, http_url=sim.http_url, stream_url=sim.stream_url)
        async with (
            Hub(upstream, tokens=tokens, ssl=serving) as hub,
            Client(
                SECRET, http_url=hub.http_url, stream_url=hub.stream_url, ssl=trusting
            ) as client,
            client.watch_trades("US:AAPL") as trades,
        ):
            assert hub.http_url.startswith("https://")
            assert hub.stream_url.startswith("wss://")
            await anext(aiter(trades))
            assert (await client.fetch_depth("US:AAPL"))["US:AAPL"].bids


async def use_token(rig: Rig) -> None:
    """Send a token in every place, right and wrong, to requests that fail and succeed."""
    async with aiohttp.ClientSession() as http:
        for key in (SECRET, f"{SECRET}x"):
            places: list[dict[str, Any]] = [
                {"headers": {"key": key}},
                {"params": {"key": key}},
            ]
            for options in places:
                for path in ("/status", "/nowhere", "/hub/snapshot"):
                    async with http.get(f"{base(rig.hub)}{path}", **options):
                        pass
                for data in (b"{", b'{"codes":["US:AAPL"]}'):
                    url = f"{rig.hub.http_url}/snapshot"
                    async with http.post(url, data=data, **options):
                        pass
                try:
                    ws = await http.ws_connect(rig.hub.stream_url, **options)
                except aiohttp.WSServerHandshakeError:
                    continue
                await ws.send_str("{")
                await ws.send_bytes(b"\xff" * 70_000)
                await ws.receive()
                await ws.close()


@pytest.mark.fault("H15")
def test_a_token_is_in_no_log_wherever_it_was_sent(caplog):
    async def main() -> None:
        async with rigged(hub={"tokens": {"bot": Token(token=SECRET)}}) as rig:
            await use_token(rig)
            assert rig.hub.stats.refused == 8

    with caplog.at_level(logging.DEBUG):
        simulate(main)
    assert "canary" not in caplog.text


@pytest.mark.slow
def test_on_a_terminal_its_clients_are_a_table():
    code = (
        "import os, signal, sys\n"
        "from rich.live import Live\n"
        "from qos_async.cli import main\n"
        "update = Live.update\n"
        "def update_and_stop(self, *shown, **options):\n"
        "    update(self, *shown, **options)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "Live.update = update_and_stop\n"
        "sys.exit(main(['hub', '--sim', '--port', '0']))"
    )
    ran = run_on_terminal(code=code, stderr=True)
    assert ran.code == 0
    assert "export QOS_STREAM_URL=ws://127.0.0.1:" in ran.out
    assert "0 clients, 0 of 10 symbols" in ran.out
