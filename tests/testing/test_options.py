"""Options of the mark, and the errors for wrong ones."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest

import qos_async
from qos_async import Client, ConnectError, Limits
from qos_async.client import ClientOptions
from qos_async.sim import Cut, Simulator
from qos_async.testing import SimLoop, options, plugin

Failed = pytest.fail.Exception


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"sed": 7}, "has no option 'sed': did you mean seed?"),
        ({"nonsense": 1}, "has no option 'nonsense'; it takes faults, heartbeat_"),
        ({"http_url": "x"}, "does not take http_url: qos_client is connected to"),
        ({"key": "x"}, "does not take key: the simulator has one"),
        ({"virtual": 1}, "takes virtual=True or virtual=False, not 1"),
        ({"horizon": 0}, "takes horizon as a number of seconds above 0, not 0"),
        ({"horizon": True}, "takes horizon as a number of seconds above 0, not True"),
        ({"seed": "x"}, "takes seed as a whole number, as in seed=7, not 'x'"),
        ({"faults": 5}, "takes faults as a list of faults, as in faults=[Cut(after=1."),
        ({"faults": Cut(after=1.0)}, "takes faults as a list of faults, as in faults="),
        ({"variants": {}}, "takes variants as Variants(...) or None, not {}"),
        ({"start": "yesterday"}, "takes start as epoch seconds or None, as in start=1"),
        ({"start": float("nan")}, "takes start as epoch seconds or None, as in start="),
        ({"start": 1_741_958_430_000}, "takes start as epoch seconds or None, as in "),
        ({"push_interval": None}, "takes push_interval as a number of seconds above"),
        ({"heartbeat_limit": "1"}, "takes heartbeat_limit as a number of seconds abo"),
        ({"open_universe": 1}, "takes open_universe as True or False, not 1"),
        ({"oldest_bars": 1.5}, "takes oldest_bars as a whole number from 0, not 1.5"),
    ],
)
def test_the_error_for_a_wrong_option_shows_what_to_write(request, given, words):
    request.node.add_marker(pytest.mark.qos(**given))
    with pytest.raises(Failed) as failed:
        options.parse_mark(request.node)
    assert f"pytest.mark.qos {words}" in str(failed.value)


def test_a_positional_option_is_an_error(request):
    request.node.add_marker(pytest.mark.qos(7))
    with pytest.raises(Failed, match="takes options by name, as in seed=7, not 7"):
        options.parse_mark(request.node)


@pytest.mark.qos(seed=1, rate=5.0, virtual=True)
class TestMarks:
    @pytest.mark.qos(seed=2, numbers=float)
    def test_the_closest_mark_wins(self, request):
        read = options.parse_mark(request.node)
        assert read.simulator == {"seed": 2, "rate": 5.0}
        assert read.client == {"numbers": float}
        assert read.virtual
        assert read.horizon == 86_400


def test_every_option_of_simulator_and_client_is_accepted_or_explained():
    taken = {*options.SIMULATOR, *options.CLIENT}
    of_simulator = set(inspect.signature(Simulator).parameters)
    of_client = {"numbers", *ClientOptions.__annotations__}
    world = {
        "session",
        "ssl",
        "proxy",
        "allow_insecure",
    }  # They make no sense on loopback.
    assert taken | set(options.RESERVED) == (of_simulator | of_client) - world


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        (Simulator, {"rate": -1}, "rate must be a number above 0 or None, not -1"),
        (Simulator, {"faults": [3]}, "faults must be Cut, Close or Mute, not 3"),
        (Client, {"key": "k", "numbers": int}, "numbers must be one of Decimal, float"),
    ],
)
def test_a_wrong_value_fails_the_test_with_the_message_of_its_owner(kind, given, words):
    with pytest.raises(Failed, match=f"pytest.mark.qos: {words}"):
        plugin._construct(kind, given)


async def test_the_error_for_virtual_time_on_a_real_loop_shows_how_to_get_it():
    wanted = options.MarkOptions({}, {}, virtual=True, horizon=1.0)
    with pytest.raises(
        Failed, match="needs a loop in virtual time: run the test under"
    ):
        plugin._time_and_random(wanted, seed=1)


def test_the_mark_is_registered(request):
    assert any(one.startswith("qos(") for one in request.config.getini("markers"))


def test_an_unknown_name_is_an_attribute_error():
    testing: Any = qos_async.testing
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = testing.nonsense


@pytest.mark.qos(plan=Limits(symbols=3), faults=[Cut(after=0.01)], recover=False)
async def test_the_client_keeps_to_the_plan_of_the_simulator(qos_simulator, qos_client):
    assert qos_simulator.plan.symbols == 3
    with pytest.raises(qos_async.LimitError):
        qos_client.watch_trades("US:AAPL,TSLA,MSFT,NVDA")


async def test_every_other_client_connects_to_the_simulator_by_the_environment(
    qos_simulator, qos_environment
):
    async with Client() as client:
        await client.connect()
        assert qos_simulator.connections == 1
    assert qos_environment["QOS_API_KEY"] == qos_simulator.key


class TestVirtual:
    pytestmark = pytest.mark.qos(virtual=True)

    @pytest.mark.qos(horizon=500.0)
    async def test_plan_and_timing_are_those_of_production(
        self, qos_simulator, qos_client
    ):
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        assert loop.horizon == 500
        assert qos_simulator.plan == Limits()
        qos_simulator.go_down()
        with pytest.raises(ConnectError):
            await qos_client.connect()
        await asyncio.sleep(400)
        qos_simulator.come_back()
        await qos_simulator.until(lambda: qos_simulator.links, timeout=90)
        assert qos_client.stats.reconnects > 5
