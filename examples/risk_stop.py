"""A risk stop: closes a position at a price, and at once when the data is missing too long.

``Interrupted`` comes as soon as a topic is not live, so the clock of the risk runs while
the connection is down, not only after it is back.
"""

import asyncio
from decimal import Decimal

from qos_async import Client, Gap, Interrupted, Trade

SYMBOL = "CF:BTCUSDT"
LOSS = Decimal("0.001")  # Of the entry price.
BLIND = 2.0  # Seconds without data that the position may stay open.


async def close_position(why: str) -> None:
    """Send the order that closes it to your broker, by another connection than this."""
    print(f"position closed: {why}")


async def main() -> None:
    stop: Decimal | None = None
    blind: asyncio.Task[None] | None = None

    async def too_long(reason: str) -> None:
        await asyncio.sleep(BLIND)
        await close_position(f"no data for {BLIND:g} s: {reason}")

    async with Client() as client, client.watch_trades(SYMBOL) as trades:
        async for event in trades.events():
            match event:
                case Interrupted(reason=reason) if blind is None:
                    blind = asyncio.create_task(too_long(reason))
                case Gap():
                    if blind is not None and blind.done():
                        return
                    if blind is not None:
                        blind.cancel()
                        blind = None
                    print(f"data again, {event.status}")
                case Trade() if stop is None:
                    stop = event.price * (1 - LOSS)
                    print(f"long at {event.price}, stop at {stop:.2f}")
                case Trade() if stop is not None and event.price <= stop:
                    # Also a trade that was fetched after an outage: it did happen.
                    await close_position(f"{event.price} at {event.time:%H:%M:%S}")
                    return


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        print("stopped")
