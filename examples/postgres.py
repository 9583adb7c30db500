"""Trades into PostgreSQL with COPY, each once, also after a crash.

    python examples/postgres.py RECORDINGS DSN       (pip install 'psycopg[binary]')

It follows what ``qos record`` writes, a directory or ``nats://…``. The place of the last
row is stored with the rows: a program that is killed continues with the next one.
"""

import asyncio
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import psycopg

from qos_async import Gap, Trade, follow

TABLES = """
CREATE TABLE IF NOT EXISTS trades (
    place text PRIMARY KEY, symbol text, price numeric, size numeric, side text,
    traded_at timestamptz, received_at timestamptz, recovered boolean);
CREATE TABLE IF NOT EXISTS gaps (
    topic text, since timestamptz, until timestamptz, status text, reason text);
CREATE TABLE IF NOT EXISTS progress (id int PRIMARY KEY, place text);
"""


def row(trade: Trade[Any]) -> tuple[object, ...]:
    received_at = datetime.fromtimestamp(trade.received_at / 1e9, UTC)
    side, times = str(trade.side), (trade.time, received_at)
    return (
        trade.place,
        trade.symbol,
        trade.price,
        trade.size,
        side,
        *times,
        trade.recovered,
    )


async def write(
    database: psycopg.AsyncConnection[Any], batch: Sequence[object]
) -> None:
    """Write a batch, and how far it reaches, or nothing."""
    trades = [row(one) for one in batch if isinstance(one, Trade)]
    gaps = [
        (str(one.topic), one.since, one.until, one.status, one.reason)
        for one in batch
        if isinstance(one, Gap)
    ]
    async with database.transaction(), database.cursor() as cursor:
        for table, rows in (("trades", trades), ("gaps", gaps)):
            async with cursor.copy(f"COPY {table} FROM STDIN") as copy:
                for one in rows:
                    await copy.write_row(one)
        if trades:
            await cursor.execute(
                "INSERT INTO progress VALUES (1, %s) "
                "ON CONFLICT (id) DO UPDATE SET place = excluded.place",
                (trades[-1][0],),
            )
    print(f"{len(trades)} trades, {len(gaps)} gaps", flush=True)


async def main(place: str, dsn: str) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as database:
        await database.execute(TABLES)
        cursor = await database.execute("SELECT place FROM progress")
        found = await cursor.fetchone()
        async with follow(place, start=found[0] if found else "first") as client:
            trades = client.watch_trades("CF:BTCUSDT")
            async for batch in trades.batches(max_wait=0.5, events=True):
                await write(database, batch)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
