"""The HTTP quota that the processes of one user share."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from qos_async import AuthenticationError, Client, Limits, SharedQuota
from qos_async._io import shared_quota
from qos_async.sim import Simulator
from tests.support.cli_process import environment

KEY = "k-0123456789"
PLAN = Limits(http_requests=2, http_period=1.5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


def share(folder: Path, *, key: str = KEY, **options: Any) -> Any:
    known: dict[str, Any] = {"requests": 2, "period": 0.3, "longest": 0.2}
    on_wait = options.pop("on_wait", None)
    quota = SharedQuota(folder, on_wait=on_wait)
    return quota.share(lambda: key, **(known | options))


async def is_free(one: Any) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.05):
            return await one.acquire() is not None
    return False


def ends(folder: Path) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = json.loads(
        (folder / "http-quota.json").read_text()
    )["ends"]
    return found


async def run_snapshot(tmp_path: Path, sim: Simulator, *words: str) -> int:
    config = tmp_path / "qos-async" / "config.toml"
    config.parent.mkdir(exist_ok=True)
    config.write_text("[limits]\nhttp_requests = 2\nhttp_period = 1.5\n")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "qos_async", "snapshot", "US:AAPL", *words),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env=environment(
            XDG_CONFIG_HOME=str(tmp_path),
            XDG_STATE_HOME=str(tmp_path / "state"),
            QOS_API_KEY=sim.key,
            QOS_HTTP_URL=sim.http_url,
        ),
    )
    return await process.wait()


@pytest.mark.slow
@pytest.mark.fault("Q1")
async def test_processes_share_the_quota_of_a_key(tmp_path):
    async with Simulator(plan=PLAN) as sim:
        codes = await asyncio.gather(*[run_snapshot(tmp_path, sim) for _ in range(6)])
        assert (codes, sim.violations) == ([0] * 6, [])
    saved = b"".join(path.read_bytes() for path in tmp_path.rglob("http-quota*"))
    assert saved
    assert sim.key.encode() not in saved


@pytest.mark.slow
async def test_without_the_shared_quota_each_process_counts_its_own(tmp_path):
    async with Simulator(plan=PLAN) as sim:
        runs = [run_snapshot(tmp_path, sim, "--no-shared-quota") for _ in range(4)]
        await asyncio.gather(*runs)
        assert sim.violations
        sim.violations.clear()
    assert not list(tmp_path.rglob("http-quota*"))


async def test_two_clients_share_the_requests_of_a_key(folder):
    async with Simulator(plan=PLAN) as sim:
        for _ in range(2):
            async with Client(
                sim.key, http_url=sim.http_url, limits=PLAN, quota=SharedQuota(folder)
            ) as client:
                await client.fetch_snapshots("US:AAPL")
                await client.fetch_snapshots("US:AAPL")
        assert sim.violations == []


async def test_the_slots_of_another_key_are_its_own(folder):
    one, other = share(folder), share(folder, key="another")
    for quota in (one, other):
        assert await is_free(quota)
        assert await is_free(quota)
        assert not await is_free(quota)


async def test_a_slot_is_free_a_period_after_its_end_or_at_once_if_it_was_not_sent(
    folder,
):
    first, second = share(folder, requests=1), share(folder, requests=1)
    slot = await first.acquire()
    await first.release(slot, sent=False)
    slot = await second.acquire()
    ended = time.time()
    await second.release(slot, sent=True)
    await first.acquire()
    assert time.time() >= ended + 0.29


@pytest.mark.fault("Q1")
async def test_a_process_that_died_holds_its_slot_for_a_period(folder):
    started = time.time()
    await share(folder, requests=1).acquire()
    await share(folder, requests=1).acquire()
    assert started + 0.49 <= time.time() <= started + 5


@pytest.mark.fault("Q1")
@pytest.mark.parametrize(
    "content",
    [b"", b"{", b'{"salt":"x","ends":{}}', b'{"salt":"00","ends":7}', b"\xff"],
)
async def test_a_damaged_file_is_begun_anew(content, folder):
    folder.mkdir()
    (folder / "http-quota.json").write_bytes(content)
    assert await is_free(share(folder))
    assert len(ends(folder)) == 1


async def test_a_clock_that_was_set_back_delays_by_a_period_at_most(
    folder, monkeypatch
):
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3600.0)
    one = share(folder, requests=1)
    await one.release(await one.acquire(), sent=True)
    monkeypatch.undo()
    async with asyncio.timeout(5):
        await one.acquire()


async def test_each_plan_counts_in_its_own_period(folder):
    short, long = share(folder, requests=1), share(folder, requests=1, period=60.0)
    await short.release(await short.acquire(), sent=True)
    await short.acquire()
    assert not await is_free(long)
    assert await is_free(share(folder, requests=3, period=60.0))


@pytest.mark.fault("Q1")
async def test_a_folder_that_cannot_be_written_shares_nothing(tmp_path):
    (tmp_path / "file").write_text("in the way")
    one = share(tmp_path / "file" / "state")
    for _ in range(5):
        assert await one.acquire() is None


async def test_a_lock_that_is_never_released_shares_nothing(folder, monkeypatch):
    monkeypatch.setattr(shared_quota, "_LOCK_TIMEOUT", 0.05)
    fcntl = pytest.importorskip("fcntl")
    assert await share(folder).acquire() is not None
    with (folder / "http-quota.lock").open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        one = share(folder)
        steps, task = 0, asyncio.create_task(one.acquire())
        while not task.done():
            await asyncio.sleep(0)
            steps += 1
        assert (await task, steps > 3) == (None, True), "the loop is not blocked"


@pytest.mark.fault("F68")
async def test_the_lock_is_free_while_a_key_is_hashed(folder, monkeypatch):
    """It takes long on a busy machine: others would find the file locked for too long."""
    real, free = shared_quota._hash, []

    def watched(salt: str, key: str) -> str:
        with (folder / "http-quota.lock").open("r+b") as file:
            free.append(shared_quota._try_lock(file))
        return real(salt, key)

    monkeypatch.setattr(shared_quota, "_hash", watched)
    one = share(folder, requests=3)
    assert [await one.acquire() is not None for _ in range(2)] == [True, True]
    (folder / "http-quota.json").write_text("damaged")
    assert await one.acquire() is not None
    assert free == [True, True]
    assert list(ends(folder)) == [
        real(json.loads((folder / "http-quota.json").read_text())["salt"], KEY)
    ]


async def test_the_files_are_for_this_user_alone(folder):
    await share(folder).acquire()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


async def test_a_long_wait_is_reported_once(folder):
    waits: list[float] = []
    options: dict[str, Any] = {"requests": 1, "period": 2.0, "longest": 0.1}
    await share(folder, **options).acquire()
    await share(folder, on_wait=waits.append, **options).acquire()
    assert len(waits) == 1


async def test_without_a_key_no_slot_is_used(folder, monkeypatch):
    monkeypatch.delenv("QOS_API_KEY", raising=False)
    quota = SharedQuota(folder)
    async with Client(lambda: "", http_url="http://127.0.0.1:1", quota=quota) as client:
        with pytest.raises(AuthenticationError):
            await client.fetch_snapshots("US:AAPL")
    assert not folder.exists() or not list(folder.iterdir())


async def test_a_tilde_is_the_home_directory(tmp_path: Path, monkeypatch: Any):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    one = SharedQuota("~/quota").share(lambda: KEY, requests=1, period=1, longest=1)
    assert await one.acquire()
    assert list((tmp_path / "home" / "quota").iterdir())
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize("wrong", ["", "a\0b", 7])
def test_a_directory_that_cannot_be_one_raises(wrong: Any):
    with pytest.raises(ValueError, match="directory"):
        SharedQuota(wrong)
