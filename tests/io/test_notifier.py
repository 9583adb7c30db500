"""The notifier of waiting tasks."""

from __future__ import annotations

import asyncio

import pytest

from qos_async._io.notifier import Notifier

pytestmark = pytest.mark.virtual_time


async def test_a_notification_wakes_all_waiting_tasks():
    bell = Notifier()
    waiting = [asyncio.create_task(bell.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    bell.notify_all()
    await asyncio.gather(*waiting)


async def test_a_notification_is_not_kept_for_later_waits():
    bell = Notifier()
    bell.notify_all()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(60):
            await bell.wait()


async def test_a_cancelled_wait_is_removed_and_does_not_affect_others():
    bell = Notifier()
    first, second = (asyncio.create_task(bell.wait()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    assert len(bell._waiting) == 1
    bell.notify_all()
    await second
    assert first.cancelled()
    assert not bell._waiting


async def test_a_wait_cancelled_as_it_is_notified_is_cancelled():
    bell = Notifier()
    task = asyncio.create_task(bell.wait())
    await asyncio.sleep(0)
    bell.notify_all()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    bell.notify_all()
