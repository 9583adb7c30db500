"""Who may use a hub, and from where."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl

import aiohttp
import pytest
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from qos_async import Client
from qos_async.enums import Channel
from qos_async.hub import Hub, Token
from qos_async.hub.addresses import address_to_dial
from qos_async.hub.tokens import TokenFile
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
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
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
def test_a_client_whose_rights_have_changed_connects_anew(tmp_path):
    path = tmp_path / "tokens.toml"
    path.write_text(FILE)

    async def main() -> None:
        async with (
            rigged(hub={"tokens": path}) as rig,
            rig.raw(key=BOT) as bot,
            rig.raw(key=RISK) as risk,
        ):
            path.write_text(FILE.replace('"US"', '"HK"'))
            changed = "what the token may have has changed"
            assert await bot.closing() == (1012, changed)
            assert (await risk.ask(type="H"))["msg"] == "OK"
            async with rig.raw(key=BOT) as again:
                reply = await again.ask(type="T", codes=["US:AAPL"], reqid=1)
                assert reply["msg"] == "Not allowed for this token: US."

    simulate(main)


@pytest.mark.fault("H15")
def test_a_file_that_reserves_more_than_the_plan_has_changes_nothing(tmp_path, caplog):
    path = tmp_path / "tokens.toml"
    path.write_text(FILE)

    async def main() -> None:
        async with rigged(hub={"tokens": path}) as rig, rig.raw(key=BOT) as bot:
            path.write_text(FILE.replace("symbols = 8", "symbols = 11"))
            await asyncio.sleep(1)
            reply = await bot.ask(type="T", codes=["US:AAPL"], reqid=1)
            assert reply["msg"] == "OK"

    simulate(main)
    assert "the tokens stay as they were: " in caplog.text
    assert "the tokens reserve 11 places, and the plan has 10" in caplog.text


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
        ('[bot]\ntoken = "short"', r"tokens\.toml: \[bot\]: .*at least 16 characters"),
        ('[bot]\ntoken = "a token with spaces"', "no spaces"),
        ('[bot]\ntoken = "a-token-with-a-\\n"', "no spaces"),
        ("[bot]", "missing required field `token`"),
        (f'[bot]\ntoken = "{BOT}"\n[bot]\ntoken = "{RISK}"', r"\('bot',\) twice"),
        (f'[bot]\ntoken = "{BOT}"\nsymbols = 11', "reserve 11 places"),
        (f'[bot]\ntoken = "{BOT}"\nsymbol = 4', "unknown field `symbol`"),
        (f'[bot]\ntoken = "{BOT}"\nsymbols = -1', "symbols must be"),
        (f'[bot]\ntoken = "{BOT}"\nchannels = ["trades"]', "Invalid enum value"),
        (f'[a]\ntoken = "{BOT}"\n[b]\ntoken = "{BOT}"', "'a' and 'b' have the same"),
        ("[bot", "tokens.toml: "),
        (f"x = {'[' * 5000}", "tokens.toml: "),
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


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "# Of the two bots.\n\n" + text + "\n# The end.\n\n",
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
    ],
    ids=["comments", "CRLF", "BOM"],
)
def test_comments_and_what_editors_add_are_read(tmp_path, change):
    path = tmp_path / "tokens.toml"
    path.write_bytes(change(FILE).encode())
    tokens = TokenFile(path, places=10).tokens
    assert list(tokens.by_name) == ["bot", "risk"]
    found = tokens.find(BOT)
    assert found is not None
    assert found[0] == "bot"


def test_a_file_in_another_encoding_is_refused(tmp_path):
    path = tmp_path / "tokens.toml"
    path.write_bytes(FILE.encode("utf-16"))
    with pytest.raises(ValueError, match="is not UTF-8 text: save it as such"):
        TokenFile(path, places=10)


@pytest.mark.fault("H15")
@pytest.mark.skipif(os.name != "posix", reason="needs modes of files")
@pytest.mark.parametrize(("mode", "warned"), [(0o600, 0), (0o640, 1), (0o604, 1)])
def test_a_file_of_tokens_that_others_may_read_is_warned_of(
    tmp_path, caplog, mode, warned
):
    path = tmp_path / "tokens.toml"
    path.write_text(FILE)
    path.chmod(mode)
    TokenFile(path, places=10)
    message = f"other users may read the tokens in {path}: chmod 600 {path}"
    assert caplog.messages == [message] * warned


@pytest.mark.parametrize(
    "tokens", [{"a": "secret"}, {"a": None}, {}, 7, ["a"]], ids=str
)
def test_tokens_of_a_wrong_type_are_refused(tokens):
    with pytest.raises(ValueError, match=r"Token|no tokens|must be a path") as error:
        Hub(Client("upstream-key-1"), tokens=tokens)
    assert "secret" not in str(error.value)


@pytest.mark.fault("F13")
def test_a_file_of_tokens_of_any_editor_is_read(tmp_path):
    path = tmp_path / "tokens.toml"
    for mark in (b"\xef\xbb\xbf", b"\xef\xbb\xbf\xef\xbb\xbf"):
        path.write_bytes(mark + FILE.replace("\n", "\r\n").encode())
        assert "bot" in TokenFile(path, places=10).tokens.by_name
    for encoding in ("utf-16", "utf-16-le", "utf-32"):
        path.write_bytes(FILE.encode(encoding))
        with pytest.raises(ValueError, match="is not UTF-8 text: save it as such"):
            TokenFile(path, places=10)


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
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    Hub(client, host=host, tokens=TOKENS, ssl=context)


@pytest.mark.parametrize("host", ["", None, 127, b"127.0.0.1"], ids=repr)
def test_a_host_that_is_no_text_is_refused(host):
    with pytest.raises(ValueError, match="host must be an address"):
        Hub(Client("upstream-key-1"), host=host)


@pytest.mark.parametrize("host", ["LOCALHOST", "[::1]", "127.0.0.2"])
def test_loopback_in_any_form_needs_no_tokens(host):
    Hub(Client("upstream-key-1"), host=host)


@pytest.mark.parametrize("name", ["hub.lan:8765", "http://hub.lan", "", " ", None, 7])
def test_a_name_that_is_no_host_name_is_refused(name):
    with pytest.raises(ValueError, match="is no host name"):
        Hub(Client("upstream-key-1"), hosts=[name])


@pytest.mark.parametrize(
    ("address", "names", "dialled"),
    [
        ("127.0.0.1", ("hub.lan",), "127.0.0.1"),
        ("::1", (), "[::1]"),
        ("192.0.2.7", (), "192.0.2.7"),
        ("192.0.2.7", ("hub.lan", "other.lan"), "hub.lan"),
        ("0.0.0.0", ("hub.lan",), "hub.lan"),
    ],
)
def test_clients_dial_a_name_or_an_address(address, names, dialled):
    assert address_to_dial(address, names) == dialled


@pytest.mark.parametrize(
    ("address", "own", "dialled"),
    [
        ("0.0.0.0", "198.51.100.7", "198.51.100.7"),
        ("::", "2001:db8::7", "[2001:db8::7]"),
        ("0.0.0.0", None, "127.0.0.1"),
        ("::", None, "[::1]"),
    ],
)
def test_all_addresses_are_dialled_at_one_of_them(monkeypatch, address, own, dialled):
    class Socket(contextlib.ExitStack):
        def __init__(self, *words):
            super().__init__()

        def connect(self, where):
            if own is None:
                raise OSError("no route")

        def getsockname(self):
            return own, 50_000

    monkeypatch.setattr("socket.socket", Socket)
    assert address_to_dial(address, ()) == dialled


def test_a_hub_on_all_addresses_shows_one_that_can_be_dialled():
    options = {"host": "0.0.0.0", "tokens": TOKENS, "allow_insecure": True}

    async def main() -> None:
        async with rigged(hub={**options, "hosts": ["Quotes.lan"]}) as rig:
            assert rig.hub.http_url.startswith("http://quotes.lan:")
        async with rigged(hub=options) as rig:
            assert "0.0.0.0" not in rig.hub.http_url
            assert rig.hub.stream_url.startswith("ws://")

    simulate(main)


def test_the_metrics_are_in_the_format_that_their_type_names():
    async def main() -> None:
        async with rigged() as rig, aiohttp.ClientSession() as http:
            await rig.post("/snapshot", {"codes": ["US:AAPL"]})
            url = rig.hub.http_url.removesuffix("/hub") + "/metrics"
            async with http.get(url) as response:
                assert response.headers["Content-Type"] == CONTENT_TYPE_LATEST
                text = await response.text()
        families = {one.name: one for one in text_string_to_metric_families(text)}
        assert families["qos_hub_ready"].samples[0].value == 1
        answered = families["qos_hub_answered"].samples
        counts = {one.labels["source"]: one.value for one in answered}
        assert counts == {"live": 0, "upstream": 1}
        assert families["qos_links"].samples[0].value == 1
        assert all(one.documentation for one in families.values())

    simulate(main)


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


@pytest.mark.fault("F13")
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_place_of_the_tokens_is_refused(tmp_path):
    """Reading it would wait for a writer, at a reload with all clients."""
    path = tmp_path / "tokens.toml"
    os.mkfifo(path)
    with pytest.raises(ValueError, match=r"tokens\.toml: not a regular file"):
        TokenFile(path, places=10)
    path.unlink()
    path.write_text('[a]\ntoken = "0123456789abcdef"\n')
    tokens = TokenFile(path, places=10)
    path.unlink()
    os.mkfifo(path)
    assert "not a regular file" in str(tokens.reload())
    assert "a" in tokens.tokens.by_name
