"""Chaos runs: I1 to I18 hold whatever goes wrong, and everything recovers.

``QOS_CHAOS_SEEDS=200`` runs more seeds, ``QOS_CHAOS_SEED=123`` runs that one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.chaos import chaos
from tests.support.chaos_mutants import MUTANTS, Mutant

FIRST = os.environ.get("QOS_CHAOS_SEED")
SEEDS = [int(FIRST)] if FIRST else range(int(os.environ.get("QOS_CHAOS_SEEDS", "10")))

ROOT = str(Path(__file__).parents[2])
SCRIPT = "from tests.support.chaos import chaos; print(chaos(4), chaos(8))"


@pytest.mark.fault("U8", "U9", "U18", "T25", "I1", "I2", "I3", "I4", "I5", "I6", "I7")
@pytest.mark.fault("I8", "I9", "I10", "I11", "I12", "I13", "I14", "I15", "I16", "I17")
@pytest.mark.fault("I18")
@pytest.mark.parametrize("seed", SEEDS)
def test_all_invariants_hold_whatever_goes_wrong(seed: int) -> None:
    chaos(seed)


@pytest.mark.fault("U21")
def test_the_same_seed_gives_the_same_run() -> None:
    first, second, other = chaos(4), chaos(4), chaos(8)
    assert first == second
    assert first.hash != other.hash
    assert min(first.links, first.gaps) > 1


@pytest.mark.fault("U21")
@pytest.mark.slow
def test_the_order_of_hashes_changes_nothing() -> None:
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "PYTHONPATH": ROOT, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("1", "4242")
    ]
    outputs = [run.communicate(timeout=120)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert "hash=" in outputs[0]
    assert outputs[0] == outputs[1]


@pytest.mark.fault("I1", "I2", "I3", "I5", "I8", "I10")
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_chaos_detects_a_broken_client(
    mutant: Mutant, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant.apply(monkeypatch)
    with pytest.raises(AssertionError, match=mutant.caught_by):
        _all(mutant.seeds)


def _all(seeds: range) -> None:
    for seed in seeds:
        chaos(seed)
