"""Comparison with other libraries, each unmodified: trades a second.

    python -m benchmarks.competitors [--quick] [--json]

A library that speaks QOS reads the same frames from the same server. The others read an
equal trade in their own wire format, from the same server program. cryptofeed requires
TLS: it is compared with a client that reads over TLS, too. In each round, each library
has a new process on one core, with the server on the other: see ``competitors_runner``.

The libraries are pinned in ``requirements.txt``. One that is not installed is left out.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from benchmarks.harness import (
    Candidate,
    Figures,
    Report,
    Rounds,
    Server,
    Spread,
    installed,
    main,
)

__all__ = ["run"]

_ROOT = Path(__file__).parents[1]
_TIMEOUT = 30.0


class _Competitor(msgspec.Struct, frozen=True, kw_only=True):
    """A library, and the speed that the client should reach relative to it."""

    package: str
    module: str
    wire: str
    bound: float
    ticks: int = 40_000
    plan: dict[str, Any] = {}
    tls: bool = False


_COMPETITORS = {
    "qos-api": _Competitor(
        package="qos-api",
        module="qos_api",
        wire="qos",
        bound=10,
        ticks=100_000,
    ),
    "cryptofeed": _Competitor(
        package="cryptofeed",
        module="cryptofeed",
        wire="binance-stream",
        bound=10,
        ticks=100_000,
        plan={"talks": True},
        tls=True,
    ),
    "ccxt": _Competitor(package="ccxt", module="ccxt", wire="binance", bound=15),
    "massive": _Competitor(
        package="massive", module="massive", wire="massive", bound=15
    ),
    "python-binance": _Competitor(
        package="python-binance",
        module="binance",
        wire="binance",
        bound=15,
        plan={"talks": True},
    ),
    "alpaca-py": _Competitor(
        package="alpaca-py", module="alpaca", wire="alpaca", bound=15
    ),
    "websockets + orjson + asyncio.Queue": _Competitor(
        package="websockets",
        module="websockets",
        wire="qos",
        bound=3,
        ticks=100_000,
    ),
}
_OURS = "qos_async"
_OUR_TICKS = 300_000


def run(*, quick: bool) -> Report:
    """Measure all libraries that are installed."""
    report = Report(benchmark="competitors")
    found = {
        name: competitor
        for name, competitor in _COMPETITORS.items()
        if _is_here(report, competitor)
    }
    for competitor in found.values():
        report.about[competitor.package] = version(competitor.package)
    with ExitStack() as stack:
        cert = _certificate(stack)
        if cert is None and found.pop("cryptofeed", False):
            report.note("cryptofeed is left out: it requires TLS, so trustme is needed")
        ways: dict[str, Candidate] = {}
        size = _size(_OUR_TICKS, quick=quick)
        plain = stack.enter_context(Server())
        ways["default"] = partial(_turn, _OURS, plain.url, size)
        if cert is not None:
            secure = stack.enter_context(Server(cert=cert))
            ways["default, TLS"] = partial(_turn, _OURS, secure.url, size, cert)
        for name, competitor in dict(found).items():
            tls = {"cert": cert} if competitor.tls else {}
            server = stack.enter_context(
                Server(wire=competitor.wire, **competitor.plan, **tls)
            )
            size = _size(competitor.ticks, quick=quick)
            ways[name] = partial(_turn, name, server.url, size, tls.get("cert"))
            try:
                _turn(name, server.url, _size(0, quick=True), tls.get("cert"))
            except (RuntimeError, subprocess.TimeoutExpired) as exc:
                report.note(f"{name} is left out: it does not run here ({exc})")
                del ways[name], found[name]
        rounds = Rounds(ways, quick=quick, warm_up=False)  # Each warms up by itself.
    _judge(report, rounds, found)
    return report


def _is_here(report: Report, competitor: _Competitor) -> bool:
    try:
        version(competitor.package)
        there = find_spec(competitor.module) is not None
    except PackageNotFoundError:
        there = False
    if not there:
        report.note(f"{competitor.package} is left out: it is not installed")
    return there


def _certificate(stack: ExitStack) -> str | None:
    trustme = installed("trustme")
    if trustme is None:
        return None
    path = Path(stack.enter_context(TemporaryDirectory())) / "both.pem"
    authority = trustme.CA()
    own = authority.issue_cert("127.0.0.1")
    own.private_key_and_cert_chain_pem.write_to_path(path)
    authority.cert_pem.write_to_path(path, append=True)
    return str(path)


def _size(ticks: int, *, quick: bool) -> tuple[int, int]:
    """Return the number of ticks of the warm-up, and of the measurement."""
    return (200, 1_000) if quick else (ticks // 10, ticks)


def _turn(
    name: str, url: str, size: tuple[int, int], cert: str | None = None
) -> Figures:
    words = [name, url, *map(str, size)]
    # All libraries trust the certificate by this variable of OpenSSL.
    trust = {} if cert is None else {"SSL_CERT_FILE": cert}
    done = subprocess.run(  # noqa: S603 - this Python, our module
        [sys.executable, "-m", "benchmarks.competitors_runner", *words],
        capture_output=True,
        check=False,
        timeout=_TIMEOUT,
        cwd=_ROOT,
        env={**os.environ, **trust},
    )
    if done.returncode:
        lines = done.stderr.decode().strip().splitlines()
        raise RuntimeError(f"{name}: {lines[-1] if lines else done.returncode}")
    figures: Figures = msgspec.json.decode(done.stdout.splitlines()[-1])
    return figures


def _judge(report: Report, rounds: Rounds, found: dict[str, _Competitor]) -> None:
    report.rounds = rounds.count
    for name, competitor in found.items():
        ours = "default, TLS" if competitor.tls else "default"
        group = "speed by CPU time, to the competitor's"
        report.figure(group, f"{ours}, {name}", "x", rounds.ratio(name, "cpu", ours))
        what = f"{ours}: speed, to that of {name}"
        speed = rounds.ratio(name, "wall", ours)
        report.reach("3", what, speed, at_least=competitor.bound)
    for name in rounds.values:
        rate = Spread.of(1e3 / ns for ns in rounds.each(name, "wall"))
        report.figure("million ticks a second", name, "M/s", rate)
    for name in rounds.values:
        report.figure("CPU a tick", name, "ns", rounds.spread(name, "cpu"))


if __name__ == "__main__":
    main(run, "Measure ticks a second beside other libraries.")
