"""Proxies that stand in the way: told from the service, with what to do."""

from __future__ import annotations

import contextlib
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.cli.test_doctor import examine, failed


@pytest.fixture(autouse=True)
def key(home, monkeypatch):
    monkeypatch.setenv("QOS_API_KEY", "some-key-or-other")


@contextlib.contextmanager
def refusing(status):
    """A proxy that lets nobody through."""

    def answer():
        while True:
            try:
                visitor, _ = listener.accept()
            except OSError:
                return
            with visitor, contextlib.suppress(OSError):
                visitor.settimeout(5)
                if visitor.recv(4096):
                    line = f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n"
                    visitor.sendall(line.encode())

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
def test_a_proxy_that_says_no_is_told_from_the_service(qos, status, hint):
    with refusing(status) as proxy:
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


def test_a_proxy_that_does_not_run_is_told(qos, monkeypatch):
    monkeypatch.setattr("qos_async.cli.doctor.checks._TIMEOUT", 0.05)
    _, checks = examine(qos, "--proxy", "http://127.0.0.1:1")
    assert checks["tcp"]["hint"].endswith(
        "this is the proxy: check that it runs, and its address"
    )


def test_a_proxy_without_a_scheme_is_told(qos, monkeypatch):
    """With what to write, and without its password."""
    monkeypatch.setenv("QOS_PROXY", "ann:hunter22@proxy.example:3128")
    code, checks = examine(qos)
    assert code == 1
    assert failed(checks) == ["proxy", "addresses"]
    assert checks["proxy"]["detail"] == (
        "proxy.example:3128 has no scheme; it came from QOS_PROXY"
    )
    assert checks["proxy"]["hint"] == "write http://proxy.example:3128"
    assert "hunter22" not in str(checks)
