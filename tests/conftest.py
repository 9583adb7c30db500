"""What holds in every test: nothing leaks, and nobody sees the key."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis.strategies import none

from qos_async import Limits, Timing
from tests.canary import assert_absent
from tests.peers import KEY
from tests.virtual_time import VirtualLoop

Loops = Mapping[str, Callable[[], asyncio.AbstractEventLoop]]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "virtual_time: runs on a loop whose clock is a number"
    )


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Loops:
    if item.get_closest_marker("virtual_time"):
        return {"virtual": VirtualLoop}
    return {"real": asyncio.new_event_loop}


def pytest_collection_finish(session: pytest.Session) -> None:
    # Hypothesis makes its random generator at its first test, and warns if nobody
    # seems to hold it. It asks gc, which does not look into what is frozen.
    given(none())(lambda _: None)()
    # What was imported is not garbage: looking at it each time would take seconds.
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_trace_of_the_key(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> Generator[None]:
    """Fail if the key is logged, at whatever level, or printed."""
    if not inspect.iscoroutinefunction(getattr(request, "function", None)):
        yield
        return
    caplog.set_level(logging.DEBUG)
    request.getfixturevalue("nothing_left")
    wanted = {"capfd", "capfdbinary", "capsysbinary"} & set(request.fixturenames)
    capture = None if wanted else request.getfixturevalue("capsys")
    yield
    assert_absent(KEY, list(caplog.records), caplog.text)
    if capture is not None:
        printed = capture.readouterr()
        assert_absent(KEY, printed.out, printed.err)


@pytest.fixture
async def nothing_left() -> AsyncGenerator[None]:
    """Fail if a task or an error that nobody took outlives the test."""
    unhandled: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: unhandled.append(context))
    before = asyncio.all_tasks()
    yield
    for _ in range(3):
        await asyncio.sleep(0)
    gc.collect()  # Unclosed sockets and errors never retrieved complain now.
    await asyncio.sleep(0)
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    # A test's own server may hang in a handler; that is what it is for.
    left = {task for task in left if "RequestHandler" not in repr(task.get_coro())}
    assert not left, f"tasks outlived the test: {left}"
    assert not unhandled, unhandled


@pytest.fixture
def fast_limits() -> Limits:
    """A plan at whose pace a test takes no time."""
    return Limits(command_interval=0.02, http_requests=1000, http_period=1.0)


@pytest.fixture
def fast_timing() -> Timing:
    """Patience for the loopback."""
    return Timing(
        heartbeat=0.5,
        silence=1.5,
        request_timeout=1.0,
        connect_timeout=2.0,
        backoff_initial=0.02,
        backoff_max=0.1,
        stable_after=5.0,
        close_timeout=0.3,
    )
