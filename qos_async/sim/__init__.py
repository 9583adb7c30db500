"""Simulator of the QOS server: a seeded market behind the whole protocol.

    async with Simulator(seed=1) as sim:
        client = Client(sim.key, http_url=sim.http_url, stream_url=sim.stream_url)

It enforces the plan and records every violation, implements each variant of what is
undocumented about the real server, and injects the faults of a network and a server.

``server.ProtocolServer`` and its handlers (``http``, ``websocket``) know their data only by
the protocols of ``source``; ``Simulator`` serves ``market``, and
``qos_async.recordings`` a recording, by the same code.
"""

from qos_async._deprecation import renamed_names
from qos_async.config import Limits
from qos_async.sim.faults import Close, Cut, Mute
from qos_async.sim.log import ReceivedFrame, ReceivedRequest
from qos_async.sim.market import SimulatedMarket
from qos_async.sim.simulator import Simulator
from qos_async.sim.source import WireTopic
from qos_async.sim.variants import Variants

__all__ = [
    "Close",
    "Cut",
    "Limits",
    "Mute",
    "ReceivedFrame",
    "ReceivedRequest",
    "SimulatedMarket",
    "Simulator",
    "Variants",
    "WireTopic",
]

__getattr__ = renamed_names(
    __name__,
    {
        "Frame": "ReceivedFrame",
        "Market": "SimulatedMarket",
        "Request": "ReceivedRequest",
        "Watch": "WireTopic",
    },
)
