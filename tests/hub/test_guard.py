"""Who may use a hub, and from where."""

from __future__ import annotations

import asyncio
import ssl

import aiohttp
import pytest

from qos_async import Client
from qos_async.enums import Channel
from qos_async.hub import Hub, Token
from qos_async.testing.virtual import simulate
from tests.support.hub_rig import Rig, rigged

BOT, RISK = "bot-0123456789abcdef", "risk-0123456789abcdef"
TOKENS = {
    "bot": Token(token=BOT, markets=("US",), channels=(Channel.TRADE,)),
    "risk": Token(token=RISK, symbols=8),
}
FILE = f"""
[bot]
token = "{BOT}"
markets = ["US"]

[risk]
token = "{RISK}"
symbols = 8
"""


async def handshake(rig: Rig, **headers: str) -> int:
    """Return the status of an upgrade."""
    try:
        async with rig.raw(**headers) as raw:
            await raw.ask(type="H")
    except aiohttp.WSServerHandshakeError as exc:
        return exc.status
    return 101


@pytest.mark.fault("H14")
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:9999"},
        {"Host": "evil.example"},
        {"Host": "evil.example:8765"},
        {"Host": ""},
        {"Host": "localhost.evil.example"},
        {"Host": "["},
        {"Host": "[]"},
        {"Origin": "http://["},
    ],
)
def test_a_web_page_is_refused_also_on_loopback(headers):
    async def main() -> None:
        async with rigged() as rig:
            assert await handshake(rig, **headers) == 403
            assert (await rig.post("/snapshot", {"codes": ["US:AAPL"]}, **headers))[
                0
            ] == 403
            assert rig.hub.stats.refused == 2

    simulate(main)


@pytest.mark.parametrize("host", ["127.0.0.1:1", "localhost", "[::1]:1", "10.0.0.1"])
def test_addresses_and_localhost_are_served(host):
    async def main() -> None:
        async with rigged() as rig:
            assert await handshake(rig, Host=host) == 101

    simulate(main)


def test_a_name_that_was_given_is_served():
    async def main() -> None:
        async with rigged(hub={"hosts": ["Quotes.lan"]}) as rig:
            assert await handshake(rig, Host="quotes.lan:8765") == 101
            assert await handshake(rig, Host="other.lan") == 403

    simulate(main)


def test_without_tokens_any_key_or_none_is_accepted():
    async def main() -> None:
        async with rigged() as rig:
            assert await handshake(rig, key="whatever") == 101
            async with (
                aiohttp.ClientSession() as session,
                session.ws_connect(rig.hub.stream_url) as ws,
            ):
                await ws.send_json({"type": "H"})
                assert (await ws.receive_json())["msg"] == "OK"

    simulate(main)


@pytest.mark.fault("H15")
@pytest.mark.parametrize("key", ["", "wrong", BOT[:-1], BOT + "x", "bot", "kéy"])
def test_with_tokens_a_wrong_key_is_refused(key):
    async def main() -> None:
        async with rigged(hub={"tokens": TOKENS}) as rig:
            assert await handshake(rig, key=key) == 401
            status, body, _ = await rig.post("/snapshot", {"codes": ["US:A"]}, key=key)
            assert (status, body) == (401, {"msg": "Invalid key."})

    simulate(main)


@pytest.mark.fault("H16")
@pytest.mark.parametrize("path", ["/status", "/metrics"])
def test_what_shows_clients_needs_a_token_too(path):
    async def main() -> None:
        async with (
            rigged(hub={"tokens": TOKENS}) as rig,
            aiohttp.ClientSession() as http,
        ):
            url = rig.hub.http_url.removesuffix("/hub") + path
            async with http.get(url) as response:
                assert response.status == 401
            async with http.get(url, headers={"key": BOT}) as response:
                assert response.status == 200
                assert BOT not in await response.text()

    simulate(main)


def test_a_token_has_only_its_markets_and_channels():
    async def main() -> None:
        async with rigged(hub={"tokens": TOKENS}) as rig, rig.raw(key=BOT) as raw:
            allowed = await raw.ask(type="T", codes=["US:AAPL"], reqid=1)
            market = await raw.ask(type="T", codes=["HK:700", "US:AAPL"], reqid=2)
            channel = await raw.ask(type="D", codes=["US:AAPL"], reqid=3)
            request = await raw.ask(type="RS", codes=["HK:700"], reqid=4)
            status, _, _ = await rig.post("/product-list", {"market": ["HK"]}, key=BOT)
            assert allowed["msg"] == "OK"
            assert market["msg"] == "Not allowed for this token: HK."
            assert channel["msg"] == "Not allowed for this token: the channel depth."
            assert request["msg"].startswith("Not allowed for this token: ")
            assert status == 403

    simulate(main)


