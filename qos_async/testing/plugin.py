"""Hooks and fixtures of the plugin, for pytest-asyncio and for anyio's plugin."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import nullcontext
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, get_args

import pytest

from qos_async.testing.options import MarkOptions, parse_mark

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from contextlib import AbstractContextManager

    from qos_async import Client
    from qos_async.sim import Simulator

__all__ = [
    "pytest_configure",
    "pytest_generate_tests",
    "qos_client",
    "qos_environment",
    "qos_simulator",
]

T = TypeVar("T")

_PYTEST_ASYNCIO = ("asyncio", "pytest_asyncio.plugin")  # Installed; by -p.
_LoopScope: TypeAlias = Literal["function", "class", "module", "package", "session"]
_LOOP_SCOPES: tuple[_LoopScope, ...] = get_args(_LoopScope)
_FIXTURES, _LOOPS = "qos_async.testing.fixtures", "qos_async.testing.loops"
_LOOP_HOOK = "pytest_asyncio_loop_factories"
_MARK = (
    "qos(seed=, rate=, plan=, faults=, numbers=, timing=, virtual=, ...): options of "
    "qos_simulator and qos_client, see help('qos_async.testing')"
)
_NOT_VIRTUAL = (
    "pytest.mark.qos(virtual=True) needs a loop in virtual time: run the test under "
    "pytest-asyncio 1.4 or newer; or under anyio's plugin, with a fixture anyio_backend "
    'that returns ("asyncio", {"loop_factory": qos_async.testing.SimLoop})'
)
_NO_PLUGIN = (
    "the fixtures of qos_async need a plugin that runs async tests: pip install "
    'pytest-asyncio, and mark the test with pytest.mark.asyncio or set asyncio_mode = "auto"; '
    "or mark it with pytest.mark.anyio, for the plugin of anyio"
)


# Hooks


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark, and the fixtures for the asyncio plugins of this run."""
    config.addinivalue_line("markers", _MARK)
    plugin = ModuleType(_FIXTURES)  # pytest collects fixtures from modules.
    for function in (_simulator, _client):
        name = _plain(function)
        setattr(plugin, name, pytest.fixture(function, name=name))
        if _has_pytest_asyncio(config):
            import pytest_asyncio  # noqa: PLC0415 - only imported where it is loaded already

            for scope in _LOOP_SCOPES:
                name = _marked(function, scope)
                fixture = pytest_asyncio.fixture(
                    _wrapped(function), name=name, loop_scope=scope
                )
                setattr(plugin, name, fixture)
    config.pluginmanager.register(plugin, plugin.__name__)


@pytest.hookimpl(wrapper=True)  # To run before the hook of pytest-asyncio.
def pytest_generate_tests(metafunc: pytest.Metafunc) -> Generator[None]:
    """Register the loop factories with pytest-asyncio, once a test needs one."""
    # Once registered, they apply to all tests, so they are not registered earlier.
    plugins = metafunc.config.pluginmanager
    if _wants_virtual_time(metafunc.definition) and not plugins.hasplugin(_LOOPS):
        plugins.register(_LoopFactories(), _LOOPS)
    return (yield)


class _LoopFactories:
    """Loop factories for pytest-asyncio: virtual time, or the default loop."""

    @pytest.hookimpl(tryfirst=True, optionalhook=True, specname=_LOOP_HOOK)
    def pytest_qos_virtual_loops(
        self, config: pytest.Config, item: pytest.Item
    ) -> Mapping[str, Callable[[], AbstractEventLoop]] | None:
        from qos_async.testing.virtual import SimLoop  # noqa: PLC0415 - see the package.

        return {"virtual": SimLoop} if _wants_virtual_time(item) else None

    @pytest.hookimpl(trylast=True, optionalhook=True, specname=_LOOP_HOOK)
    def pytest_qos_real_loops(
        self, config: pytest.Config, item: pytest.Item
    ) -> Mapping[str, Callable[[], AbstractEventLoop]]:
        from asyncio import new_event_loop  # noqa: PLC0415 - see the package.

        return {"asyncio": new_event_loop}


def _wants_virtual_time(node: pytest.Item) -> bool:
    for mark in node.iter_markers("qos"):
        if "virtual" in mark.kwargs:
            return mark.kwargs["virtual"] is True
    return False


# Fixtures


@pytest.fixture
def qos_simulator(request: pytest.FixtureRequest) -> Simulator:
    """Return a running ``Simulator``: by default with ``seed=1`` and a generous plan.

    ``@pytest.mark.qos(...)`` sets its options.
    """
    simulator: Simulator = _fixture_on_test_loop(request, _simulator)
    return simulator


