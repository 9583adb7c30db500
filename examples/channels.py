"""Several channels in one loop, in the order of arrival, distinguished with ``match``.

Each channel takes one frame to subscribe, and the plan allows one frame a second:
entering ``async with`` takes two seconds here. Ticks received meanwhile are buffered.
"""

import asyncio

from qos_async import Client, Depth, Kline, Snapshot, Topic, Trade

TOPICS = (
    Topic("trade", "CF:BTCUSDT"),
    Topic("depth", "CF:BTCUSDT"),
    Topic("kline", "CF:ETHUSDT", "1m"),
)
ENOUGH = 150


async def main() -> None:
    async with Client() as client, client.watch(*TOPICS) as ticks:
        async for tick in ticks:
            match tick:
                case Trade(price=price, size=size):
                    print(f"trade  {tick.symbol} {size} at {price}")
                case Depth(mid=mid, spread=spread):
                    print(f"depth  {tick.symbol} mid {mid} spread {spread}")
                case Kline(close=close, end=end):
                    print(f"kline  {tick.symbol} {close}, ends at {end:%H:%M} UTC")
                case Snapshot():
                    print(f"quote  {tick.symbol} {tick.last_price}")
            if ticks.stats.delivered >= ENOUGH:
                break


try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("stopped")