@pytest.mark.fault("H12")
def test_reserved_places_are_kept_for_their_token():
    async def main() -> None:
        async with (
            rigged(hub={"tokens": TOKENS}) as rig,
            rig.raw(key=BOT) as bot,
            rig.raw(key=RISK) as risk,
        ):
            names = ["US:AAPL", "US:TSLA", "US:MSFT"]
            refused = await bot.ask(type="T", codes=names, reqid=1)
            assert refused["msg"] == (
                "Exceeded the limit of 10 products (8 reserved for others)."
            )
            assert (await bot.ask(type="T", codes=names[:2], reqid=2))["msg"] == "OK"
            rest = [f"CF:{n}USDT" for n in ("BTC", "ETH")]
            assert (await risk.ask(type="T", codes=rest, reqid=1))["msg"] == "OK"

    simulate(main)


@pytest.mark.fault("H15")
def test_a_file_of_tokens_is_read_again_and_a_revoked_one_is_refused(tmp_path):
    path = tmp_path / "tokens.toml"
    path.write_text(FILE)

    async def main() -> None:
        async with rigged(hub={"tokens": path}) as rig:
            assert await handshake(rig, key=BOT) == 101
            async with rig.raw(key=BOT) as bot:
                await bot.ask(type="H")
                path.write_text(f'[risk]\ntoken = "{RISK}"\n')
                assert await handshake(rig, key=BOT) == 401
                assert await handshake(rig, key=RISK) == 101
                assert await bot.closing() == (1008, "the token was revoked")

    simulate(main)


@pytest.mark.fault("H15")
def test_a_file_that_becomes_bad_changes_nothing(tmp_path, caplog):
    path = tmp_path / "tokens.toml"
    path.write_text(FILE)

    async def main() -> None:
        async with rigged(hub={"tokens": path}) as rig:
            path.write_text("[bot")
            assert await handshake(rig, key=BOT) == 101
            path.unlink()
            assert await handshake(rig, key=BOT) == 101

    simulate(main)
    assert "the tokens stay as they were" in caplog.text
    assert BOT not in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[bot]\ntoken = "short"', "at least 16 characters"),
        (f'[bot]\ntoken = "{BOT}"\nsymbol = 4', "unknown field `symbol`"),
        (f'[bot]\ntoken = "{BOT}"\nsymbols = -1', "symbols must be 0 or more"),
        (f'[bot]\ntoken = "{BOT}"\nchannels = ["trades"]', "Invalid enum value"),
        (f'[a]\ntoken = "{BOT}"\n[b]\ntoken = "{BOT}"', "each needs its own"),
        ("[bot", "tokens.toml: "),
        ("bot = 1", "Expected `object`"),
        ("", "has no tokens"),
    ],
)
def test_a_file_of_tokens_that_cannot_work_is_refused(tmp_path, content, message):
    path = tmp_path / "tokens.toml"
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        Hub(Client("upstream-key-1"), tokens=path)
    assert BOT not in str(error.value)


def test_a_missing_file_of_tokens_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"cannot read .*tokens\.toml"):
        Hub(Client("upstream-key-1"), tokens=tmp_path / "tokens.toml")


@pytest.mark.fault("H16")
@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "quotes.lan"])
def test_other_addresses_than_loopback_need_tokens_and_tls(host):
    client = Client("upstream-key-1")
    with pytest.raises(ValueError, match="it needs tokens"):
        Hub(client, host=host)
    with pytest.raises(ValueError, match="it needs ssl="):
        Hub(client, host=host, tokens=TOKENS)
    Hub(client, host=host, tokens=TOKENS, allow_insecure=True)
    Hub(client, host=host, tokens=TOKENS, ssl=ssl.create_default_context())


def test_a_client_with_float_numbers_is_refused():
    with pytest.raises(ValueError, match="a float would lose digits"):
        Hub(Client("upstream-key-1", numbers=float))


@pytest.mark.fault("H15")
def test_a_token_is_in_no_repr():
    assert BOT not in repr(TOKENS)


@pytest.mark.fault("H8")
def test_too_many_handshakes_in_a_second_are_refused():
    async def main() -> None:
        async with rigged() as rig:
            found = await asyncio.gather(*(handshake(rig) for _ in range(80)))
            assert set(found) == {101, 503}
            await asyncio.sleep(2)
            assert await handshake(rig) == 101

    simulate(main)


@pytest.mark.fault("H8")
def test_a_flood_of_handshakes_with_one_token_refuses_no_other():
    async def main() -> None:
        async with rigged(hub={"tokens": TOKENS}) as rig:
            flood = [handshake(rig, key=BOT) for _ in range(80)]
            other = handshake(rig, key=RISK)
            *found, status = await asyncio.gather(*flood, other)
            assert set(found) == {101, 503}
            assert status == 101

    simulate(main)


def test_a_key_of_bytes_that_are_no_text_is_refused():
    async def main() -> None:
        async with rigged(hub={"tokens": TOKENS}) as rig:
            assert await handshake(rig, key="\udcff") == 401

    simulate(main)


def test_a_body_with_a_broken_encoding_is_refused():
    async def main() -> None:
        async with rigged() as rig, aiohttp.ClientSession() as http:
            url, headers = f"{rig.hub.http_url}/snapshot", {"Content-Encoding": "gzip"}
            async with http.post(url, data=b"no gzip", headers=headers) as response:
                assert response.status == 400

    simulate(main)
