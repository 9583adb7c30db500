"""The pytest plugin, in separate pytest runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
BODY = """
import asyncio, time
{extra}
{mark}
@pytest.mark.qos(seed=2, numbers=float)
async def test_both_fixtures_run_on_the_loop_of_the_test(qos_client, qos_simulator):
    quotes = await qos_client.fetch_snapshots("US:AAPL")
    assert type(quotes["US:AAPL"].last_price) is float
    assert len(qos_simulator.requests) == 1

{mark}
@pytest.mark.qos(virtual=True)
async def test_waiting_takes_no_time(qos_simulator, qos_client):
    began, loop = time.time(), asyncio.get_running_loop().time()
    await asyncio.sleep(1_000)
    assert asyncio.get_running_loop().time() - loop == 1_000
    assert time.time() - began == 1_000
    await qos_client.fetch_snapshots("US:AAPL")

{mark}
async def test_the_clock_is_real_again():
    assert time.time() > 1_742_000_000
    assert type(asyncio.get_running_loop()).__name__ != "SimLoop"
"""
ANYIO = """
import pytest
from qos_async.testing import SimLoop
@pytest.fixture
def anyio_backend(request):
    virtual = "waiting" in request.node.name
    return ("asyncio", {"loop_factory": SimLoop}) if virtual else "asyncio"
"""


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "pytest", "-q", "--strict-markers"]
    command += ["-p", "qos_async.testing", "-p", "no:cacheprovider", *options]
    if {"asyncio", "pytest_asyncio.plugin"} & set(options):
        command += ["-o", "asyncio_default_fixture_loop_scope=function"]
    return subprocess.run(
        command,
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("extra", "mark", "options"),
    [
        ("import pytest", "", ["-p", "asyncio", "-o", "asyncio_mode=auto"]),
        ("import pytest", "@pytest.mark.asyncio", ["-p", "pytest_asyncio.plugin"]),
        (ANYIO, "@pytest.mark.anyio", ["-p", "anyio"]),
        (ANYIO, "@pytest.mark.anyio", ["-p", "anyio", "-p", "asyncio"]),
    ],
    ids=["asyncio-auto", "asyncio-strict", "anyio", "anyio-beside-asyncio"],
)
def test_the_fixtures_work_under(tmp_path, extra, mark, options):
    (tmp_path / "test_user.py").write_text(BODY.format(extra=extra, mark=mark))
    done = run(tmp_path, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


def test_a_run_without_its_fixtures_imports_only_the_plugin(tmp_path):
    (tmp_path / "test_user.py").write_text(
        "import sys\n\n\ndef test_it():\n"
        "    assert 'qos_async.testing' in sys.modules\n"
        "    ours = {name for name in sys.modules if name.startswith('qos_async.')}\n"
        "    assert ours <= {'qos_async._version', 'qos_async.testing',\n"
        "        'qos_async.testing.options', 'qos_async.testing.plugin'}\n"
        "    assert not {'aiohttp', 'msgspec'} & set(sys.modules)\n"
    )
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_plugin_does_not_import_asyncio():
    # In a bare interpreter, because pytest itself may import asyncio during a run.
    program = (
        "import sys, qos_async.testing\n"
        "assert not {'aiohttp', 'msgspec', 'asyncio'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_fixtures_are_listed_with_their_docstrings(tmp_path):
    shown = run(tmp_path, "--fixtures").stdout
    for words in (
        "qos_simulator",
        "generous plan",
        "qos_client",
        "closed after the test",
    ):
        assert words in shown


SCOPES = """
import asyncio
import pytest
{extra}
LOOPS = []
{mark}
class TestTwice:
    @pytest.mark.parametrize("n", [1, 2])
    async def test_the_client_works_in_the_loop_of_the_test(
        self, n, qos_client, qos_simulator
    ):
        LOOPS.append(asyncio.get_running_loop())
        async with asyncio.timeout(5):
            await qos_client.fetch_snapshots("US:AAPL")
            async with qos_client.watch_trades("CF:BTCUSDT") as trades:
                await anext(trades)
            qos_simulator.cut()


def test_the_loop_is_shared_as_asked_for():
    assert len(set(map(id, LOOPS))) == {loops}
"""
BACKEND = """
@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"
"""


@pytest.mark.fault("F15")
@pytest.mark.parametrize(
    ("loops", "mark", "options"),
    [
        (2, "(loop_scope='function')", ()),
        (1, "(loop_scope='class')", ()),
        (1, "(loop_scope='module')", ()),
        (1, "(loop_scope='package')", ()),
        (1, "(loop_scope='session')", ()),
        (1, "(scope='module')", ("-W", "ignore")),
        (1, "", ("-o", "asyncio_default_test_loop_scope=session")),
    ],
)
def test_the_fixtures_work_in_a_loop_of_any_scope(tmp_path, loops, mark, options):
    mark = f"@pytest.mark.asyncio{mark}"
    options = ["-p", "asyncio", *options]
    (tmp_path / "__init__.py").touch()
    (tmp_path / "test_user.py").write_text(
        SCOPES.format(mark=mark, loops=loops, extra="")
    )
    done = run(tmp_path, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


@pytest.mark.fault("F15")
def test_the_fixtures_work_with_a_backend_of_anyio_for_a_whole_module(tmp_path):
    (tmp_path / "test_user.py").write_text(
        # anyio keeps a loop for fixtures of a wider scope only; these have none.
        SCOPES.format(mark="@pytest.mark.anyio", loops=2, extra=BACKEND)
    )
    done = run(tmp_path, "-p", "anyio")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


@pytest.mark.parametrize("options", [[], ["-p", "anyio"]])
@pytest.mark.parametrize("test", ["async def test_it", "def test_it"])
@pytest.mark.parametrize("fixture", ["qos_simulator", "qos_client", "qos_environment"])
def test_without_an_asyncio_plugin_the_error_says_what_to_install(
    tmp_path, options, test, fixture
):
    (tmp_path / "test_user.py").write_text(f"{test}({fixture}):\n    pass\n")
    done = run(tmp_path, *options)
    assert done.returncode == 1
    assert "pip install pytest-asyncio" in done.stdout
    assert "Traceback" not in done.stdout
    assert "AssertionError" not in done.stdout
