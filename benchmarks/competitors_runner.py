"""Runner of one library, unmodified, in a separate process.

    python -m benchmarks.competitors_runner NAME URL WARM TICKS

Started by ``benchmarks.competitors``. Each library is used as in its manual, except that it
connects to the loopback server, and is given what it would request from an exchange over
HTTP. Ticks are counted in user code: in its callback, or after its ``await``. Prints
nanoseconds a tick, of the clock and of CPU time.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any, NoReturn

from benchmarks.baselines import each_trade
from benchmarks.harness import Round, pin

__all__ = ["COMPETITORS"]


class _Count:
    """Counts ticks in callbacks, and ends the process after the last."""

    def __init__(self, round_: Round) -> None:
        self._lap = round_
        self._goal = round_.goal
        self._seen = 0

    def add(self, count: int = 1) -> None:
        """Count ticks."""
        self._seen += count
        if self._seen >= self._goal:
            self._goal = self._lap.mark(self._seen)
            if not self._goal:
                _finish(self._lap)


def _finish(round_: Round) -> NoReturn:
    print(json.dumps(round_.figures), flush=True)
    os._exit(0)  # Some libraries cannot be stopped, or take seconds.


async def _client(url: str, round_: Round) -> None:
    await each_trade(url, round_, float)
    _finish(round_)


async def _queue(url: str, round_: Round) -> None:
    """A usual client without a library."""
    websockets, orjson = import_module("websockets"), import_module("orjson")
    queue: asyncio.Queue[Any] = asyncio.Queue(1_000)

    async def receive() -> None:
        async with websockets.connect(url) as ws:
            await ws.send('{"type":"T","codes":["US:TSLA"],"reqid":1}')
            await ws.recv()
            async for data in ws:
                await queue.put(orjson.loads(data))

    task = asyncio.create_task(receive())
    count = _Count(round_)
    while not task.done():
        await queue.get()
        count.add()


async def _vendor(url: str, round_: Round) -> None:
    count = _Count(round_)

    async def on_trade(_: Any) -> None:
        count.add()

    client = import_module("qos_api.ws_client").QOSWebSocketClient("key")
    client.ws_url = url
    client.register_callback("T", on_trade)
    await client.connect()
    await client.subscribe_trades(["US:TSLA"])
    await asyncio.Event().wait()


def _cryptofeed(url: str, round_: Round) -> None:
    count = _Count(round_)

    async def on_trade(_: Any, __: float) -> None:
        count.add()

    defines, symbols = _modules("cryptofeed.defines", "cryptofeed.symbols")
    exchanges, connection = _modules("cryptofeed.exchanges", "cryptofeed.connection")
    btc = symbols.Symbol("BTC", "USDT").normalized
    symbols.Symbols.set("BINANCE", {btc: "BTCUSDT"}, {"instrument_type": {btc: "spot"}})
    base = url.rpartition("/")[0]
    exchanges.Binance.websocket_endpoints = [connection.WebsocketEndpoint(base)]
    handler = import_module("cryptofeed").FeedHandler({"log": {"disabled": True}})
    handler.add_feed(
        exchanges.Binance(
            symbols=[btc],
            channels=[defines.TRADES],
            callbacks={defines.TRADES: on_trade},
        )
    )
    handler.run()


async def _ccxt(url: str, round_: Round) -> None:
    exchange = import_module("ccxt.pro").binance()
    market = {
        "id": "BTCUSDT",
        "lowercaseId": "btcusdt",
        "symbol": "BTC/USDT",
        "base": "BTC",
        "quote": "USDT",
        "baseId": "BTC",
        "quoteId": "USDT",
        "type": "spot",
        "spot": True,
        "active": True,
        **dict.fromkeys(("contract", "linear", "inverse", "option"), False),
    }
    exchange.set_markets([market])
    exchange.urls["api"]["ws"]["spot"] = f"{url.removesuffix('ws')}stream"
    count = _Count(round_)
    while True:
        count.add(len(await exchange.watch_trades("BTC/USDT")))


async def _massive(url: str, round_: Round) -> None:
    count = _Count(round_)

    async def on_trades(trades: list[Any]) -> None:
        count.add(len(trades))

    client = import_module("massive").WebSocketClient(
        api_key="key",
        feed=url.removeprefix("ws://").removesuffix("/ws"),
        secure=False,
        subscriptions=["T.TSLA"],
    )
    await client.connect(on_trades)


async def _python_binance(url: str, round_: Round) -> None:
    binance = import_module("binance")
    manager = binance.BinanceSocketManager(
        binance.AsyncClient("key", "secret"), max_queue_size=1 << 30
    )
    manager.STREAM_URL = url.removesuffix("ws")
    count = _Count(round_)
    async with manager.trade_socket("BTCUSDT") as trades:
        while True:
            await trades.recv()
            count.add()


def _alpaca(url: str, round_: Round) -> None:
    count = _Count(round_)

    async def on_trade(_: Any) -> None:
        count.add()

    live = import_module("alpaca.data.live")
    stream = live.StockDataStream("key", "secret", url_override=url)
    stream.subscribe_trades(on_trade, "TSLA")
    stream.run()


def _modules(*names: str) -> list[Any]:
    return [import_module(name) for name in names]


COMPETITORS: dict[str, Callable[[str, Round], Awaitable[None] | None]] = {
    "qos_async": _client,
    "qos-api": _vendor,
    "cryptofeed": _cryptofeed,
    "ccxt": _ccxt,
    "massive": _massive,
    "python-binance": _python_binance,
    "alpaca-py": _alpaca,
    "websockets + orjson + asyncio.Queue": _queue,
}


def main() -> None:
    name, url, warm, ticks = sys.argv[1:]
    logging.disable()  # Some libraries log each message.
    pin()
    work = COMPETITORS[name](url, Round(int(warm), int(ticks)))
    if work is not None:

        async def run() -> None:
            await work

        asyncio.run(run())


if __name__ == "__main__":
    main()
