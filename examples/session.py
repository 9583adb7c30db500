"""Lend the client an aiohttp session of your own: its proxy, DNS, TLS and limits.

The client uses it and leaves it open. Redirects that would carry the key elsewhere are
refused on it; everything else that you do with it stays as it was.
"""

import asyncio

import aiohttp

from qos_async import Client


async def main() -> None:
    connector = aiohttp.TCPConnector(limit=4, ttl_dns_cache=300)
    async with aiohttp.ClientSession(connector=connector, trust_env=True) as session:
        async with Client(session=session) as client:
            quotes = await client.fetch_snapshots("US:AAPL,TSLA")
            for symbol, quote in quotes.items():
                print(symbol, quote.last_price)
        print("the session is still mine:", not session.closed)


asyncio.run(main())
