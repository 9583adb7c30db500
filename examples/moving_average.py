"""A bot with a strategy: long while the fast average is above the slow one, on paper.

The averages are of the last trades. They begin with what the server remembers, so the
bot knows where it stands at once; after a hole that could not be filled they begin anew.
"""

import asyncio
from collections import deque

from qos_async import Client, Gap, Trade

SYMBOL = "CF:BTCUSDT"
FAST, SLOW = 5, 20
ENOUGH = 60


class Crossing:
    """Two moving averages, and what follows from them."""

    def __init__(self) -> None:
        self.prices: deque[float] = deque(maxlen=SLOW)
        self.bought_at: float | None = None
        self.profit = 0.0

    def see(self, price: float) -> str | None:
        """Take a price in; say what is to be done, if anything."""
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

    def forget(self) -> None:
        """Begin anew; a position stays."""
        self.prices.clear()


async def main() -> None:
    crossing = Crossing()
    async with Client(numbers=float) as client, client.watch_trades(SYMBOL) as trades:
        past = await client.fetch_trades(SYMBOL, count=SLOW)
        for trade in past[SYMBOL]:
            crossing.see(trade.price)
        print(f"{SYMBOL}: knows the last {len(crossing.prices)} trades")
        async for event in trades.events():
            match event:
                case Gap(status="filled"):
                    pass  # What was missed comes next.
                case Trade(price=price):
                    deed = crossing.see(price)
                    if deed:
                        print(f"{event.time:%H:%M:%S} {deed} at {price}")
                case _:
                    print("a hole: the averages begin anew")
                    crossing.forget()
            if trades.stats.delivered >= ENOUGH:
                break
    side = "flat" if crossing.bought_at is None else "long"
    print(f"{side}, profit so far {crossing.profit:+.2f}")


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        print("stopped")
