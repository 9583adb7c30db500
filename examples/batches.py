"""Batches: trades as lists of dicts, for a database or a DataFrame.

A batch is returned when it is full, or 0.2 s after its first trade.
"""

import asyncio
from decimal import Decimal
from typing import Any

from qos_async import Client, DropOldest, Trade

ENOUGH = 50


def row(trade: Trade[Decimal]) -> dict[str, Any]:
    return {
        "at": trade.time,
        "symbol": trade.symbol,
        "price": trade.price,
        "size": trade.size,
    }


async def main() -> None:
    rows: list[dict[str, Any]] = []
    async with Client() as client:
        trades = client.watch_trades("CF:BTCUSDT,ETHUSDT", buffer=DropOldest(100_000))
        async with trades:
            async for batch in trades.batches(max_items=500, max_wait=0.2):
                rows += map(row, batch)
                print(f"{len(batch)} trades, {len(rows)} rows")
                if len(rows) >= ENOUGH:
                    break
    print("first:", rows[0])


try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("stopped")
