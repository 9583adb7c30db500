"""A strategy on paper: long while the fast moving average is above the slow one.

The averages are those of the last trades. They start with the trades that the server
remembers, so the bot can act at once; after a gap with missing trades they start over.
"""

import asyncio
from collections import deque

from qos_async import Client, Dropped, Gap, Trade

SYMBOL = "CF:BTCUSDT"
FAST, SLOW = 5, 20
ENOUGH = 60


class Crossing:
    """Two moving averages, and the position that follows from them."""

    def __init__(self) -> None:
        self.prices: deque[float] = deque(maxlen=SLOW)
        self.bought_at: float | None = None
        self.profit = 0.0

    def update(self, price: float) -> str | None:
        """Add a price; return "buy", "sell" or None."""
        self.prices.append(price)
        if len(self.prices) < SLOW:
            return None
        rising = sum(list(self.prices)[-FAST:]) / FAST > sum(self.prices) / SLOW
        if rising and self.bought_at is None:
            self.bought_at = price
            return "buy"
        if not rising and self.bought_at is not None:
            self.profit += price - self.bought_at
            self.bought_at = None
            return "sell"
        return None

    def reset(self) -> None:
        """Forget the prices; a position stays."""
        self.prices.clear()


async def main() -> None:
    crossing = Crossing()
    async with Client(numbers=float) as client, client.watch_trades(SYMBOL) as trades:
        past = await client.fetch_trades(SYMBOL, count=SLOW)
        for trade in past[SYMBOL]:
            crossing.update(trade.price)
        print(f"{SYMBOL}: starting with the last {len(crossing.prices)} trades")
        async for event in trades.events():
            match event:
                case Gap(status="filled"):
                    pass  # The missed trades come next.
                case Trade(price=price):
                    action = crossing.update(price)
                    if action:
                        print(f"{event.time:%H:%M:%S} {action} at {price}")
                case Gap() | Dropped():
                    print("a gap: the averages start over")
                    crossing.reset()
                case _:
                    pass  # Interrupted: its Gap follows.
            if trades.stats.delivered >= ENOUGH:
                break
    side = "flat" if crossing.bought_at is None else "long"
    print(f"{side}, profit so far {crossing.profit:+.2f}")


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        print("stopped")
