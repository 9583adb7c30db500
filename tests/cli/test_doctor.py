"""Tests of ``qos_async.cli.doctor``."""

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


def test_all_checks_pass_on_a_simulator(qos):
    """TLS is skipped: plain http to this machine has none."""
    code, checks = examine(qos, "--sim")
    assert code == 0
    assert list(checks) == ALL
    assert [n for n, check in checks.items() if check["status"] != "ok"] == ["tls"]
    assert "it came from the simulator" in checks["key"]["detail"]
    assert "aiohttp 3." in checks["versions"]["detail"]


def test_text_output_fits_80_columns(live, qos, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    ran = qos("doctor", "--sim")
    assert ran.lines[0].startswith("qos doctor at 20")
    assert max(map(len, ran.lines)) <= 80
    assert "\nok      key             accepted; it came from the simulator" in ran.out
    assert "\n                        -> if it is needed, set QOS_PROXY" in ran.out


def test_a_wrong_clock_is_reported(live, qos, monkeypatch):
    """The clock of this simulated market runs fast."""
    monkeypatch.setattr("qos_async.cli.doctor.checks._MAX_CLOCK_SKEW", -1.0)
    code, checks = examine(qos)
    assert code == 1
    assert failed(checks) == ["clock"]
    assert " of ours, give or take 0." in checks["clock"]["detail"]
    assert "NTP" in checks["clock"]["hint"]
    assert checks["key"]["detail"] == "accepted; it came from QOS_API_KEY"


def test_without_a_key_the_connection_is_still_checked(live, qos, monkeypatch):
    monkeypatch.delenv("QOS_API_KEY")
    code, checks = examine(qos)
    assert code == 3
    assert failed(checks) == ["key"]
    assert checks["tcp"]["status"] == "ok"
    skipped = [n for n, check in checks.items() if check["status"] == "skipped"]
    assert skipped == ["tls", "http", "websocket", "clock"]


def test_a_rejected_key_is_reported_but_not_shown(live, qos, monkeypatch):
    monkeypatch.setenv("QOS_API_KEY", "a-wrong-key")
    ran = qos("doctor")
    assert ran.code == 3
    assert "FAILED  key             refused; it came from QOS_API_KEY" in ran.out
    assert "a-wrong-key" not in ran.out + ran.err


def test_a_key_that_works_only_over_http_gets_a_hint(live, qos, monkeypatch):
    """Another program may hold the plan's only connection."""
    live.sim.reject("Key expired.", "RS")
    code, checks = examine(qos)
    assert code == 1
    assert checks["http"]["status"] == checks["key"]["status"] == "ok"
    assert "another program use the plan's only" in checks["websocket"]["hint"]


def test_an_exhausted_plan_is_reported(live, qos):
    """That proves that the key is good."""
    live.sim.reject("Request limit exceeded.", "/snapshot")
    _, checks = examine(qos)
    assert checks["http"]["status"] == "failed"
    assert "wait a minute" in checks["http"]["hint"]
    assert checks["websocket"]["status"] == checks["key"]["status"] == "ok"


def test_a_rejected_request_still_proves_the_key(live, qos):
    """The service checks the key first."""
    live.sim.reject("Not today.", "/snapshot")
    live.sim.reject("Not today.", "RS")
    _, checks = examine(qos)
    assert checks["http"]["detail"] == "/snapshot CF:BTCUSDT: Not today."
    assert checks["http"]["hint"] == "the service was reached and rejected the request"
    assert checks["websocket"]["status"] == "failed"
    assert checks["key"]["status"] == "ok"


def test_without_a_network_the_other_checks_still_run(home, qos, monkeypatch):
    """Names are resolved, ports probed, and the key stays unknown."""
    monkeypatch.setenv("QOS_API_KEY", "an-arbitrary-key")
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


def test_an_invalid_configuration_does_not_stop_the_checks(
    live, qos, home, monkeypatch
):
    """The others run as if there were none."""
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


def test_an_invalid_address_is_reported(live, qos):
    code, checks = examine(qos, "--http-url", "http://qos.example")
    assert code == 1
    assert failed(checks) == ["addresses"]
    assert "unencrypted" in checks["addresses"]["detail"]


def test_with_a_proxy_only_the_proxy_is_probed(live, qos, monkeypatch):
    """Its password is not shown."""
    monkeypatch.setenv("QOS_PROXY", f"http://ann:hunter22@127.0.0.1:{port_of(live)}")
    ran = qos("doctor")
    proxy = f"http://127.0.0.1:{port_of(live)}"
    assert f"proxy           {proxy} is used; it came from QOS_PROXY" in ran.out
    assert f"tls             goes through the proxy {proxy}" in ran.out
    assert "hunter22" not in ran.out
    assert "ann:" not in ran.out


def port_of(live):
    return live.sim.http_url.rpartition(":")[2]


def test_the_report_names_origins_but_no_secrets(live, qos, home, monkeypatch):
    """Nor the names of the home directory and of the user."""
    monkeypatch.setenv("HOME", str(home.parents[1]))
    monkeypatch.setenv("ALL_PROXY", "socks5://ann:hunter22@proxy.example:1080/x?y")
    home.write_text(f'key = "{live.sim.key}"\n{home.read_text()}')
    home.chmod(0o644)
    _, checks = examine(qos)
    check = checks["configuration"]
    assert check["detail"].startswith(
        "~/qos-async/config.toml is read; http_url from QOS_"
    )
    assert check["hint"].endswith("chmod 600 ~/qos-async/config.toml")
    assert checks["proxy"]["detail"] == (
        "ALL_PROXY=socks5://proxy.example:1080 in the environment, not used"
    )


# Proxies


@pytest.fixture
def key(home, monkeypatch):
    monkeypatch.setenv("QOS_API_KEY", "an-arbitrary-key")


@contextlib.contextmanager
def rejecting(status):
    """A proxy that rejects every connection."""

    def answer():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(5)
                if connection.recv(4096):
                    line = f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n"
                    connection.sendall(line.encode())

    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        ThreadPoolExecutor(1) as threads,
    ):
        threads.submit(answer)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        (
            407,
            "the proxy requires a user and a password, or other ones: set QOS_PROXY to",
        ),
        (403, "this was the proxy, not the service: ask its administrator"),
    ],
)
def test_a_rejection_by_a_proxy_is_not_blamed_on_the_service(key, qos, status, hint):
    with rejecting(status) as proxy:
        _, checks = examine(qos, "--proxy", proxy)
        ran = qos("snapshot", "US:AAPL", "--proxy", proxy)
    assert checks["http"]["detail"].endswith(
        f"behind a proxy that answered HTTP {status}"
    )
    assert checks["http"]["hint"].startswith(hint)
    assert checks["websocket"]["hint"].startswith(hint)
    assert checks["tls"]["detail"] == f"goes through the proxy {proxy}"
    assert ran.code == 1
    assert ran.err.endswith(
        f"; the connection goes through the proxy {proxy}, from --proxy\n"
    )


