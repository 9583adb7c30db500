"""Virtual time, and a network in memory: an hour's outage takes less than a second.

``SimLoop`` is an event loop whose clock jumps over every wait, and whose sockets are
not the machine's: what one side writes arrives at the other after a latency drawn from
the loop's seed, in order, and whole, as TCP promises. ``loop.net`` is where a test
breaks that promise: it cuts, stalls, slices and refuses. ``simulate`` runs a coroutine
on one; ``VirtualLoop`` and ``run`` are the same without a network.

Not modelled: TLS, retransmission time-outs (a black hole lasts until it is healed),
threads, signals, and servers that go on while our side is blocked, for both share the
loop.
"""

from qos_async.testing.virtual.clock import (
    Deadlock,
    Horizon,
    VirtualLoop,
    VirtualSelector,
    block,
    run,
)
from qos_async.testing.virtual.loop import SimLoop
from qos_async.testing.virtual.network import Connection, Network
from qos_async.testing.virtual.pipe import End, Pipe
from qos_async.testing.virtual.simulation import WALL, patched_time_and_random, simulate
from qos_async.testing.virtual.transport import SimTransport

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
