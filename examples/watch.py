"""A live subscription: trades of two contracts, until 20 have arrived or Ctrl-C.

Needs QOS_API_KEY; QOS_STREAM_URL selects another server, such as a simulator.
"""

import asyncio

from qos_async import Client

ENOUGH = 20


async def main() -> None:
    async with Client() as client, client.watch_trades("CF:BTCUSDT,ETHUSDT") as trades:
        async for trade in trades:
            print(trade.time, trade.symbol, trade.price, trade.size, trade.side)
            if trades.stats.delivered >= ENOUGH:
                break


try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("stopped")
