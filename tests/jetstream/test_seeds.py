"""Fleets in which processes and nodes are killed, stopped, cut off and set back.

The consumers have each trade of the tape once, or inside a gap that was announced.
``QOS_FLEET_SEEDS=200`` runs more seeds, ``QOS_FLEET_SEED=123`` runs that one.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.fleet import FleetOptions, fleet
from tests.support.fleet_seeds import Plan, run_plan

FIRST = os.environ.get("QOS_FLEET_SEED")
SEEDS = [int(FIRST)] if FIRST else range(int(os.environ.get("QOS_FLEET_SEEDS", "4")))


@pytest.mark.slow
@pytest.mark.fault("N90")
@pytest.mark.parametrize("seed", SEEDS)
async def test_each_trade_is_there_once_or_inside_a_gap(seed: int, tmp_path: Path):
    verdicts = await run_plan(Plan(seed), tmp_path)
    assert all(verdict.trades for verdict in verdicts)


@pytest.mark.slow
async def test_the_judge_finds_what_a_broken_recorder_does(tmp_path: Path):
    async with fleet(tmp_path, FleetOptions(1, sabotage=True)) as one:
        await one.catch_up(40)
        verdicts = await one.finish()
    for verdict in verdicts:
        faults = "\n".join(verdict.faults)
        assert " missing before " in faults
        assert "twice, or no trade of the tape" in faults
