"""An MCP server: an assistant reads quotes, bars and trading sessions.

    python examples/mcp_server.py                   (pip install 'mcp>=2')

Enter this command in the assistant's configuration of MCP servers, with ``QOS_API_KEY``
in its environment. It reads only; each question costs a request of the plan.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError

from qos_async import Client, QosError
from qos_async.markets import session_at


@asynccontextmanager
async def one_client(server: MCPServer[Client]) -> AsyncIterator[Client]:
    """Keep one client for all questions, so that they share the plan's quota."""
    async with Client() as client:
        yield client


server: MCPServer[Client] = MCPServer(
    "qos", instructions="Market data. Symbols: US:AAPL, HK:700.", lifespan=one_client
)


@server.tool()
async def quotes(symbols: str, context: Context[Client]) -> dict[str, Any]:
    """Return the last prices of symbols, such as "US:AAPL,TSLA"."""
    try:
        found = await context.request_context.lifespan_context.fetch_snapshots(symbols)
    except (QosError, ValueError) as error:
        raise ToolError(str(error)) from None  # A sentence that says what to change.
    rows = {symbol: quote.to_dict() for symbol, quote in found.items()}
    return {"quotes": rows, "missing": list(found.missing)}


@server.tool()
async def bars(
    symbol: str, context: Context[Client], interval: str = "1d", count: int = 30
) -> list[dict[str, Any]]:
    """Return klines, oldest first; the last is unfinished. Intervals: 1m to 1y."""
    client = context.request_context.lifespan_context
    try:
        found = await client.fetch_klines(symbol, interval=interval, count=count)
    except (QosError, ValueError) as error:
        raise ToolError(str(error)) from None
    return [bar.to_dict() for rows in found.values() for bar in rows]


@server.tool()
def session(symbol: str, epoch_seconds: int) -> str:
    """Return the trading session of a symbol's market at a time."""
    try:
        return str(session_at(symbol, epoch_seconds))
    except ValueError as error:
        raise ToolError(str(error)) from None


if __name__ == "__main__":
    server.run()
