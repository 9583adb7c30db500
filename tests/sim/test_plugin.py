"""The pytest plugin, in runs of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BODY = """
import aiohttp
{extra}
{mark}
async def test_it(qos_simulator):
    async with aiohttp.ClientSession(headers={{"key": qos_simulator.key}}) as session:
        url = qos_simulator.http_url + "/snapshot"
        async with session.post(url, json={{"codes": ["US:AAPL"]}}) as response:
            assert (await response.json())["msg"] == "OK"
"""
ANYIO = """
import pytest
@pytest.fixture
def anyio_backend():
    return "asyncio"
"""


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "pytest", "-q"]
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
        timeout=15,
    )


@pytest.mark.parametrize(
    ("extra", "mark", "options"),
    [
        ("", "", ["-p", "asyncio", "-o", "asyncio_mode=auto"]),
        ("import pytest", "@pytest.mark.asyncio", ["-p", "pytest_asyncio.plugin"]),
        (ANYIO, "@pytest.mark.anyio", ["-p", "anyio"]),
        (ANYIO, "@pytest.mark.anyio", ["-p", "anyio", "-p", "asyncio"]),
    ],
    ids=["asyncio-auto", "asyncio-strict", "anyio", "anyio-beside-asyncio"],
)
def test_the_fixture_works_under(tmp_path, extra, mark, options):
    (tmp_path / "test_user.py").write_text(BODY.format(extra=extra, mark=mark))
    done = run(tmp_path, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_a_run_that_does_not_use_it_imports_nothing_of_it(tmp_path):
    (tmp_path / "test_user.py").write_text(
        "import sys\n\n\ndef test_it():\n"
        "    assert 'qos_async.testing' in sys.modules\n"
        "    assert not {'qos_async.sim', 'aiohttp', 'msgspec'} & set(sys.modules)\n"
    )
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_fixture_is_listed_with_its_docstring(tmp_path):
    done = run(tmp_path, "--fixtures")
    assert "qos_simulator" in done.stdout
    assert "generous plan" in done.stdout
