"""Random histories of a hub: faults upstream, clients that come and go; the tape judges."""

from __future__ import annotations

import asyncio
import os
import random

import pytest

from qos_async.sim import Simulator, Variants
from qos_async.testing.virtual import simulate
from tests.support.hub_rig import Rig, rigged
from tests.support.tape_judge import Consumer, check_trades

pytestmark = pytest.mark.slow

SEEDS = int(os.environ.get("QOS_TEST_EFFORT", "1")) * 3
SYMBOLS = ["US:AAPL", "US:TSLA", "HK:700", "CF:BTCUSDT", "CF:ETHUSDT"]
MINUTES = 6


async def disturb(sim: Simulator, rng: random.Random) -> None:
    """Inject one fault, and wait until it is over."""
    match rng.randrange(8):
        case 0:
            sim.cut(reset=rng.random() < 0.5)
        case 1:
            await sim.outage(rng.uniform(1, 40))
        case 2:
            sim.mute()
            await asyncio.sleep(rng.uniform(1, 20))
            sim.unmute()
        case 3:
            await sim.close(code=rng.choice([1001, 1011, 1012, 1013]))
        case 4:
            sim.delay_replies(rng.uniform(0.5, 5.0), count=rng.randint(1, 3))
        case 5:
            sim.drop_replies(count=rng.randint(1, 2))
        case 6:
            sim.reject_upgrades(503)
            await asyncio.sleep(rng.uniform(1, 15))
            sim.allow_upgrades()
        case _:
            sim.push_garbage()


async def come_and_go(rig: Rig, rng: random.Random) -> list[Consumer]:
    """Open and close consumers for some minutes; return those that are open then."""
    present: list[Consumer] = []
    loop = asyncio.get_running_loop()
    until = loop.time() + MINUTES * 60
    while loop.time() < until:
        await asyncio.sleep(rng.uniform(0, 15))
        if len(present) > 5 or (present and rng.random() < 0.3):
            leaver = present.pop(rng.randrange(len(present)))
            await leaver.stop()
            check_trades(leaver, rig.sim, to_now=False)
        else:
            symbols = rng.sample(SYMBOLS, rng.randint(1, 3))
            consumer = Consumer(rig.client(), *symbols)
            try:
                async with asyncio.timeout(120):
                    await consumer.start()
            except TimeoutError:
                await consumer.stop()
            else:
                present.append(consumer)
    return present


@pytest.mark.fault("H5")
@pytest.mark.parametrize("seed", range(SEEDS))
def test_each_client_has_each_trade_once_or_was_given_a_gap(seed):
    rng = random.Random(seed)
    variants = Variants(push_on_subscribe=rng.random() < 0.5)

    async def disturb_often(sim: Simulator) -> None:
        while True:
            await asyncio.sleep(rng.uniform(5, 60))
            await disturb(sim, rng)

    async def main() -> None:
        rate = rng.choice([0.3, 2.0, 8.0])
        async with rigged(rate=rate, variants=variants, seed=seed + 1) as rig:
            disturbing = asyncio.create_task(disturb_often(rig.sim))
            present = await come_and_go(rig, rng)
            disturbing.cancel()
            await asyncio.gather(disturbing, return_exceptions=True)
            rig.sim.unmute()
            rig.sim.come_back()
            rig.sim.allow_upgrades()
            await asyncio.sleep(150)
            for consumer in present:
                check_trades(consumer, rig.sim)
            union = {("T", s, None) for one in present for s in one.symbols}
            assert rig.sim.subscribed == union
            assert rig.sim.violations == []
            for consumer in present:
                await consumer.stop()

    simulate(main, seed=seed)
