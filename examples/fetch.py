"""One-off requests: last prices, klines, and the symbols that the server left out.

Needs QOS_API_KEY; QOS_HTTP_URL selects another server, such as a simulator.
"""

import asyncio

from qos_async import Client


async def main() -> None:
    async with Client() as client:
        quotes = await client.fetch_snapshots("US:AAPL,TSLA", "HK:00700", "US:NOSUCH")
        for symbol, quote in quotes.items():
            print(f"{symbol:<12} {quote.last_price} at {quote.time:%H:%M:%S} UTC")
        print("no data for:", ", ".join(quotes.missing) or "none")

        bars = await client.fetch_klines("CF:BTCUSDT", interval="1h", count=3)
        for bar in bars["CF:BTCUSDT"]:
            print(f"{bar.time:%d %H:%M} to {bar.end:%H:%M}  close {bar.close}")


asyncio.run(main())
