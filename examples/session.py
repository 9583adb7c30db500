"""An aiohttp session of your own: its proxy, DNS, TLS and limits.

The client uses it and does not close it. Redirects of the client's requests are refused,
since they would carry the key elsewhere; your own requests are not affected.
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
        print("the session is still open:", not session.closed)


asyncio.run(main())
