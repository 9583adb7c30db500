"""A QOS server of your own: a seeded market that speaks the whole protocol.

    async with Simulator(seed=1) as sim:
        client = Client(sim.key, http_url=sim.http_url, stream_url=sim.stream_url)

It enforces the plan and notes every breach, plays each variant of what nobody knows
about the real server, and breaks in every way a network can.
"""

from qos_async.config import Limits
from qos_async.sim.faults import Close, Cut, Mute
from qos_async.sim.log import ReceivedFrame, ReceivedRequest, WireTopic
from qos_async.sim.market import SimulatedMarket
from qos_async.sim.server import Simulator
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
