"""Checks of every test: no task, error or socket is left, and no key is leaked."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import signal
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import none

from qos_async import Limits, Timing, testing
from qos_async.testing.virtual import VirtualLoop
from tests.support.key_leak_plugin import KeyLeakDetector

Loops = Mapping[str, Callable[[], asyncio.AbstractEventLoop]]

_key_leaks = KeyLeakDetector()


# A slow machine is not a defect of the code.
settings.register_profile(
    "suite", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")

# Background processes of a shell ignore SIGINT, which some tests send.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "soak: takes minutes; run with -m soak, and never without"
    )
    config.option.log_level = config.option.log_level or "DEBUG"
    if not config.pluginmanager.is_registered(
        testing
    ):  # As the entry point does once it is installed.
        config.pluginmanager.register(testing)
    patch = pytest.MonkeyPatch()
    config.add_cleanup(patch.undo)
    _key_leaks.install(patch)
    config.addinivalue_line(
        "markers", "virtual_time: runs on a loop with a virtual clock"
    )
    config.addinivalue_line(
        "markers", "fault(*rows): tests the faults of these rows of tests/FAULTS.md"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    if "soak" in config.option.markexpr:
        config.option.numprocesses = 0  # Soak tests measure their own process.


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    if "soak" in config.option.markexpr:
        return
    long = [item for item in items if item.get_closest_marker("soak")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in long]


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Loops:
    if item.get_closest_marker("virtual_time"):
        return {"virtual": _eager(VirtualLoop)}
    return {"real": _eager(asyncio.new_event_loop)}


def _eager(
    factory: Callable[[], asyncio.AbstractEventLoop],
) -> Callable[[], asyncio.AbstractEventLoop]:
    """Make the loops start tasks eagerly (Python 3.12), with ``QOS_TEST_EAGER=1``."""
    if os.environ.get("QOS_TEST_EAGER") != "1":
        return factory

    def make() -> asyncio.AbstractEventLoop:
        loop = factory()
        loop.set_task_factory(getattr(asyncio, "eager_task_factory"))  # noqa: B009 - not in 3.11
        return loop

    return make


def pytest_collection_finish(session: pytest.Session) -> None:
    # Hypothesis creates its random generator at its first test, and warns if it has no
    # references. It gets them from gc, which ignores frozen objects.
    given(none())(lambda _: None)()
    _freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[
    None, pytest.TestReport, pytest.TestReport
]:
    """Fail a test that leaked a key: in the log, in output, or in an error."""
    report = yield
    for name, text in report.sections:
        _key_leaks.scan(name, text)
    findings = _key_leaks.take()
    if findings and report.passed:
        report.outcome, report.longrepr = "failed", "\n".join(findings)
    return report


def _freeze() -> None:
    # Imported modules are not garbage: to search them each time would take seconds.
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def _freeze_imports() -> None:
    _freeze()


@pytest.fixture(autouse=True)
def _check_coroutine_tests(request: pytest.FixtureRequest) -> None:
    if inspect.iscoroutinefunction(getattr(request, "function", None)):
        request.getfixturevalue("nothing_left")


@pytest.fixture
async def nothing_left() -> AsyncGenerator[None]:
    """Fail if a task or an unretrieved error outlives the test."""
    unhandled: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: unhandled.append(context))
    before = asyncio.all_tasks()
    yield
    for _ in range(3):
        await asyncio.sleep(0)
    gc.collect()  # Unclosed sockets and unretrieved errors warn now.
    await asyncio.sleep(0)
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    # The server of a test may hang in a handler on purpose.
    left = {task for task in left if "RequestHandler" not in repr(task.get_coro())}
    assert not left, f"tasks outlived the test: {left}"
    assert not unhandled, unhandled


@pytest.fixture
def fast_limits() -> Limits:
    """Limits that do not slow tests down."""
    return Limits(command_interval=0.02, http_requests=1000, http_period=1.0)


@pytest.fixture
def fast_timing() -> Timing:
    """Short timeouts for connections over loopback."""
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
