"""A relay: trades to many browsers as server-sent events, with one key.

    pip install fastapi uvicorn
    uvicorn --app-dir examples --timeout-graceful-shutdown 3 relay:app

``GET /trades/CF:BTCUSDT`` is for ``new EventSource(...)``. A symbol is subscribed once,
however many browsers show it, and no browser sees the key. Each browser has its own
buffer: one that cannot keep up receives the event ``lagged`` and is disconnected, so that
it never shows trades with some missing; EventSource reconnects by itself. A gap in the
data of the service is sent to all as the event ``gap``.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal

import msgspec
from fastapi import FastAPI, HTTPException
from fastapi.responses import HTMLResponse, StreamingResponse

from qos_async import Client, Gap, LaggedError, QosError, Strict, Subscription, Trade

BEHIND = 1000  # Trades that a browser may be behind.
PAGE = """<!doctype html><meta charset="utf-8"><title>Trades</title><pre id="tape"></pre>
<script>
  const show = (text) => tape.prepend(text + "\\n"),
    source = new EventSource("trades/CF:BTCUSDT,ETHUSDT");
  source.onmessage = ({data}) => { const t = JSON.parse(data);
    show(`${t.time} ${t.symbol} ${t.price} ${t.size}`); };
  for (const kind of ["gap", "lagged", "ended"])
    source.addEventListener(kind, ({data}) => show(`${kind}: ${data}`));
</script>"""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    async with Client() as app.state.client:
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/", response_class=HTMLResponse)
async def page() -> str:
    return PAGE


@app.get("/trades/{symbols}")
async def trades(symbols: str) -> StreamingResponse:
    client: Client = app.state.client
    try:
        ticks = client.watch_trades(symbols, buffer=Strict(BEHIND))
    except (ValueError, QosError) as error:  # A wrong symbol; too many for the plan.
        raise HTTPException(400, str(error)) from error
    return StreamingResponse(stream(ticks), media_type="text/event-stream")


async def stream(ticks: Subscription[Trade[Decimal]]) -> AsyncIterator[bytes]:
    try:
        async with ticks:
            async for event in ticks.events():
                if isinstance(event, Trade):
                    yield b"data: %b\n\n" % msgspec.json.encode(row(event))
                elif isinstance(event, Gap):
                    yield b"event: gap\ndata: %b\n\n" % msgspec.json.encode(event)
    except LaggedError as error:
        yield b"event: lagged\ndata: %b\n\n" % str(error).encode()
    except QosError as error:
        yield b"event: ended\ndata: %b\n\n" % str(error).encode()


def row(trade: Trade[Decimal]) -> dict[str, object]:
    return {name: getattr(trade, name) for name in ("time", "symbol", "price", "size")}
