"""Bars of any interval from recorded trades, with DuckDB.

    python examples/duckdb_bars.py RECORDINGS CF:BTCUSDT     (pip install duckdb)

The trades are in a table of the database, for any other question.
"""

import asyncio
import sys

import duckdb

from qos_async import replay
from qos_async.frames import to_arrow

BARS = """
SELECT time_bucket(INTERVAL 10 SECOND, to_timestamp(epoch(time))) AS bar,
       symbol, arg_min(price, n) AS open, max(price) AS high, min(price) AS low,
       arg_max(price, n) AS close, sum(size) AS volume, count(*) AS trades
FROM (SELECT *, row_number() OVER () AS n FROM trades)
GROUP BY ALL ORDER BY bar, symbol
"""


async def main(place: str, symbols: str) -> None:
    database = duckdb.connect()
    async with replay(place, speed=None) as client:
        trades = client.watch_trades(symbols)
        async for batch in trades.batches(max_items=10_000):
            database.register("batch", to_arrow(batch))
            database.execute("CREATE TABLE IF NOT EXISTS trades AS FROM batch LIMIT 0")
            database.execute("INSERT INTO trades FROM batch")
    database.sql(BARS).show()


if __name__ == "__main__":
    match sys.argv[1:]:
        case [place, symbols]:
            asyncio.run(main(place, symbols))
        case _:
            sys.exit(__doc__)
