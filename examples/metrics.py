"""Metrics for Prometheus at ``/metrics``, and a status page at ``/``."""

import asyncio
import os

from aiohttp import web

from qos_async import Client

PORT = int(os.environ.get("PORT", "0"))  # 0 selects a free port.
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
ENOUGH = 100


async def main() -> None:
    async with Client() as client:

        async def metrics(_: web.Request) -> web.Response:
            text = client.stats.to_openmetrics().encode()
            return web.Response(body=text, headers={"Content-Type": OPENMETRICS})

        async def page(_: web.Request) -> web.Response:
            return web.Response(text=client.report())

        app = web.Application()
        app.add_routes([web.get("/metrics", metrics), web.get("/", page)])
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", PORT).start()
            print("scrape http://{}:{}/metrics".format(*runner.addresses[0][:2]))
            async with client.watch_trades("CF:BTCUSDT,ETHUSDT") as trades:
                while trades.stats.delivered < ENOUGH:
                    await anext(trades)
                print(client.report())
        finally:
            await runner.cleanup()


asyncio.run(main())
