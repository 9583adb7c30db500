"""What the README says in words and tables is what the code has."""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
from typing import get_args

import pytest

import qos_async
from qos_async import Client, DropOldest, Latest, Limits, Strict, Timing, errors
from qos_async._core import recovery
from qos_async._core.recovery.gaps import GapStatus
from qos_async._io import supervisor
from qos_async.config import KLINES_MAX, TRADES_MAX
from qos_async.sim.instruments import INSTRUMENTS
from tests.support.markdown import ROOT, blocks, table

PAGE = (ROOT / "README.md").read_text("utf-8")
LOADS = ("reconnects", "readers", "days", "ticks")
VERBS = {
    name: verb
    for name, verb in inspect.getmembers(Client, inspect.isfunction)
    if name.startswith(("fetch_", "iter_", "watch"))
}


def calls() -> list[ast.Call]:
    found = []
    for head in ("ask once", "stay live"):
        for row in table(head):
            call = ast.parse(row[0].strip("`"), mode="eval").body
            assert isinstance(call, ast.Call)
            found.append(call)
    return found


def test_every_verb_is_in_the_tables():
    assert sorted(VERBS) == sorted(ast.unparse(call.func) for call in calls())


@pytest.mark.parametrize("call", calls(), ids=lambda call: ast.unparse(call.func))
def test_a_verb_takes_what_the_table_says(call):
    parameters = inspect.signature(VERBS[ast.unparse(call.func)]).parameters
    for argument in call.args:
        name = ast.unparse(argument)
        assert name.lstrip("*") in parameters
        assert name.startswith("*") == (
            parameters[name.lstrip("*")].kind is inspect.Parameter.VAR_POSITIONAL
        )
    for keyword in call.keywords:
        default = parameters[str(keyword.arg)].default
        assert default == ast.literal_eval(keyword.value)


def test_the_tree_of_errors():
    [tree] = [block.text for block in blocks() if block.language == "text"]
    above: list[type] = []
    shown = set()
    for line in tree.splitlines():
        name = line.lstrip(" │├└─")
        depth = (len(line) - len(name)) // 4
        kind = getattr(qos_async, name)
        del above[depth:]
        if above:
            assert kind.__bases__[0] is above[-1]
        above.append(kind)
        shown.add(name)
    assert shown == set(errors.__all__)


def test_every_error_has_an_advice():
    advised = {row[0].strip("`") for row in table("error")}
    families = {"QosError", "RequestError"}
    assert advised == set(errors.__all__) - families


def test_the_limits():
    limits, shown = Limits(), {row[0]: row[1] for row in table("`Limits`")}
    assert shown == {
        "`symbols`": f"{limits.symbols}",
        "`connections`": f"{limits.connections}",
        "`command_interval`": f"{limits.command_interval} s",
        "`http_requests` in `http_period`": (
            f"{limits.http_requests} in {limits.http_period} s"
        ),
    }


def test_the_timing():
    timing = Timing()
    for name in ("heartbeat", "silence", "request_timeout"):
        assert f"{name}={getattr(timing, name)}" in PAGE
    words = " ".join(PAGE.split())
    for sentence in (
        f"after {timing.silence:g} s without a single frame",
        f"a heartbeat every {timing.heartbeat:g} s",
        f"below {timing.backoff_initial:g} s, then dials",
        f"doubles that bound, up to {timing.backoff_max:g} s",
        f"lived less than {timing.stable_after:g} s counts",
        f"at most {timing.connect_timeout:g} s to connect",
        f"and {timing.request_timeout:g} s to answer",
    ):
        assert sentence in words


def test_the_statuses_of_a_gap():
    shown = [row[0].strip('`"') for row in table("`status`")]
    assert tuple(shown) == get_args(GapStatus)


def test_the_reach_of_recovery():
    words = " ".join(PAGE.split())
    for sentence in (
        f"tried again for {supervisor._STALE_SLOT_TIMEOUT:g} s before it is final",
        f"only counts after {supervisor._STALE_SLOT_TIMEOUT:g} s",
        f"the last {TRADES_MAX} trades",
        f"the last {TRADES_MAX} of each symbol",
        f"up to {KLINES_MAX}",
        f"at most {recovery._DECIDE_AFTER:g} s after all subscriptions are restored",
    ):
        assert sentence in words


