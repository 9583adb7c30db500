"""The longer examples, including their behaviour under faults."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncGenerator, MutableMapping
from contextlib import asynccontextmanager
from decimal import Decimal
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from examples import gap_alerts, moving_average
from qos_async.sim import Simulator
from tests.support.markdown import ROOT
from tests.support.programs import Screen, finish, run_fragment, start

# pyarrow and FastAPI are imported where they are used: they slow every worker down.

EXAMPLES = ROOT / "examples"
NOTEBOOK = json.loads((EXAMPLES / "tour.ipynb").read_text("utf-8"))
CELLS = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


@pytest.mark.qos(virtual=True)
async def test_the_moving_averages_start_with_history_and_start_over_after_a_gap(
    qos_simulator: Simulator, qos_environment, monkeypatch, capsys
):
    monkeypatch.setattr(moving_average, "ENOUGH", 200)
    trading = asyncio.create_task(moving_average.main())
    await asyncio.sleep(20)
    await qos_simulator.outage(120)
    await trading
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "CF:BTCUSDT: starting with the last 20 trades"
    assert lines.count("a gap: the averages start over") == 1
    actions = [line.split()[1] for line in lines if " at " in line]
    assert len(actions) > 5
    # The trades of the start may have bought already.
    assert all({*pair} == {"buy", "sell"} for pair in pairwise(actions))
    side = "long" if actions[-1] == "buy" else "flat"
    assert lines[-1].startswith(f"{side}, profit so far ")


@pytest.mark.parametrize("rate", [8.0])  # Fifty trades reach back six seconds.
async def test_parquet_files_contain_every_trade_and_gaps_are_beside_them(
    simulator: Simulator, environment, tmp_path: Path
):
    program = EXAMPLES / "ingest_parquet.py"
    folder = tmp_path / "tape"
    gaps_file = folder / "gaps.jsonl"
    async with start(program, folder, env=environment) as process:
        assert process.stdout is not None
        assert b"50 trades into" in await process.stdout.readline()
        simulator.cut()
        # SIGTERM ends a recovery in progress, so the gaps have to be reported before.
        await simulator.until(
            lambda: gaps_file.exists() and gaps_file.read_bytes().count(b"\n") == 2,
            timeout=60,
        )
        assert b"50 trades into" in await process.stdout.readline()
        pushed = simulator.pushed["T"]
        await simulator.until(lambda: simulator.pushed["T"] > pushed + 5)
        shown = await finish(process, signal.SIGTERM)
    assert process.returncode == 0
    files = sorted(folder.glob("*.parquet"))
    assert sorted(path.name for path in folder.iterdir()) == [
        "gaps.jsonl",
        *(path.name for path in files),
    ]
    assert len(files) > 2
    assert files[-1].name in shown
    pq = import_module("pyarrow.parquet")
    rows = [row for path in files for row in pq.read_table(path).to_pylist()]
    assert isinstance(rows[0]["price"], Decimal)
    for symbol in ("CF:BTCUSDT", "CF:ETHUSDT"):
        kept = [str(float(row["price"])) for row in rows if row["symbol"] == symbol]
        traded = [str(float(row["p"])) for row in simulator.tape(symbol)]
        assert f",{','.join(kept)}," in f",{','.join(traded)},"
    gaps = [json.loads(line) for line in gaps_file.read_text().splitlines()]
    assert {gap["topic"]["symbol"] for gap in gaps} == {"CF:BTCUSDT", "CF:ETHUSDT"}
    assert {gap["status"] for gap in gaps} == {"filled"}


@asynccontextmanager
async def webhook(status: int) -> AsyncGenerator[tuple[str, asyncio.Queue[Any]]]:
    """Run a webhook; yield its address and a queue of the texts it receives."""
    received: asyncio.Queue[Any] = asyncio.Queue()

    async def take(request: web.Request) -> web.Response:
        received.put_nowait((await request.json())["text"])
        return web.Response(status=status)

    app = web.Application()
    app.router.add_post("/alerts", take)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield "http://{}:{}/alerts".format(*runner.addresses[0][:2]), received
    finally:
        await runner.cleanup()


@pytest.mark.qos(virtual=True, rate=2.0)
async def test_alerts_are_sent_together_once_a_minute_and_a_failed_one_again(
    qos_simulator: Simulator, qos_environment, monkeypatch
):
    async with webhook(503) as (url, received):
        monkeypatch.setenv("WEBHOOK_URL", url)
        watching = asyncio.create_task(gap_alerts.main())
        first, began = await received.get(), time.time()
        await qos_simulator.until(lambda: qos_simulator.pushed["T"] > 50, timeout=60)
        await qos_simulator.outage(60)
        assert await received.get() == first == "watching CF:BTCUSDT,ETHUSDT"
        lines = (await received.get()).splitlines()
        assert time.time() - began >= 119
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    assert sorted(line.partition(": ")[0] for line in lines) == [
        "trade CF:BTCUSDT",
        "trade CF:ETHUSDT",
        "watching CF:BTCUSDT,ETHUSDT",
    ]
    assert any(" trades recovered: the connection broke" in line for line in lines)


class Browser:
    """The ASGI server's side of one request; it receives data once ``reads`` is set."""

    def __init__(self, app: Any, path: str) -> None:
        self._app = app
        self.status = 0
        self.events: list[str] = []
        self.reads = asyncio.Event()
        self.leaves = asyncio.Event()
        self._scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "headers": [],
            "query_string": b"",
            "asgi": {"spec_version": "2.3"},
        }

    async def visit(self) -> None:
        await self._app(self._scope, self._receive, self._send)

    async def _receive(self) -> dict[str, Any]:
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        self.status = message.get("status", self.status)
        await self.reads.wait()
        self.events += message.get("body", b"").decode().split("\n\n")[:-1]


