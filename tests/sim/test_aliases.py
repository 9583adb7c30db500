"""Old names of the simulator and the testing package work, with a warning."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from qos_async import sim, testing
from qos_async._deprecation import renamed_options
from qos_async.sim import Close, Simulator
from qos_async.testing import options, virtual
from qos_async.testing.virtual import SimLoop, VirtualLoop


def warned(old: str, new: str) -> Any:
    return pytest.warns(DeprecationWarning, match=f"{old} is now {new}; the old name")


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        (sim, "Frame", "ReceivedFrame"),
        (sim, "Market", "SimulatedMarket"),
        (sim, "Request", "ReceivedRequest"),
        (sim, "Watch", "WireTopic"),
        (virtual, "Selector", "VirtualSelector"),
        (virtual, "own_world", "patched_time_and_random"),
    ],
)
def test_an_old_name_of_a_module_is_the_new_one(module, old, new):
    with warned(f"{module.__name__}.{old}", new):
        assert getattr(module, old) is getattr(module, new)


@pytest.mark.parametrize("module", [sim, virtual, testing])
def test_an_unknown_name_of_a_module_is_an_attribute_error(module):
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = module.nonsense


async def test_a_delay_has_an_alias(raw):
    wire = await raw.dial()
    with warned("answer_late", "delay_replies"):
        raw.sim.answer_late(0.1, "RS")
    await wire.send("RS", "US:AAPL")
    assert (await wire.request("H"))["type"] == "H"
    assert (await wire.reply())["type"] == "RS"


async def test_a_dropped_reply_has_an_alias(raw):
    wire = await raw.dial()
    with warned("lose_answers", "drop_replies"):
        raw.sim.lose_answers("T")
    await wire.send("T", "US:AAPL")
    assert (await wire.request("H"))["type"] == "H"


async def test_garbage_has_an_alias(raw):
    wire = await raw.dial()
    with warned("garbage", "push_garbage"):
        raw.sim.garbage(b'{"tp":"X"}')
    assert await wire.next() == {"tp": "X"}


async def test_rejections_have_aliases(raw):
    wire = await raw.dial()
    with warned("refuse", "reject"):
        raw.sim.refuse("Not today")
    assert (await wire.request("T", "US:AAPL"))["msg"] == "Not today"
    with warned("refuse_symbols", "reject_symbols"):
        raw.sim.refuse_symbols("US:AAPL")
    assert (await wire.request("T", "US:AAPL"))["msg"] == "No permission: US:AAPL"
    with warned("refuse_upgrades", "reject_upgrades"):
        raw.sim.refuse_upgrades(418)
    with pytest.raises(Exception, match="418"):
        await raw.dial()


async def test_the_option_newcomers_has_an_alias(raw):
    with warned("newcomers=", "new_connections="):
        raw.sim.mute(newcomers=False)
    assert (await (await raw.dial()).request("H"))["msg"] == "OK"


async def test_a_scheduled_fault_has_an_alias(raw):
    wire = await raw.dial()
    with warned("suffer", "run_scheduled_fault"):
        fault = asyncio.create_task(raw.sim.suffer(Close(after=0.0, code=1012)))
    assert await wire.end() == 1012
    await fault


async def test_the_methods_of_a_link_have_aliases(raw):
    wire = await raw.dial()
    await raw.sim.until(lambda: raw.sim.links)
    [link] = raw.sim.links
    with warned("put", "send"):
        link.put(b'{"tp":"X"}')
    with warned("put_later", "send_later"):
        link.put_later(b'{"tp":"Y"}', 0.01)
    assert [await wire.next() for _ in range(2)] == [{"tp": "X"}, {"tp": "Y"}]
    with warned("hang_up", "close_soon"):
        link.hang_up(1012)
    assert await wire.end() == 1012


def test_the_option_beat_has_an_alias():
    make: Any = Simulator
    with warned("beat=", "push_interval="):
        simulator = make(beat=0.5)
    assert simulator._push_interval == 0.5


def test_the_option_beat_of_the_mark_has_an_alias(request):
    request.node.add_marker(pytest.mark.qos(beat=0.5))
    with warned(r"pytest.mark.qos\(beat=\)", r"pytest.mark.qos\(push_interval=\)"):
        found = options.parse_mark(request.node)
    assert found.simulator == {"push_interval": 0.5}


@pytest.mark.parametrize("kind", [VirtualLoop, SimLoop])
def test_the_names_of_a_virtual_loop_have_aliases(kind):
    with warned("most=", "max_steps="):
        loop = kind(most=7)
    assert loop._max_steps == 7
    with warned("finish", "cancel_and_close"):
        loop.finish()
    assert loop.is_closed()


def test_a_black_hole_has_aliases():
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        async with Simulator() as simulator:
            _, port = simulator._address
            await loop.create_connection(asyncio.Protocol, "127.0.0.1", port)
            connection = loop.net.connections[0]
            with warned('"hole"', '"blackhole"'):
                connection.cut("hole")
            assert connection.up._held == connection.down._held == []
            with warned("heal", "restore"):
                connection.heal()
            with warned("heal", "restore"):
                connection.up.heal()
            assert connection.up._held is connection.down._held is None
            connection.client.abort()

    virtual.simulate(main)


def test_an_option_has_one_of_its_two_names():
    @renamed_options(old="new")
    def function(*, new: int) -> int:
        return new

    call: Any = function
    with pytest.raises(TypeError, match="old= and new= are the same option"):
        call(old=1, new=2)