def test_the_buffers():
    shown = [row[0].strip("`") for row in table("`buffer=`")]
    sizes = DropOldest().size, Strict().size
    assert shown == [
        "Latest()",
        *(
            f"{kind}({size:_})"
            for kind, size in zip(("DropOldest", "Strict"), sizes, strict=True)
        ),
    ]
    assert Latest() == Latest()


def test_the_depth_of_books_agrees_with_the_simulator():
    for row in table("market"):
        if row[2].isdecimal():
            for market in re.findall(r"`(\w+)`", row[0]):
                levels = {
                    one.levels for one in INSTRUMENTS.values() if one.market == market
                }
                assert levels == {int(row[2])}


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", PAGE):
        path, _, anchor = target.partition("#")
        assert (ROOT / path).exists(), target
        if anchor:
            heads = re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE)
            assert anchor in {head.lower().replace(" ", "-") for head in heads}


def test_the_gate_reads_the_commands_out_of_the_readme():
    commands = [block.text for block in blocks() if block.language == "sh"]
    shown = subprocess.run(
        ["bash", ROOT / ".ci" / "run", "--commands"],
        capture_output=True,
        check=True,
        text=True,
    )
    assert len(commands) == 2
    assert shown.stdout == "".join(commands)


def test_the_changelog_knows_this_version():
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert "## [Unreleased]" in changes
    assert re.search(
        rf"^## \[{re.escape(qos_async.__version__)}\] - \d{{4}}-\d\d-\d\d$",
        changes,
        re.MULTILINE,
    )


def test_every_promise_names_a_test_that_exists():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
    assert len(named) >= 5
    for path, name in named:
        assert f"def {name}(" in (ROOT / path).read_text("utf-8"), f"{path}::{name}"


def test_the_soak_figures_are_those_that_were_measured():
    results = json.loads((ROOT / "benchmarks/results/soak.json").read_text("utf-8"))
    days, told = results["days"]["more"], table("soak")
    growths = [f"+{results[name]['rss_growth_mib']} MiB" for name in LOADS]
    assert [row[2] for row in told] == growths
    assert f"{results['reconnects']['count']:,} reconnects" in told[0][0]
    assert f"{results['reconnects']['more']['gaps']:,} gaps" in told[0][1]
    assert f"{results['readers']['count']:,} readers" in told[1][0]
    assert f"{days['outages']} outages, {days['trades']:,} trades" in told[2][0]
    assert told[2][1].startswith(f"{days['trades_missing_in_gaps_told']} trades")
    assert days["trades_missing_without_a_word"] == days["trades_told_twice"] == 0
    assert f"{results['ticks']['count']:,} ticks" in told[3][0]
    assert f"on {results['date']} with Python {results['python']}" in PAGE


def test_the_figures_of_speed_are_those_that_were_measured():
    """Every row is a goal of a file in benchmarks/results, told as it stands there."""
    results = ROOT / "benchmarks" / "results"
    reports = [json.loads(path.read_text("utf-8")) for path in results.glob("*.json")]
    reports = [report for report in reports if "goals" in report]
    goals = {goal["what"]: goal for report in reports for goal in report["goals"]}
    for what, ratio, half, bound, verdict in table("measured"):
        goal = goals[what.strip("`")]
        value, limit = goal["value"], goal["bound"]
        unit = "" if goal["unit"] == "x" else f" {goal['unit']}"
        assert ratio == f"{value['median']:.3g}{unit}"
        assert half == f"{value['low']:.3g} to {value['high']:.3g}"
        assert bound == f"{goal['sense']} {limit:g}"
        over = value["median"] >= limit
        met = over if goal["sense"] == "at least" else value["median"] <= limit
        assert verdict == ("met" if met else "**not met**")
    about = next(one for one in reports if one["benchmark"] == "throughput")["about"]
    words = " ".join(PAGE.split())
    for name in ("date", "python", "machine", "aiohttp", "msgspec"):
        assert about[name] in words