@pytest.fixture
def qos_client(request: pytest.FixtureRequest, qos_simulator: Simulator) -> Client[Any]:
    """Return a ``Client`` that is connected to ``qos_simulator``; closed after the test.

    ``@pytest.mark.qos(...)`` sets its options.
    """
    client: Client[Any] = _fixture_on_test_loop(request, _client)
    return client


@pytest.fixture
def qos_environment(
    qos_simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> Mapping[str, str]:
    """Set, and return, the environment that connects ``Client()`` to ``qos_simulator``."""
    environment = {
        "QOS_API_KEY": qos_simulator.key,
        "QOS_HTTP_URL": qos_simulator.http_url,
        "QOS_STREAM_URL": qos_simulator.stream_url,
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return environment


FixtureFunction = Callable[[pytest.FixtureRequest], AsyncGenerator[Any, None]]


async def _simulator(request: pytest.FixtureRequest) -> AsyncGenerator[Simulator, None]:
    from qos_async.sim import Limits, Simulator  # noqa: PLC0415 - see the package.

    options = parse_mark(request.node)
    chosen = {"push_interval": 1.0} if options.virtual else {"plan": _generous(Limits)}
    chosen = {"seed": 1, **chosen, **options.simulator}
    with _time_and_random(options, chosen["seed"]):
        async with _construct(Simulator, chosen) as simulator:
            yield simulator


async def _client(request: pytest.FixtureRequest) -> AsyncGenerator[Client[Any], None]:
    from qos_async import Client, Timing  # noqa: PLC0415 - see the package.

    options = parse_mark(request.node)
    simulator: Simulator = request.getfixturevalue("qos_simulator")
    chosen: dict[str, Any] = {"limits": simulator.plan}
    if not options.virtual:
        chosen["timing"] = Timing(backoff_initial=0.05, backoff_max=0.5)
    addresses = {"http_url": simulator.http_url, "stream_url": simulator.stream_url}
    chosen = {"key": simulator.key, **addresses, **chosen, **options.client}
    async with _construct(Client, chosen) as client:
        yield client


def _generous(limits: Callable[..., T]) -> T:
    return limits(command_interval=0.0, http_requests=10_000)


def _construct(kind: Callable[..., T], options: Mapping[str, Any]) -> T:
    try:
        return kind(**options)
    except ValueError as error:
        pytest.fail(f"pytest.mark.qos: {error}", pytrace=False)


def _time_and_random(options: MarkOptions, seed: Any) -> AbstractContextManager[None]:
    """Return a context with virtual time and fixed randomness, if the test wants them."""
    if not options.virtual:
        return nullcontext()
    from asyncio import get_running_loop  # noqa: PLC0415 - see the package.

    from qos_async.testing.virtual import SimLoop, patched_time_and_random  # noqa: PLC0415

    loop = get_running_loop()
    if not isinstance(loop, SimLoop):
        pytest.fail(_NOT_VIRTUAL, pytrace=False)
    loop.horizon = options.horizon
    return patched_time_and_random(loop, seed)


# The loop of the test


def _fixture_on_test_loop(
    request: pytest.FixtureRequest, function: FixtureFunction
) -> Any:
    """Return a fixture that was set up on the test's loop: each plugin has its own."""
    anyio = "anyio_backend" in request.fixturenames
    if not (anyio or _has_pytest_asyncio(request.config)):
        pytest.fail(_NO_PLUGIN, pytrace=False)
    marked = _has_pytest_asyncio(request.config) and not anyio
    return request.getfixturevalue(
        _marked(function, _loop_scope(request)) if marked else _plain(function)
    )


def _loop_scope(request: pytest.FixtureRequest) -> str:
    """Return the scope of the loop that pytest-asyncio runs the test in."""
    mark = request.node.get_closest_marker("asyncio")
    options: Mapping[str, Any] = {} if mark is None else mark.kwargs
    scope: Any = options.get("loop_scope") or options.get("scope")
    try:
        default = request.config.getini("asyncio_default_test_loop_scope")
    except (ValueError, KeyError):  # Older versions have no such option.
        default = None
    return str(scope or default or "function")


def _has_pytest_asyncio(config: pytest.Config) -> bool:
    return any(config.pluginmanager.hasplugin(name) for name in _PYTEST_ASYNCIO)


def _plain(function: FixtureFunction) -> str:
    return f"_qos{function.__name__}_plain"


def _marked(function: FixtureFunction, loop_scope: str) -> str:
    return f"_qos{function.__name__}_asyncio_{loop_scope}"


def _wrapped(function: FixtureFunction) -> FixtureFunction:
    # pytest-asyncio sets attributes on the function, which anyio must not see.
    async def wrapper(request: pytest.FixtureRequest) -> AsyncGenerator[Any, None]:
        async for value in function(request):
            yield value

    return wrapper