def test_an_unreachable_proxy_is_reported(key, qos, monkeypatch):
    monkeypatch.setattr("qos_async.cli.doctor.checks._TIMEOUT", 0.05)
    _, checks = examine(qos, "--proxy", "http://127.0.0.1:1")
    assert checks["tcp"]["hint"].endswith(
        "this is the proxy: check that it runs, and its address"
    )


def test_a_proxy_without_a_scheme_is_reported(key, qos, monkeypatch):
    """The hint detail what to write, and the password is not shown."""
    monkeypatch.setenv("QOS_PROXY", "ann:hunter22@proxy.example:3128")
    code, checks = examine(qos)
    assert code == 1
    assert failed(checks) == ["proxy", "addresses"]
    assert checks["proxy"]["detail"] == (
        "proxy.example:3128 has no scheme; it came from QOS_PROXY"
    )
    assert checks["proxy"]["hint"] == "write http://proxy.example:3128"
    assert "hunter22" not in str(checks)


# TLS


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@contextlib.contextmanager
def secured(certificate):
    """Accept two connections, of which the first is closed before the handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)

    def serve():
        for _ in range(2):
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.settimeout(5)
                with context.wrap_socket(connection, server_side=True) as secure:
                    secure.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        with ThreadPoolExecutor(1) as threads:
            serving = threads.submit(serve)
            yield listener.getsockname()[1]
            serving.result()


async def probed(authority, monkeypatch, tmp_path, *, trusted=True, **certificate):
    """Probe a server with such a certificate, and return the checks."""
    if trusted:
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    checks: list[Check] = []
    with secured(authority.issue_cert("localhost", **certificate)) as port:
        await probe(Endpoint("localhost", port, secure=True), checks.append)
    return checks


async def test_a_certificate_is_described(authority, monkeypatch, tmp_path):
    checks = await probed(authority, monkeypatch, tmp_path)
    assert [(check.check, check.status) for check in checks] == [
        ("name", "ok"),
        ("tcp", "ok"),
        ("tls", "ok"),
    ]
    assert "uses TLSv1.3 after" in checks[-1].detail
    assert "certificate by trustme v" in checks[-1].detail
    assert checks[-1].detail.endswith(" days left")
    assert checks[-1].hint == ""


async def test_a_certificate_that_expires_soon_gets_a_hint(
    authority, monkeypatch, tmp_path
):
    soon = datetime.now(UTC) + timedelta(days=3, hours=1)
    checks = await probed(authority, monkeypatch, tmp_path, not_after=soon)
    assert checks[-1].detail.endswith(" 3 days left")
    assert "about to expire" in checks[-1].hint


async def test_an_untrusted_certificate_is_reported(authority, monkeypatch, tmp_path):
    checks = await probed(authority, monkeypatch, tmp_path, trusted=False)
    assert checks[-1].status == "failed"
    assert "unable to get local issuer certificate" in checks[-1].detail
    assert "virus scanner" in checks[-1].hint


async def test_a_server_without_tls_is_reported(live):
    checks: list[Check] = []
    port = int(port_of(live))
    await probe(Endpoint("127.0.0.1", port, secure=True), checks.append)
    assert (checks[-1].check, checks[-1].status) == ("tls", "failed")
    assert "check the address and its port" in checks[-1].hint


async def test_a_silent_server_times_out(monkeypatch):
    """It accepts the connection, and ignores the handshake."""
    monkeypatch.setattr(probes, "_TIMEOUT", 0.25)
    gone = asyncio.Event()

    async def sleep(reader, writer):
        await gone.wait()
        writer.close()

    checks: list[Check] = []
    async with await asyncio.start_server(sleep, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        await probe(Endpoint("127.0.0.1", port, secure=True), checks.append)
        gone.set()
    assert checks[-1].detail == f"127.0.0.1:{port}: no response within 0.25 s"