@pytest.mark.qos(virtual=True, rate=20)
async def test_the_relay_disconnects_a_slow_browser_and_serves_the_others(
    qos_simulator: Simulator, qos_environment, monkeypatch
):
    relay = import_module("examples.relay")
    monkeypatch.setattr(relay, "BEHIND", 50)
    quick, slow = (Browser(relay.app, "/trades/CF:BTCUSDT") for _ in range(2))
    wrong = Browser(relay.app, "/trades/nonsense")
    quick.reads.set()
    wrong.reads.set()
    async with relay.lifespan(relay.app), asyncio.TaskGroup() as tasks:
        for browser in (quick, slow, wrong):
            tasks.create_task(browser.visit())
        await asyncio.sleep(60)
        qos_simulator.cut()
        await asyncio.sleep(60)
        slow.reads.set()
        await asyncio.sleep(1)
        assert qos_simulator.connections == 1
        assert len(qos_simulator.received("T")) == 2  # Once, and after the cut.
        quick.leaves.set()
    assert (quick.status, slow.status, wrong.status) == (200, 200, 400)
    assert '"symbol":"CF:BTCUSDT"' in quick.events[0]
    assert len(quick.events) > 2000
    assert [one[:22] for one in quick.events if "data: {" not in one[:7]] == [
        'event: gap\ndata: {"top'
    ]
    assert len(slow.events) <= 53
    assert slow.events[-1].startswith("event: lagged\ndata: ")


async def test_the_notebook_runs_from_its_first_cell_to_its_last(
    environment, monkeypatch: pytest.MonkeyPatch
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    code = "\n".join("".join(cell["source"]) for cell in CELLS)
    screen = Screen(lambda _: False)
    await run_fragment(code, "tour.ipynb", screen)
    assert len(screen.lines) == 6
    assert screen.lines[-1].startswith("QOS client at ")


def test_the_notebook_contains_its_output():
    assert [cell["execution_count"] for cell in CELLS] == [*range(1, len(CELLS) + 1)]
    kinds = {one["output_type"] for cell in CELLS for one in cell["outputs"]}
    assert kinds == {"stream", "execute_result"}
    assert str(ROOT) not in json.dumps(NOTEBOOK)


def test_the_notebook_has_a_small_picture_in_the_time_of_hong_kong():
    outputs = [one for cell in CELLS for one in cell["outputs"]]
    [chart] = [one["data"] for one in outputs if "image/png" in one.get("data", {})]
    assert "Hong Kong" in "".join(chart["text/plain"])
    assert len(chart["image/png"]) < 200_000
