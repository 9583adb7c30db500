"""The examples that write to a database, guard a position, or serve an assistant."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from examples import risk_stop
from qos_async import Client, Recorder, replay
from qos_async.sim import Simulator
from tests.support.markdown import ROOT
from tests.support.programs import finish, start

# What is slow to import is imported where it is used.

EXAMPLES = ROOT / "examples"


@pytest.fixture
async def recording(simulator: Simulator, tmp_path: Path) -> Path:
    """Forty trades of BTC."""
    folder = tmp_path / "recording"
    client = Client(
        simulator.key,
        http_url=simulator.http_url,
        stream_url=simulator.stream_url,
        recorder=Recorder(folder),
    )
    async with client, client.watch_trades("CF:BTCUSDT") as trades:
        for _ in range(40):
            await anext(trades)
    return folder


async def places(folder: Path) -> list[str]:
    async with replay(folder, speed=None) as client:
        return [trade.place async for trade in client.watch_trades("CF:BTCUSDT")]


@pytest.mark.qos(virtual=True)
async def test_a_position_is_closed_while_there_is_no_data(
    qos_simulator: Simulator, qos_environment, monkeypatch, capsys
):
    monkeypatch.setattr(risk_stop, "LOSS", 1)
    guarding = asyncio.create_task(risk_stop.main())
    await asyncio.sleep(10)
    await qos_simulator.outage(60)
    await guarding
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("long at ")
    assert lines[-1].startswith("position closed: no data for 2 s: ")


@pytest.mark.qos(virtual=True)
async def test_a_short_outage_leaves_the_position_open_until_its_price(
    qos_simulator: Simulator, qos_environment, monkeypatch, capsys
):
    monkeypatch.setattr(risk_stop, "BLIND", 30.0)
    guarding = asyncio.create_task(risk_stop.main())
    await asyncio.sleep(10)
    qos_simulator.cut()
    await guarding
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("data again, ")
    assert lines[-1].startswith("position closed: ")
    assert "no data" not in lines[-1]


@pytest.fixture(scope="module")
def dsn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL server of its own."""
    pgserver = pytest.importorskip("pgserver", exc_type=ImportError)
    place = tmp_path_factory.mktemp("pg")
    server = pgserver.get_server(place, cleanup_mode="delete")
    yield server.get_uri()
    server.cleanup()


@pytest.mark.slow
@pytest.mark.parametrize("rate", [20.0])
async def test_each_trade_is_in_postgresql_once_also_after_a_kill(
    recording: Path, dsn: str
):
    psycopg = import_module("psycopg")

    async def run() -> None:
        async with start(
            EXAMPLES / "postgres.py", recording, dsn, env=os.environ
        ) as process:
            assert process.stdout is not None
            await process.stdout.readline()
            process.kill()
            await process.wait()

    await run()
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as database:
        # As if it had been killed after ten.
        await database.execute(
            "DELETE FROM trades WHERE place NOT IN "
            "(SELECT place FROM trades ORDER BY place LIMIT 10)"
        )
        await database.execute(
            "UPDATE progress SET place = (SELECT max(place) FROM trades)"
        )
        await run()
        cursor = await database.execute("SELECT place, side FROM trades ORDER BY place")
        rows = await cursor.fetchall()
    assert [place for place, _ in rows] == await places(recording)
    assert {side for _, side in rows} <= {"buy", "sell", "unknown", "neutral"}


@pytest.mark.slow
@pytest.mark.parametrize("rate", [20.0])
async def test_duckdb_makes_bars_of_a_recording(recording: Path):
    async with start(
        EXAMPLES / "duckdb_bars.py", recording, "CF:BTCUSDT", env=os.environ
    ) as process:
        shown = await finish(process)
    assert process.returncode == 0
    assert "CF:BTCUSDT" in shown
    assert "close" in shown


@pytest.mark.slow
async def test_an_assistant_reads_quotes_bars_and_sessions(environment):
    mcp = import_module("mcp")
    program = str(EXAMPLES / "mcp_server.py")
    server = mcp.StdioServerParameters(
        command=sys.executable, args=[program], env=dict(environment)
    )
    async with mcp.Client(server) as assistant:
        tools = {tool.name for tool in (await assistant.list_tools()).tools}
        assert tools == {"quotes", "bars", "session"}
        quotes = await assistant.call_tool("quotes", {"symbols": "CF:BTCUSDT,NOSUCH"})
        found: Any = quotes.structured_content
        assert found["missing"] == ["CF:NOSUCH"]
        assert float(found["quotes"]["CF:BTCUSDT"]["last_price"]) > 0
        bars = await assistant.call_tool("bars", {"symbol": "CF:BTCUSDT", "count": 3})
        rows: Any = bars.structured_content
        assert len(rows["result"]) == 3
        wrong = await assistant.call_tool("quotes", {"symbols": "BTC"})
        assert wrong.is_error
        assert "did you mean US:BTC?" in str(wrong.content)
        hours = {"symbol": "HK:700", "epoch_seconds": 1_741_959_000}
        session = await assistant.call_tool("session", hours)
        assert not session.is_error
