"""``qos doctor``: each thing that can be wrong, and nothing that is nobody's business."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import trustme

from qos_async.cli.doctor import probes
from qos_async.cli.doctor.probes import Endpoint, probe
from qos_async.cli.doctor.report import Check

WAY = ["versions", "configuration", "plan", "proxy", "name", "tcp", "tls"]
ALL = [*WAY, "http", "websocket", "clock", "key"]


def examine(qos, *words):
    ran = qos("doctor", "--json", *words)
    checks = [json.loads(line) for line in ran.lines]
    return ran.code, {check["check"]: check for check in checks}


def failed(checks):
    return [name for name, check in checks.items() if check["status"] == "failed"]


def test_all_is_well_on_a_simulator_of_its_own(qos):
    """Everything is looked at; plain http to this machine has no TLS."""
    code, checks = examine(qos, "--sim")
    assert code == 0
    assert list(checks) == ALL
    assert [n for n, check in checks.items() if check["status"] != "ok"] == ["tls"]
    assert "it came from the simulator" in checks["key"]["detail"]
    assert "aiohttp 3." in checks["versions"]["detail"]


def test_people_get_lines_of_80_columns(live, qos, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    ran = qos("doctor", "--sim")
    assert ran.lines[0].startswith("qos doctor at 20")
    assert max(map(len, ran.lines)) <= 80
    assert "\nok      key             accepted; it came from the simulator" in ran.out
    assert "\n                        -> if it is needed, set QOS_PROXY" in ran.out


def test_a_clock_that_is_wrong_is_told(live, qos, monkeypatch):
    """This market's is, more and more."""
    monkeypatch.setattr("qos_async.cli.doctor.checks._MAX_CLOCK_SKEW", -1.0)
    code, checks = examine(qos)
    assert code == 1
    assert failed(checks) == ["clock"]
    assert " of ours, give or take 0." in checks["clock"]["detail"]
    assert "NTP" in checks["clock"]["hint"]
    assert checks["key"]["detail"] == "accepted; it came from QOS_API_KEY"


def test_without_a_key_the_way_is_looked_at(live, qos, monkeypatch):
    monkeypatch.delenv("QOS_API_KEY")
    code, checks = examine(qos)
    assert code == 3
    assert failed(checks) == ["key"]
    assert checks["tcp"]["status"] == "ok"
    skipped = [n for n, check in checks.items() if check["status"] == "skipped"]
    assert skipped == ["tls", "http", "websocket", "clock"]


def test_a_refused_key_is_told_and_not_shown(live, qos, monkeypatch):
    monkeypatch.setenv("QOS_API_KEY", "a-wrong-key")
    ran = qos("doctor")
    assert ran.code == 3
    assert "FAILED  key             refused; it came from QOS_API_KEY" in ran.out
    assert "a-wrong-key" not in ran.out + ran.err


def test_a_key_that_is_good_over_http_alone_has_a_hint(live, qos, monkeypatch):
    """The plan's only connection may be taken."""
    live.sim.refuse("Key expired.", "RS")
    code, checks = examine(qos)
    assert code == 1
    assert checks["http"]["status"] == checks["key"]["status"] == "ok"
    assert "another program use the plan's only" in checks["websocket"]["hint"]


def test_a_plan_that_is_used_up_is_told(live, qos):
    """The key must be good, then."""
    live.sim.refuse("Request limit exceeded.", "/snapshot")
    _, checks = examine(qos)
    assert checks["http"]["status"] == "failed"
    assert "wait a minute" in checks["http"]["hint"]
    assert checks["websocket"]["status"] == checks["key"]["status"] == "ok"


def test_a_question_that_is_refused_is_told(live, qos):
    """Whoever gets a no has shown a good key."""
    live.sim.refuse("Not today.", "/snapshot")
    live.sim.refuse("Not today.", "RS")
    _, checks = examine(qos)
    assert checks["http"]["detail"] == "/snapshot CF:BTCUSDT: Not today."
    assert checks["http"]["hint"] == "the service was reached and rejected the request"
    assert checks["websocket"]["status"] == "failed"
    assert checks["key"]["status"] == "ok"


def test_no_network_is_told_and_everything_else_looked_at(home, qos, monkeypatch):
    """Names are looked up, ports are knocked at, and nobody can judge the key."""
    monkeypatch.setenv("QOS_API_KEY", "some-key-or-other")
    monkeypatch.setattr("qos_async.cli.doctor.checks._TIMEOUT", 0.05)
    urls = ("--http-url", "https://qos.invalid", "--stream-url", "ws://127.0.0.1:1/ws")
    ran = qos("doctor", *urls)
    assert ran.code == 1
    assert "FAILED  name            qos.invalid: " in ran.out
    assert "skipped tcp             qos.invalid:443 has no address" in ran.out
    assert "FAILED  tcp             127.0.0.1:1: Connect call failed" in ran.out
    assert "-> nothing listens there, or a firewall rejects it" in ran.out
    assert "skipped tls             127.0.0.1:1 cannot be reached" in ran.out
    assert "FAILED  http " in ran.out
    assert "FAILED  websocket " in ran.out
    assert (
        "skipped key             the service was not reached; it came from QOS_API_KEY"
        in ran.out
    )


