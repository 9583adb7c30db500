"""What happens to a fleet, drawn from a seed."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

from tests.support.fleet import FleetOptions, fleet
from tests.support.fleet_faults import ALONE, FAULTS, OF_CLUSTERS
from tests.support.fleet_judge import Verdict

__all__ = ["Plan", "run_plan"]

# The first ten seeds: each kind of fault once, in the time of the gate.
_GATE: list[tuple[int, tuple[str, ...]]] = [
    (1, ("kill holder", "kill durable", "cut link")),
    (1, ("stop holder", "kill placed")),
    (1, ("kill node", "set clock", "rival")),
    (3, ("kill leader", "stop standby")),
    (1, ("partition", "cut link", "end holder")),
    (1, ("roll back", "stop durable")),
    (1, ("full spool", "kill standby")),
    (3, ("rolling restart", "stop leader")),
    (1, ("kill recorders and node", "outage")),
    (3, ("kill two", "stop placed", "end durable")),
]


class Plan:
    """What a seed stands for.

    Attributes:
        seed: The seed.
        options: Of the fleet.
        faults: What goes wrong, in order.
        scale: How long faults last, times the shortest.
        together: Whether all happens at once.
    """

    def __init__(self, seed: int) -> None:
        self.seed, self.scale, self.together = seed, 1.0, False
        draw = random.Random(seed)
        nodes, lease, second_connection = 1, 1.5, "close_oldest"
        if seed < len(_GATE):
            rate = 25.0
            nodes, self.faults = _GATE[seed]
        else:
            rate = draw.choice([3.0, 8.0, 25.0])
            nodes = draw.choice([1, 1, 3])
            kinds = [kind for kind in FAULTS if nodes > 1 or kind not in OF_CLUSTERS]
            self.faults = tuple(draw.choices(kinds, k=draw.randint(3, 6)))
            lease = draw.choice([2.0, 3.0, 5.0])
            self.scale = draw.choice([1.0, 1.0, 2.0, 5.0])
            second_connection = draw.choice(["close_oldest", "refuse"])
            self.together = draw.random() < 0.3
            if self.together:
                first = next((kind for kind in self.faults if kind in ALONE), None)
                self.faults = tuple(
                    kind
                    for kind in dict.fromkeys(self.faults)
                    if kind not in ALONE or kind == first
                )
        self.options = FleetOptions(
            seed, nodes, rate, lease, second_connection, "full spool" in self.faults
        )

    def __str__(self) -> str:
        words = ", all at once" if self.together else ""
        return f"{self.options}, x{self.scale:g}{words}: {', '.join(self.faults)}"


async def run_plan(plan: Plan, directory: Path) -> list[Verdict]:
    """Run a fleet by a plan; return what the consumers have.

    Raises:
        AssertionError: If that is not what was promised.
    """
    async with fleet(directory, plan.options) as one:
        one.log(plan)
        work: list[Any] = [FAULTS[kind] for kind in plan.faults]
        if plan.together:
            await asyncio.gather(*(fault(one, plan.scale) for fault in work))
        else:
            for fault in work:
                await fault(one, plan.scale)
                await one.pause(0.2, 1.0)
        await one.repair()
        verdicts = await one.finish()
        found = [fault for verdict in verdicts for fault in verdict.faults]
        assert not found, "\n".join([*found[:20], one.report()])
    return verdicts
