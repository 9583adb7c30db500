"""Trades into Parquet files, until SIGTERM or Ctrl-C.

    python examples/ingest_parquet.py FOLDER        (pip install 'qos-async[arrow]')

A file appears complete or not at all, so it can be read at any time:
``polars.read_parquet("FOLDER/*.parquet")``. Gaps, in which trades may be missing, are in
``FOLDER/gaps.jsonl``.
"""

import asyncio
import os
import signal
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import msgspec
import pyarrow.parquet as pq

from qos_async import Client, ClosedError, Dropped, Gap, Trade
from qos_async.frames import to_arrow

ROWS, SECONDS = 50, 60.0  # Per file, at most; in production 100_000 and 600.


def write(batch: list[Trade[Decimal]], folder: Path) -> None:
    """Write a file; rename it to its final name when it is on the disk."""
    target = folder / f"trades-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.parquet"
    unfinished = target.with_suffix(".part")
    with unfinished.open("wb") as file:
        pq.write_table(to_arrow(batch, numbers=Decimal), file, compression="zstd")
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(target)
    print(f"{len(batch)} trades into {target.name}")


async def ingest(client: Client, folder: Path) -> None:
    batch: list[Trade[Decimal]] = []
    loop = asyncio.get_running_loop()
    async with client.watch_trades("CF:BTCUSDT,ETHUSDT") as trades:
        begun_at = loop.time()
        async for event in trades.events():
            if isinstance(event, Trade):
                batch.append(event)
            elif isinstance(event, Gap | Dropped):
                with (folder / "gaps.jsonl").open("ab") as file:
                    file.write(msgspec.json.encode(event) + b"\n")
            if len(batch) >= ROWS or (batch and loop.time() - begun_at > SECONDS):
                await asyncio.to_thread(write, batch, folder)
                batch, begun_at = [], loop.time()
    if batch:
        write(batch, folder)


async def main(folder: Path) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        async with Client() as client, asyncio.TaskGroup() as tasks:
            tasks.create_task(ingest(client, folder))
            await stop.wait()
            await client.drain(timeout=5)  # So the loop ends and writes the last file.
    except* ClosedError:
        print("stopped before the server confirmed the subscription")


if __name__ == "__main__":
    chosen = Path(sys.argv[1] if len(sys.argv) > 1 else "trades")
    chosen.mkdir(parents=True, exist_ok=True)
    asyncio.run(main(chosen))