def test_a_configuration_nobody_understands_does_not_end_it(
    live, qos, home, monkeypatch
):
    """Everything else is looked at as if there were none."""
    monkeypatch.delenv("QOS_API_KEY")
    home.write_text("colour = 5\n")
    code, checks = examine(qos)
    assert code == 3
    assert failed(checks) == ["configuration", "key"]
    assert (
        "config.toml: colour: unknown; allowed: key, http_url"
        in checks["configuration"]["detail"]
    )
    assert "10 symbols" in checks["plan"]["detail"]
    assert checks["tcp"]["status"] == "ok"


def test_an_address_that_cannot_be_is_told(live, qos):
    code, checks = examine(qos, "--http-url", "http://qos.example")
    assert code == 1
    assert failed(checks) == ["addresses"]
    assert "unencrypted" in checks["addresses"]["detail"]


def test_a_proxy_is_reached_instead(live, qos, monkeypatch):
    """Its password stays its owner's."""
    monkeypatch.setenv("QOS_PROXY", f"http://ann:hunter22@127.0.0.1:{port_of(live)}")
    ran = qos("doctor")
    proxy = f"http://127.0.0.1:{port_of(live)}"
    assert f"proxy           {proxy} is used; it came from QOS_PROXY" in ran.out
    assert f"tls             goes through the proxy {proxy}" in ran.out
    assert "hunter22" not in ran.out
    assert "ann:" not in ran.out


def port_of(live):
    return live.sim.http_url.rpartition(":")[2]


def test_it_tells_what_others_may_not_read(live, qos, home, monkeypatch):
    """And where everything is set; home and its owner have no name."""
    monkeypatch.setenv("HOME", str(home.parents[1]))
    monkeypatch.setenv("ALL_PROXY", "socks5://ann:hunter22@proxy.example:1080/x?y")
    home.write_text(f'key = "{live.sim.key}"\n{home.read_text()}')
    home.chmod(0o644)
    _, checks = examine(qos)
    said = checks["configuration"]
    assert said["detail"].startswith(
        "~/qos-async/config.toml is read; http_url from QOS_"
    )
    assert said["hint"].endswith("chmod 600 ~/qos-async/config.toml")
    assert checks["proxy"]["detail"] == (
        "ALL_PROXY=socks5://proxy.example:1080 in the environment, not used"
    )


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@contextlib.contextmanager
def secured(certificate):
    """Shake hands with two visitors, of whom the first one just knocks."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)

    def welcome():
        for _ in range(2):
            visitor, _ = listener.accept()
            with visitor, contextlib.suppress(OSError):
                visitor.settimeout(5)
                with context.wrap_socket(visitor, server_side=True) as secure:
                    secure.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        with ThreadPoolExecutor(1) as threads:
            serving = threads.submit(welcome)
            yield listener.getsockname()[1]
            serving.result()


async def shaken(authority, monkeypatch, tmp_path, *, trusted=True, **certificate):
    """Look at a server with such a certificate, and give what was told."""
    if trusted:
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    told: list[Check] = []
    with secured(authority.issue_cert("localhost", **certificate)) as port:
        await probe(Endpoint("localhost", port, secure=True), told.append)
    return told


async def test_a_certificate_is_told_of(authority, monkeypatch, tmp_path):
    told = await shaken(authority, monkeypatch, tmp_path)
    assert [(check.check, check.status) for check in told] == [
        ("name", "ok"),
        ("tcp", "ok"),
        ("tls", "ok"),
    ]
    assert "uses TLSv1.3 after" in told[-1].detail
    assert "certificate by trustme v" in told[-1].detail
    assert told[-1].detail.endswith(" days left")
    assert told[-1].hint == ""


async def test_a_certificate_that_is_about_to_expire_is_told_of(
    authority, monkeypatch, tmp_path
):
    soon = datetime.now(UTC) + timedelta(days=3, hours=1)
    told = await shaken(authority, monkeypatch, tmp_path, not_after=soon)
    assert told[-1].detail.endswith(" 3 days left")
    assert "about to expire" in told[-1].hint


async def test_a_certificate_nobody_trusts_is_told_of(authority, monkeypatch, tmp_path):
    told = await shaken(authority, monkeypatch, tmp_path, trusted=False)
    assert told[-1].status == "failed"
    assert "unable to get local issuer certificate" in told[-1].detail
    assert "virus scanner" in told[-1].hint


async def test_a_server_without_tls_is_told_of(live):
    told: list[Check] = []
    port = int(port_of(live))
    await probe(Endpoint("127.0.0.1", port, secure=True), told.append)
    assert (told[-1].check, told[-1].status) == ("tls", "failed")
    assert "check the address and its port" in told[-1].hint


async def test_a_server_that_says_nothing_is_not_waited_for(monkeypatch):
    """It takes the connection, and no notice of TLS."""
    monkeypatch.setattr(probes, "_TIMEOUT", 0.25)
    gone = asyncio.Event()

    async def sleep(reader, writer):
        await gone.wait()
        writer.close()

    told: list[Check] = []
    async with await asyncio.start_server(sleep, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        await probe(Endpoint("127.0.0.1", port, secure=True), told.append)
        gone.set()
    assert told[-1].detail == f"127.0.0.1:{port}: no response within 0.25 s"
