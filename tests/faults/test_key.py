"""The key is nowhere outside of requests, and the leak check detects every leak."""

from __future__ import annotations

import asyncio
import copy
import pickle
import re
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

from qos_async import Client
from tests.support.http_servers import serving
from tests.support.key_leak_plugin import KeyLeakDetector
from tests.support.leak_check import assert_absent
from tests.support.memory_transport import KEY, Network, opened

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"

LEAKS = """
import asyncio, logging, sys
from unittest import mock
import pytest
from qos_async import Client, QosError
from qos_async._io.stream import Stream
from tests.support.memory_transport import KEY, Network, opened

def test_without_a_leak(): pass

def test_printed(): print("key", KEY)

def test_printed_as_an_error(): print(KEY, file=sys.stderr)

def test_printed_and_read(capsys):
    print(KEY)
    assert capsys.readouterr().out

@pytest.fixture
def prints_afterwards():
    yield
    print(KEY)

def test_printed_after_the_test(prints_afterwards): pass

@pytest.mark.parametrize("logger", ["", "asyncio", "aiohttp.client", "qos_async.http"])
def test_logged(logger): logging.getLogger(logger).debug("%s", [KEY])

def test_logged_beside_the_message(): logging.getLogger().debug("", extra={"k": KEY})

def test_logged_and_cleared(caplog):
    logging.getLogger().warning(KEY)
    caplog.clear()

def test_escaped_for_a_url():
    logging.getLogger().info("wss://host/ws?key=%s", KEY.replace("+", "%2B"))

async def test_logged_by_a_coroutine(): logging.getLogger("asyncio").debug(KEY)

def message(): return QosError(f"no such key: {KEY}")

def cause():
    error = QosError("no")
    error.__cause__ = KeyError(KEY)
    return error

def hidden_context():
    error = QosError("no")
    error.__context__ = KeyError(KEY)
    error.__suppress_context__ = True
    return error

def attribute():
    error = QosError("no")
    error.request = {"headers": [(b"key", KEY.encode())]}
    return error

def note():
    error = QosError("no")
    error.add_note(KEY)
    return error

def group(): return ExceptionGroup("several", [ValueError(1), KeyError(KEY)])

class Saved(QosError):
    def __reduce__(self): return (Saved, (KEY,))

def pickled(): return Saved("no")

def frame():
    namespace = {"QosError": QosError}
    code = compile(f"def fail(headers):\\n    raise QosError('no')", "/elsewhere.py", "exec")
    exec(code, namespace)
    try:
        namespace["fail"]({"key": KEY})
    except QosError as error:
        return error

ERRORS = [message, cause, hidden_context, attribute, note, group, pickled, frame]

@pytest.mark.virtual_time
@pytest.mark.parametrize("make", ERRORS)
async def test_raised(make):
    async with opened(Network()) as client:
        with mock.patch.object(client._stream, "connect", side_effect=make()):
            with pytest.raises(Exception):
                await client.connect()

@pytest.mark.virtual_time
async def test_emitted_as_the_reason_of_a_change():
    net = Network()
    async with opened(net) as client:
        await client.connect()
        net.peers[0].end(text=KEY)
        await net.link(1)

@pytest.mark.virtual_time
async def test_shown_by_a_client():
    with mock.patch.object(Client, "__repr__", lambda self: KEY):
        async with opened(Network()) as client:
            await client.connect()
"""


@pytest.mark.fault("U19", "I13")
def test_the_leak_check_fails_a_test_for_every_kind_of_leak(tmp_path: Path):
    (tmp_path / "test_leaks.py").write_text(LEAKS)
    options = "-qrA -p tests.conftest -p no:cacheprovider -p no:xdist -o addopts= "
    options += "--rootdir=. -c pyproject.toml"
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *options.split(), str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    outcomes = re.findall(
        r"^(PASSED|FAILED|ERROR) \S*::(\S+)", ran.stdout, re.MULTILINE
    )
    passed = {name for outcome, name in outcomes if outcome == "PASSED"}
    leaking = {name for outcome, name in outcomes if outcome != "PASSED"}
    assert passed - leaking == {"test_without_a_leak"}, ran.stdout[-3000:]
    assert len(leaking) == 22, sorted(leaking)


@pytest.mark.fault("U19")
def test_the_leak_check_finds_the_key_of_the_tests_and_nothing_else():
    detector = KeyLeakDetector()
    detector.scan("words", "a key", "canary", b"KEY")
    assert detector.take() == []
    detector.scan("words", KEY)
    assert len(detector.take()) == 1


@pytest.mark.fault("U19")
@pytest.mark.virtual_time
@pytest.mark.filterwarnings("ignore:Pickle, copy:DeprecationWarning")  # Of itertools.
async def test_pickles_of_a_client_and_its_results_do_not_have_the_key():
    async with opened(Network()) as client:
        trades = client.watch_trades("US:AAPL")
        for thing in (client, trades, client.states()):
            assert_absent(KEY, thing)
            with pytest.raises((TypeError, AttributeError)):
                pickle.dumps(thing)
        with pytest.raises(TypeError):
            copy.copy(client._session._secret)


@pytest.mark.fault("U19")
async def test_a_request_that_is_cancelled_does_not_show_its_headers():
    arrived = asyncio.Event()

    async def hang(_: Any) -> Any:
        arrived.set()
        await asyncio.sleep(60)

    async with serving(hang) as url, Client(KEY, http_url=str(url)) as client:
        request = asyncio.create_task(client.fetch_snapshots("US:AAPL"))
        await arrived.wait()
        request.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await request
    shown = traceback.TracebackException.from_exception(
        caught.value, capture_locals=True
    )
    ours = [f for f in shown.stack if not Path(f.filename).is_relative_to(TESTS)]
    assert ours
    assert "aiohttp" not in str([frame.filename for frame in ours])
    assert_absent(KEY, [frame.locals for frame in ours])
