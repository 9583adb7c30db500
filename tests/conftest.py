"""Checks of every test: no task, error or socket is left, and no key is leaked."""

from __future__ import annotations

import asyncio
import gc
import inspect
import math
import signal
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from importlib import import_module
from importlib.util import find_spec
from types import AsyncGeneratorType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import none

from qos_async import Limits, Timing, testing
from qos_async.testing.virtual import VirtualLoop
from tests.support import optional_packages
from tests.support.key_leak_plugin import KeyLeakDetector

Loop = Callable[[], asyncio.AbstractEventLoop]

_EAGER: Any = getattr(asyncio, "eager_task_factory", None)  # From Python 3.12 on.

_key_leaks = KeyLeakDetector()


# A slow machine is not a defect of the code.
settings.register_profile(
    "suite", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")

# Children start without: it would add warnings and checks to what they print.
_INHERITED = ("PYTHONWARNINGS", "PYTHONDEVMODE", "PYTHONASYNCIODEBUG")

# Background processes of a shell ignore SIGINT, those of nohup SIGHUP: some tests send them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--loop",
        choices=["asyncio", "eager", "uvloop"],
        default="asyncio",
        help="event loop of the tests; eager: asyncio's with eager tasks",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "soak: takes minutes; run with -m soak, and never without"
    )
    kind = config.getoption("loop")
    if (kind == "uvloop" and not find_spec("uvloop")) or (
        kind == "eager" and not _EAGER
    ):
        raise pytest.UsageError(f"--loop={kind}: this Python does not have it")
    config.option.log_level = config.option.log_level or "DEBUG"
    if not config.pluginmanager.is_registered(
        testing
    ):  # As the entry point does once it is installed.
        config.pluginmanager.register(testing)
    config.pluginmanager.register(optional_packages)
    patch = pytest.MonkeyPatch()
    config.add_cleanup(patch.undo)
    for name in _INHERITED:
        patch.delenv(name, raising=False)
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


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Loop]:
    kind = config.getoption("loop")
    if item.get_closest_marker("virtual_time"):
        return {"virtual": _eager(VirtualLoop) if kind == "eager" else VirtualLoop}
    return {"real": _patient(_real_loop(kind))}


def _real_loop(kind: str) -> Loop:
    if kind == "uvloop":
        loop: Loop = import_module("uvloop").new_event_loop
        return loop
    return _eager(asyncio.new_event_loop) if kind == "eager" else asyncio.new_event_loop


def _eager(make: Loop) -> Loop:
    def made() -> asyncio.AbstractEventLoop:
        loop = make()
        loop.set_task_factory(_EAGER)
        return loop

    return made


def _patient(make: Loop) -> Loop:
    """Return a factory of loops that do not complain of a slow machine."""

    def made() -> asyncio.AbstractEventLoop:
        loop = make()
        loop.slow_callback_duration = math.inf
        return loop

    return made


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
    """Fail if a task, an open generator or an unretrieved error outlives the test."""
    unhandled: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: unhandled.append(context))
    abandoned = _record_abandoned_generators(loop)
    open_before = _open_generators()
    before = asyncio.all_tasks()
    yield
    for _ in range(3):
        await asyncio.sleep(0)
    gc.collect()  # Unclosed sockets and unretrieved errors warn now.
    await asyncio.sleep(0)
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    # The server of a test may hang in a handler on purpose.
    left = {task for task in left if "RequestHandler" not in repr(task.get_coro())}
    abandoned += [one.__qualname__ for one in _open_generators() - open_before]
    assert not abandoned, f"nobody closed these asynchronous generators: {abandoned}"
    assert not left, f"tasks outlived the test: {left}"
    assert not unhandled, unhandled


def _record_abandoned_generators(loop: Any) -> list[str]:
    """Record those of the package that are collected before they are closed.

    The event loop closes such a generator in a task of its own, at some time.
    """
    abandoned: list[str] = []
    close = getattr(loop, "_asyncgen_finalizer_hook", None)
    if close is None:
        return abandoned  # uvloop

    def finalize(generator: AsyncGeneratorType[Any, Any]) -> None:
        if _is_ours(generator):
            abandoned.append(generator.__qualname__)
        close(generator)

    loop._asyncgen_finalizer_hook = finalize
    return abandoned


def _open_generators() -> set[AsyncGeneratorType[Any, Any]]:
    return {
        one
        for one in gc.get_objects()
        if type(one) is AsyncGeneratorType and one.ag_frame and _is_ours(one)
    }


def _is_ours(generator: AsyncGeneratorType[Any, Any]) -> bool:
    return "/qos_async/" in generator.ag_code.co_filename


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
