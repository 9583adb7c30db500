"""What can go wrong in a fleet: each fault begins, lasts and ends, scaled in its length."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable

from tests.support.fleet import Fleet
from tests.support.fleet_process import CLEAN, Program
from tests.support.fleet_programs import REFUSED
from tests.support.nats_servers import NatsServer

__all__ = ["ALONE", "FAULTS", "OF_CLUSTERS", "Fault"]

Fault = Callable[[Fleet, float], Awaitable[object]]


# Processes


async def _kill(
    fleet: Fleet, program: Program, number: signal.Signals = signal.SIGKILL
) -> None:
    fleet.log(number.name, program.name)
    code = await program.end(number)
    if number is signal.SIGTERM:
        assert code in CLEAN, f"{program.name} ended with {code}\n{fleet.report()}"


async def _restart(
    fleet: Fleet, program: Program, number: signal.Signals = signal.SIGKILL
) -> None:
    await _kill(fleet, program, number)
    await fleet.pause(0.0, 2.0)
    program.start()


async def _stop(fleet: Fleet, program: Program, low: float, high: float) -> None:
    fleet.log("stop", program.name)
    program.send(signal.SIGSTOP)
    await fleet.pause(low, high)
    program.send(signal.SIGCONT)
    fleet.log("continue", program.name)


async def _stop_all(fleet: Fleet, scale: float) -> None:
    programs = [*fleet.recorders.values(), *fleet.followers.values()]
    await asyncio.gather(*(_stop(fleet, one, 1.0, 3.0 * scale) for one in programs))


async def _set_clock(fleet: Fleet, scale: float) -> None:
    fleet.is_clock_set = True
    number = fleet.random.choice([signal.SIGUSR1, signal.SIGUSR2])
    fleet.log("set the clock of the holder by", number.name)
    fleet.holder.send(number)


async def _add_rival(fleet: Fleet, scale: float) -> None:
    """Start a second follower of a durable name: it receives nothing."""
    fleet.log("a rival for the durable name")
    rival = fleet.rival
    rival.start()
    await fleet.pause(2.0, 3.0)
    assert rival.process is not None
    if rival.runs:
        await rival.end()
    else:
        assert rival.process.returncode == REFUSED, fleet.report()
    trades = [row for row in fleet.rows("rival") if row["kind"] == "trade"]
    assert not trades, f"two followers share a name: {trades[:3]}\n{fleet.report()}"


# Nodes


async def _kill_nodes(
    fleet: Fleet, *nodes: NatsServer, low: float, high: float
) -> None:
    fleet.log("kill", *(node.name for node in nodes))
    for node in nodes:
        await asyncio.to_thread(node.kill)
    await fleet.pause(low, high)
    for node in nodes:
        await fleet.start_node(node)


async def _stop_nodes(
    fleet: Fleet, *nodes: NatsServer, low: float, high: float
) -> None:
    fleet.log("stop", *(node.name for node in nodes))
    for node in nodes:
        node.pause()
    await fleet.pause(low, high)
    for node in nodes:
        node.resume()
    fleet.log("continue", *(node.name for node in nodes))


async def _kill_node(fleet: Fleet, scale: float) -> None:
    node = fleet.random.choice(fleet.nodes)
    await _kill_nodes(fleet, node, low=0.2, high=2.0 * scale)


async def _kill_leader(fleet: Fleet, scale: float) -> None:
    await _kill_nodes(fleet, await fleet.leader(), low=0.5, high=3.0 * scale)


async def _kill_two(fleet: Fleet, scale: float) -> None:
    leader = await fleet.leader()
    other = next(node for node in fleet.nodes if node is not leader)
    await _kill_nodes(fleet, leader, other, low=1.0, high=3.0 * scale)


async def _stop_leader(fleet: Fleet, scale: float) -> None:
    await _stop_nodes(fleet, await fleet.leader(), low=1.0, high=3.0 * scale)


async def _full_spool(fleet: Fleet, scale: float) -> None:
    await _stop_nodes(fleet, *fleet.nodes, low=3.0, high=5.0 * scale)


async def _rolling_restart(fleet: Fleet, scale: float) -> None:
    for node in fleet.nodes:
        fleet.log("restart", node.name)
        await asyncio.to_thread(node.terminate)
        await asyncio.to_thread(node.start)
        if fleet.cluster is not None:
            await asyncio.to_thread(fleet.cluster.wait_ready)


async def _roll_back(fleet: Fleet, scale: float) -> None:
    node = fleet.random.choice(fleet.nodes)
    fleet.log("copy the store of", node.name)
    copy = await asyncio.to_thread(node.copy_store)
    await fleet.pause(0.5, 3.0 * scale)
    fleet.log("roll back", node.name)
    await asyncio.to_thread(node.kill)
    await asyncio.to_thread(node.roll_back, copy)
    await fleet.start_node(node)


async def _roll_back_takeover(fleet: Fleet, scale: float) -> None:
    """Set the store back to where the recorder before had the lease."""
    node = fleet.random.choice(fleet.nodes)
    copy = await asyncio.to_thread(node.copy_store)
    holder, standby = fleet.holder, fleet.standby
    begun = standby.text().count("Z open\n")
    await _kill(fleet, holder)
    await fleet.until(
        lambda: standby.text().count("Z open\n") > begun, "the standby takes over"
    )
    await fleet.pause(0.5, 1.0 * scale)
    fleet.log("roll back a takeover at", node.name)
    await asyncio.to_thread(node.kill)
    await asyncio.to_thread(node.roll_back, copy)
    await fleet.start_node(node)
    holder.start()


# Several


async def _kill_recorders_and_node(fleet: Fleet, scale: float) -> None:
    for program in fleet.recorders.values():
        await _kill(fleet, program)
    await _kill_nodes(fleet, fleet.nodes[0], low=0.2, high=1.0 * scale)
    for program in fleet.recorders.values():
        program.start()


async def _kill_holder_without_broker(fleet: Fleet, scale: float) -> None:
    fleet.log("kill all nodes")
    for node in fleet.nodes:
        await asyncio.to_thread(node.kill)
    await fleet.pause(1.0, 2.0 * scale)
    await _restart(fleet, fleet.holder)
    for node in fleet.nodes:
        await asyncio.to_thread(node.start, wait=False)


async def _partition(fleet: Fleet, scale: float) -> None:
    """Cut the first recorder off from the broker, not from the service."""
    is_reset = fleet.random.random() < 0.5
    fleet.log("partition of one,", "reset" if is_reset else "black hole")
    for proxy in fleet.proxies:
        if is_reset:
            proxy.down = True
            proxy.reset_peer()
        else:
            proxy.to_client.timeout = proxy.to_server.timeout = True
    await fleet.pause(1.0, 4.0 * scale)
    for proxy in fleet.proxies:
        proxy.clear()
        proxy.reset_peer()


async def _cut_link(fleet: Fleet, scale: float) -> None:
    fleet.log("cut the link")
    fleet.sim.cut(reset=fleet.random.random() < 0.5)


async def _outage(fleet: Fleet, scale: float) -> None:
    fleet.log("outage of the service")
    await fleet.sim.outage(fleet.random.uniform(0.5, 3.0 * scale))


FAULTS: dict[str, Fault] = {
    "kill holder": lambda fleet, _: _restart(fleet, fleet.holder),
    "stop holder": lambda fleet, x: _stop(fleet, fleet.holder, 4.0, 5.0 * x),
    "end holder": lambda fleet, _: _restart(fleet, fleet.holder, signal.SIGTERM),
    "kill standby": lambda fleet, _: _restart(fleet, fleet.standby),
    "stop standby": lambda fleet, x: _stop(fleet, fleet.standby, 3.0, 4.0 * x),
    "kill durable": lambda fleet, _: _restart(fleet, fleet.durable),
    "end durable": lambda fleet, _: _restart(fleet, fleet.durable, signal.SIGTERM),
    "stop durable": lambda fleet, x: _stop(fleet, fleet.durable, 1.0, 3.0 * x),
    "kill placed": lambda fleet, _: _restart(fleet, fleet.placed),
    "stop placed": lambda fleet, x: _stop(fleet, fleet.placed, 1.0, 3.0 * x),
    "rival": _add_rival,
    "stop all": _stop_all,
    "set clock": _set_clock,
    "kill node": _kill_node,
    "kill leader": _kill_leader,
    "kill two": _kill_two,
    "stop leader": _stop_leader,
    "full spool": _full_spool,
    "rolling restart": _rolling_restart,
    "roll back": _roll_back,
    "roll back a takeover": _roll_back_takeover,
    "kill recorders and node": _kill_recorders_and_node,
    "kill holder without broker": _kill_holder_without_broker,
    "partition": _partition,
    "cut link": _cut_link,
    "outage": _outage,
}

OF_CLUSTERS = frozenset({"kill two", "kill leader"})

ALONE = frozenset(
    {
        "kill node",
        "kill leader",
        "kill two",
        "rolling restart",
        "roll back",
        "roll back a takeover",
        "kill recorders and node",
        "kill holder without broker",
        "rival",
        "kill durable",
        "end durable",
    }
)
"""Faults of which one at a time is possible: they start nodes, or need a follower."""
