"""Every example runs, prints what is expected, and leaves nothing open."""

from __future__ import annotations

import signal

import pytest
from aiohttp import ClientSession
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from yarl import URL

from qos_async.sim import Simulator
from tests.support.markdown import ROOT
from tests.support.programs import finish, start

PRINTS = {
    "batches": ["trades, ", "first: {'at': ", "'symbol': 'CF:"],
    "bot": ["CF:ETHUSDT ", "every received trade has been processed"],
    "channels": ["trade  CF:BTCUSDT", "depth  CF:BTCUSDT mid", "kline  CF:ETHUSDT"],
    "fetch": ["HK:700 ", "no data for: US:NOSUCH", "close "],
    "metrics": ["scrape http://127.0.0.1:", "QOS client at ", "trade CF:BTCUSDT"],
    "session": ["US:AAPL ", "the session is still open: True"],
    "watch": ["CF:BTCUSDT", "buy", "sell"],
}
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("name", PRINTS)
async def test_an_example_runs_and_prints(name, simulator: Simulator, environment):
    async with start(ROOT / "examples" / f"{name}.py", env=environment) as process:
        shown = await finish(process)
    assert process.returncode == 0
    assert not [words for words in PRINTS[name] if words not in shown], shown
    assert not simulator.violations


def test_every_example_is_run():
    elsewhere = {"gap_alerts", "ingest_parquet", "moving_average", "relay"}
    elsewhere |= {"test_bot"}  # In test_cookbook.py, and in test_readme_code.py.
    elsewhere |= {"risk_stop", "postgres", "duckdb_bars", "mcp_server"}  # Recipes.
    assert {path.stem for path in EXAMPLES} == set(PRINTS) | elsewhere


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short(path):
    assert len(path.read_text("utf-8").splitlines()) < 80


@pytest.mark.parametrize("rate", [2.0])  # Else it may finish before it is stopped.
async def test_ctrl_c_stops_an_example_cleanly(environment):
    async with start(ROOT / "examples" / "watch.py", env=environment) as process:
        assert process.stdout is not None
        await process.stdout.readline()
        shown = await finish(process, signal.SIGINT)
    assert process.returncode == 0
    assert shown.endswith("stopped\n")


@pytest.mark.parametrize("rate", [4.0])
async def test_the_bot_reports_a_cut_and_stops_on_sigterm(
    simulator: Simulator, environment
):
    async with start(ROOT / "examples" / "bot.py", env=environment) as process:
        assert process.stdout is not None
        await process.stdout.readline()
        simulator.cut()
        while not (line := await process.stdout.readline()).startswith(b"blind on"):
            assert line
        shown = await finish(process, signal.SIGTERM)
    assert process.returncode == 0
    assert shown.endswith("every received trade has been processed\n")


@pytest.mark.parametrize("rate", [2.0])  # Else it may finish before it is scraped.
async def test_prometheus_can_parse_the_metrics(environment):
    path = ROOT / "examples" / "metrics.py"
    async with start(path, env=environment) as process, ClientSession() as session:
        assert process.stdout is not None
        address = (await process.stdout.readline()).decode().split()[1]
        async with session.get(address) as response:
            kind, text = response.headers["Content-Type"], await response.text()
        async with session.get(URL(address).with_path("/")) as response:
            page = await response.text()
        await finish(process, signal.SIGINT)
    assert kind.startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name for family in text_string_to_metric_families(text)}
    assert "qos_frames_received" in families
    assert page.startswith("QOS client at ")


async def test_the_bot_stops_on_a_bad_key(environment):
    bad = {**environment, "QOS_API_KEY": "wrong"}
    async with start(ROOT / "examples" / "bot.py", env=bad) as process:
        out, err = await process.communicate()
    assert process.returncode == 1
    assert not out
    assert err.startswith(b"cannot go on: ")
    assert b"Traceback" not in err
