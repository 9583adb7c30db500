"""Requests with the headers that a browser sends for a web page: none is served.

The headers are those that Chromium 156 sent from pages of other origins, and those of the
preflight for private networks of earlier versions. Host names that are not of this machine
get no ``Sec-Fetch-*``.
"""

from __future__ import annotations

import aiohttp
import pytest

from qos_async.testing.virtual import simulate
from tests.support.hub_rig import rigged

FOREIGN = "https://evil.example"
REBOUND = {"Host": "evil.example:8765"}
PREFLIGHT = {
    "Origin": FOREIGN,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "content-type,key",
    "Access-Control-Request-Private-Network": "true",
    "Sec-Fetch-Site": "cross-site",
    "Sec-Fetch-Mode": "cors",
    "Sec-Fetch-Dest": "empty",
}
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
EMBEDDED = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
REQUESTS = {
    "a websocket": ("GET", "/hub/ws", {**UPGRADE, "Origin": FOREIGN}),
    "a websocket of a sandbox": ("GET", "/hub/ws", {**UPGRADE, "Origin": "null"}),
    "a websocket of a rebound name": (
        "GET",
        "/hub/ws",
        {**UPGRADE, "Origin": "http://evil.example:8765", "Host": "evil.example:8765"},
    ),
    "a websocket of another port": (
        "GET",
        "/hub/ws",
        {**UPGRADE, "Origin": "http://localhost:3000", "Host": "localhost:8765"},
    ),
    "a preflight": ("OPTIONS", "/hub/snapshot", PREFLIGHT),
    "a preflight of the status": ("OPTIONS", "/status", PREFLIGHT),
    "a form or text": (
        "POST",
        "/hub/snapshot",
        {**EMBEDDED, "Origin": FOREIGN, "Content-Type": "text/plain"},
    ),
    "a fetch": (
        "GET",
        "/status",
        {"Origin": FOREIGN, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"},
    ),
    "a fetch of a rebound name": ("GET", "/status", REBOUND),
    "a request of a rebound name": (
        "POST",
        "/hub/snapshot",
        {**REBOUND, "Origin": "http://evil.example:8765"},
    ),
    "a script": ("GET", "/status", {**EMBEDDED, "Sec-Fetch-Dest": "script"}),
    "an image": ("GET", "/metrics", {**EMBEDDED, "Sec-Fetch-Dest": "image"}),
    "a frame": (
        "GET",
        "/status",
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    ),
    "a script of another port": (
        "GET",
        "/readyz",
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"},
    ),
}


@pytest.mark.fault("H14")
@pytest.mark.parametrize("name", REQUESTS)
def test_what_a_browser_sends_for_a_page_is_refused(name):
    method, path, headers = REQUESTS[name]

    async def main() -> None:
        async with rigged() as rig, aiohttp.ClientSession() as http:
            url = rig.hub.http_url.removesuffix("/hub") + path
            async with http.request(
                method, url, headers=headers, json={"codes": ["US:AAPL"]}
            ) as response:
                assert response.status == 403
                assert "msg" in await response.json()
                allowed = [name for name in response.headers if "Allow" in name]
                assert allowed == []
            assert rig.hub.stats.refused == 1
            assert rig.hub.stats.clients == []

    simulate(main)


@pytest.mark.parametrize("site", ["none", "same-origin"])
def test_an_address_that_was_typed_into_a_browser_is_served(site):
    async def main() -> None:
        async with rigged() as rig, aiohttp.ClientSession() as http:
            url = rig.hub.http_url.removesuffix("/hub") + "/status"
            async with http.get(url, headers={"Sec-Fetch-Site": site}) as response:
                assert response.status == 200

    simulate(main)
