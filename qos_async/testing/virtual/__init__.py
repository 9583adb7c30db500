"""Virtual time and a network in memory: an hour's outage takes less than a second.

``SimLoop`` is an event loop whose clock jumps over every wait, and whose sockets are in
memory: what one side writes arrives at the other after a latency drawn from the loop's
seed, in order and complete, as TCP guarantees. ``loop.net`` is where a test breaks that
guarantee: it cuts, stalls, slices and refuses. ``simulate`` runs a coroutine on a new
``SimLoop``; ``VirtualLoop`` and ``run`` are the same without a network.

Not modelled: TLS, TCP retransmission time-outs (a black hole lasts until ``restore``),
threads, signals, and servers that go on while the client is blocked, because both share
the loop.
"""

from qos_async._deprecation import renamed_names
from qos_async.testing.virtual.loop import (
    Deadlock,
    Horizon,
    VirtualLoop,
    VirtualSelector,
    block,
    run,
)
from qos_async.testing.virtual.network import Connection, Network
from qos_async.testing.virtual.simulation import (
    WALL,
    SimLoop,
    patched_time_and_random,
    simulate,
)
from qos_async.testing.virtual.transport import End, Pipe, SimTransport

__all__ = [
    "WALL",
    "Connection",
    "Deadlock",
    "End",
    "Horizon",
    "Network",
    "Pipe",
    "SimLoop",
    "SimTransport",
    "VirtualLoop",
    "VirtualSelector",
    "block",
    "patched_time_and_random",
    "run",
    "simulate",
]

__getattr__ = renamed_names(
    __name__,
    {"Selector": "VirtualSelector", "own_world": "patched_time_and_random"},
)
