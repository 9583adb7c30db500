"""Every example runs, says what it promises, and leaves nothing open."""

from __future__ import annotations

import signal

import pytest
from aiohttp import ClientSession
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from yarl import URL

from qos_async.sim import Simulator
from tests.support.markdown import ROOT
from tests.support.programs import finish, start

SAYS = {
    "batches": ["trades, ", "first: {'at': ", "'symbol': 'CF:"],
    "bot": ["CF:ETHUSDT ", "every trade that was received has been seen"],
    "channels": ["trade  CF:BTCUSDT", "depth  CF:BTCUSDT mid", "kline  CF:ETHUSDT"],
    "fetch": ["HK:700 ", "no data for: US:NOSUCH", "close "],
    "metrics": ["scrape http://127.0.0.1:", "QOS client at ", "trade CF:BTCUSDT"],
    "session": ["US:AAPL ", "the session is still mine: True"],
    "watch": ["CF:BTCUSDT", "BUY", "SELL"],
}
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("name", SAYS)
async def test_example(name, simulator: Simulator, environment):
    async with start(ROOT / "examples" / f"{name}.py", env=environment) as process:
        shown = await finish(process)
    assert process.returncode == 0
    assert not [words for words in SAYS[name] if words not in shown], shown
    assert not simulator.violations


def test_every_example_is_run():
    elsewhere = {"gap_alerts", "ingest_parquet", "moving_average", "relay"}
    elsewhere |= {"test_bot"}  # In test_cookbook.py, and in test_readme_code.py.
    assert {path.stem for path in EXAMPLES} == set(SAYS) | elsewhere


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_is_one_idea(path):
    assert len(path.read_text("utf-8").splitlines()) < 80


@pytest.mark.parametrize("rate", [2.0])  # Else it may be done before it is stopped.
async def test_ctrl_c(environment):
    async with start(ROOT / "examples" / "watch.py", env=environment) as process:
        assert process.stdout is not None
        await process.stdout.readline()
        shown = await finish(process, signal.SIGINT)
    assert process.returncode == 0
    assert shown.endswith("stopped\n")


@pytest.mark.parametrize("rate", [4.0])
async def test_the_bot_tells_of_a_cut_and_stops_on_sigterm(
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
    assert shown.endswith("every trade that was received has been seen\n")


@pytest.mark.parametrize("rate", [2.0])  # Else it may be done before it is asked.
async def test_what_prometheus_scrapes_can_be_read(environment):
    path = ROOT / "examples" / "metrics.py"
    async with start(path, env=environment) as process, ClientSession() as session:
        assert process.stdout is not None
        address = (await process.stdout.readline()).decode().split()[1]
        async with session.get(address) as answer:
            kind, text = answer.headers["Content-Type"], await answer.text()
        async with session.get(URL(address).with_path("/")) as answer:
            page = await answer.text()
        await finish(process, signal.SIGINT)
    assert kind.startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name for family in text_string_to_metric_families(text)}
    assert "qos_frames_received" in families
    assert page.startswith("QOS client at ")


async def test_the_bot_gives_up_on_a_bad_key(environment):
    bad = {**environment, "QOS_API_KEY": "wrong"}
    async with start(ROOT / "examples" / "bot.py", env=bad) as process:
        out, err = await process.communicate()
    assert process.returncode == 1
    assert not out
    assert err.startswith(b"cannot go on: ")
    assert b"Traceback" not in err
