"""A simulator in a process of its own: each line it reads is a number of ticks to send."""

from __future__ import annotations

import asyncio
import json
import sys

from qos_async.sim import Limits, Simulator
from tests.support.memory_transport import KEY

_FRAMES = [
    b'{"tp":"T","c":"US:%s","p":"%d","v":"100","ts":1741958430,"d":1}'
    % ((b"AAPL", b"TSLA")[number % 2], number)
    for number in range(10)
]


async def main() -> None:
    plan = Limits(command_interval=0.1)
    async with Simulator(speed=0.0, plan=plan, key=KEY, heartbeat_limit=600.0) as sim:
        print(json.dumps([sim.http_url, sim.stream_url]), flush=True)  # noqa: T201
        while line := await asyncio.to_thread(sys.stdin.readline):
            await sim.blast(_FRAMES, int(line))


if __name__ == "__main__":
    asyncio.run(main())
