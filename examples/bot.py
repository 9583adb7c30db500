"""Skeleton of a bot: it knows when it is blind, and stops cleanly on SIGTERM or Ctrl-C."""

import asyncio
import signal
import sys

from qos_async import (
    AuthenticationError,
    Client,
    ClosedError,
    DropOldest,
    Dropped,
    Gap,
    Interrupted,
    Rejected,
    Trade,
)

ENOUGH = 100


async def trade(client: Client, stop: asyncio.Event, *, think: float = 0.0) -> None:
    symbols, buffer = "CF:BTCUSDT,ETHUSDT", DropOldest(1000)
    async with client.watch_trades(symbols, buffer=buffer) as trades:
        async for event in trades.events():
            match event:
                case Trade():
                    print(event.symbol, event.price, event.size)
                    await asyncio.sleep(think)
                case Interrupted():  # The time to cancel orders.
                    print(f"{event.topic} is not live: {event.reason}")
                case Gap():
                    seconds = (event.until - event.since).total_seconds()
                    print(f"blind on {event.topic} for {seconds:.1f} s: {event.reason}")
                case Dropped():
                    print(f"too slow: {event.count} trades lost")
                case Rejected():
                    print(f"the server rejects {event.topic}: {event.message}")
            if trades.stats.delivered >= ENOUGH:
                stop.set()
    print("every received trade has been processed")


async def main() -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        async with Client() as client, asyncio.TaskGroup() as tasks:
            tasks.create_task(trade(client, stop))
            await stop.wait()
            await client.drain(timeout=5)
    except* AuthenticationError as errors:
        sys.exit(f"cannot go on: {errors.exceptions[0]}")
    except* ClosedError:
        print("stopped before the server confirmed the subscription")


if __name__ == "__main__":
    asyncio.run(main())
