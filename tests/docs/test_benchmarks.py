"""The benchmarks run and report their figures; the figures are not asserted."""

from __future__ import annotations

import asyncio
import json
import platform
from functools import partial

import msgspec
import pytest

from benchmarks import baselines, chart, harness
from benchmarks.harness import Report, Round, Rounds, Server, Spread
from benchmarks.wires import WIRES
from tests.support.programs import finish, start

QUICK = ("-m", "benchmarks.decode", "--quick")


async def test_decoding_is_measured_for_every_record_and_type_of_number():
    async with start(*QUICK, "--json", env={}) as process:
        shown = json.loads(await finish(process))
    assert {"python", "machine", "qos_async", "msgspec"} <= set(shown["about"])
    measured = {(one["record"], one["numbers"]) for one in shown["results"]}
    assert len(measured) == len(shown["results"]) == 15
    for one in shown["results"]:
        assert one["ratio"]["qos_async"] == 1
        assert {"qos_async", "json"} <= set(one["ns"])
        assert all(ns > 0 for ns in one["ns"].values())


@pytest.mark.parametrize("library", ["orjson", "pydantic"])
async def test_a_library_that_is_not_installed_has_no_column(library):
    hidden = (
        f"import sys; sys.modules['{library}'] = None; sys.argv = ['decode', '--quick'];"
        "from benchmarks.decode import main; main()"
    )
    async with start("-c", hidden, env={}) as process:
        shown = await finish(process)
    note, head = shown.partition(" ns ")[::2]
    assert f"{library} is not installed" in note
    assert library not in head


@pytest.mark.parametrize(
    "work",
    [
        baselines.bare,
        baselines.limit,
        baselines.each_trade,
        baselines.in_batches,
    ],
)
async def test_a_candidate_is_timed_from_its_warm_up_to_its_last_tick(work):
    with Server() as server:
        figures = await work(server.url, Round(500, 1_000), float)
    assert figures["wall"] > 0
    assert figures["cpu"] > 0
    assert not figures.get("dropped")


async def test_the_server_reports_the_frames_that_it_received():
    with Server(silent=True) as server:
        client = baselines.client(server.url, float)
        async with client, client.watch_trades("US:TSLA"):
            pass
        account = await asyncio.to_thread(server.account)
    assert account.kinds[:2] == ["T", "TC"]
    assert account.moments == sorted(account.moments)


@pytest.mark.parametrize("wire", WIRES)
def test_every_wire_has_a_trade_in_each_frame(wire):
    frames = WIRES[wire](1).frames
    assert len(frames) == 100
    assert len(set(frames)) > 1
    assert {data[0] for data in frames} in ({0x81}, {0x82})  # Whole, text or binary.
    assert all(len(data) == _whole(data) for data in frames)


def _whole(data: bytes) -> int:
    if data[1] < 126:
        return 2 + data[1]
    assert data[1] == 126
    return 4 + int.from_bytes(data[2:4], "big")


def test_ratios_are_taken_within_a_round_without_the_warm_up():
    turns = iter(range(100))
    speeds = {"slow": 4.0, "quick": 2.0}

    def turn(name):
        # The machine gets slower and slower, and does not count before the third turn.
        busy = 1000 if (number := next(turns)) < 2 else number // 2
        return {"cpu": speeds[name] * busy}

    rounds = Rounds({name: partial(turn, name) for name in speeds}, quick=False)
    assert rounds.count == harness.ROUNDS >= 7
    assert rounds.ratio("slow", "cpu", "quick") == Spread(2.0, 2.0, 2.0)
    assert sorted(rounds.each("quick", "cpu")) == [2.0 * busy for busy in range(1, 8)]


def test_a_spread_is_the_median_and_the_middle_half():
    assert Spread.of([1, 2, 3, 4, 100]) == Spread(3, 2, 4)
    assert Spread.of([7.0]) == Spread(7.0, 7.0, 7.0)


@pytest.fixture
def report() -> Report:
    made = Report(benchmark="throughput", rounds=7)
    made.reach("1", "as fast as can be", Spread(0.9, 0.8, 1.0), at_least=0.8)
    made.reach("4", "never late", Spread(2.0, 1.0, 3.0), at_most=1.5)
    made.figure("million ticks a second", "limit", "M/s", Spread(2.0, 1.9, 2.1))
    made.figure("million ticks a second", "async for", "M/s", Spread(1.0, 0.9, 1.1))
    made.note("a remark")
    return made


def test_results_are_written_read_and_drawn_as_a_chart(report, tmp_path):
    harness.write(report, tmp_path)
    (tmp_path / "soak.json").write_text('{"form": "another"}')
    read = harness.read(["decode", "throughput"], tmp_path)
    assert read == [report]
    written = chart.write_all(read, tmp_path)
    assert {"table.md", "chart.txt"} <= set(written)
    table = (tmp_path / "table.md").read_text()
    assert "| 1 | as fast as can be | 0.9 (0.8-1) x | at least 0.8 | met |" in table
    assert "| 4 | never late | 2 (1-3) x | at most 1.5 | **not met** |" in table
    assert "Note: a remark." in table
    bars = [line for line in chart.bars(read).splitlines() if "█" in line]
    assert bars[0].count("█") == 2 * bars[1].count("█")


def test_the_stored_results_can_be_drawn_again():
    stored = harness.read(["throughput", "latency", "competitors"])
    assert [one.benchmark for one in stored] == ["throughput", "latency", "competitors"]
    table, bars = chart.table(stored), chart.bars(stored)
    for one in stored:
        assert all(goal.what in table for goal in one.goals)
        assert f"## {one.benchmark}" in table
    assert "qos-api" in bars


def test_written_results_contain_neither_host_name_nor_path(report, tmp_path):
    harness.write(report, tmp_path)
    text = (tmp_path / "throughput.json").read_text()
    assert msgspec.json.decode(text)["about"]["date"]
    assert platform.node() not in text
    assert str(harness.RESULTS.parents[1]) not in text
