"""Facts in the text and tables of README.md and its companion pages match the code."""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import tomllib
from typing import Any, get_args

import pytest

import qos_async
from qos_async import Client, DropOldest, Latest, Limits, Strict, Timing, errors
from qos_async._core import recovery
from qos_async._core.notices import GapStatus
from qos_async._io import supervisor
from qos_async.config import KLINES_MAX, TRADES_MAX
from qos_async.sim.instruments import INSTRUMENTS
from tests.support.markdown import ROOT, blocks, prose, table

README, COOKBOOK = "README.md", "examples/README.md"
FAULTS, BENCHMARKS = "tests/FAULTS.md", "benchmarks/README.md"
CONTRIBUTING, SECURITY = ".github/CONTRIBUTING.md", ".github/SECURITY.md"
HUB = "examples/hub.md"
PAGES = (README, COOKBOOK, HUB, FAULTS, BENCHMARKS, CONTRIBUTING, SECURITY)
LOADS = ("reconnects", "readers", "days", "ticks")
VERBS = {
    name: verb
    for name, verb in inspect.getmembers(Client, inspect.isfunction)
    if name.startswith(("fetch_", "iter_", "watch"))
}


def calls() -> list[ast.Call]:
    found = []
    for head in ("request once", "stay live"):
        for row in table(head):
            call = ast.parse(row[0].strip("`"), mode="eval").body
            assert isinstance(call, ast.Call)
            found.append(call)
    return found


def test_every_method_is_in_the_tables():
    assert sorted(VERBS) == sorted(ast.unparse(call.func) for call in calls())


@pytest.mark.parametrize("call", calls(), ids=lambda call: ast.unparse(call.func))
def test_the_parameters_of_a_method_are_those_of_the_table(call):
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


def test_the_tree_of_errors_is_that_of_the_classes():
    [tree] = [block.text for block in blocks(COOKBOOK, "text")]
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


def test_every_error_has_a_remedy():
    advised = {row[0].strip("`") for row in table("error")}
    families = {"QosError", "RequestError"}
    assert advised == set(errors.__all__) - families


def test_the_limits_are_the_defaults():
    limits, shown = Limits(), {row[0]: row[1] for row in table("`Limits`")}
    assert shown == {
        "`symbols`": f"{limits.symbols}",
        "`connections`": f"{limits.connections}",
        "`command_interval`": f"{limits.command_interval} s",
        "`http_requests` in `http_period`": (
            f"{limits.http_requests} in {limits.http_period} s"
        ),
    }


def test_the_timing_is_the_default():
    timing = Timing()
    for name in ("heartbeat", "silence", "request_timeout"):
        assert f"{name}={getattr(timing, name)}" in prose(README)
    for page, sentence in (
        (README, f"after {timing.silence:g} s without a single frame"),
        (README, f"a heartbeat is sent every {timing.heartbeat:g} s"),
        (README, f"a random wait below {timing.backoff_initial:g} s"),
        (README, f"doubles that bound, up to {timing.backoff_max:g} s"),
        (README, f"at most {timing.connect_timeout:g} s to connect"),
        (README, f"and {timing.request_timeout:g} s to answer"),
        (FAULTS, f"after {timing.silence:g} s without a single frame"),
        (FAULTS, f"a heartbeat every {timing.heartbeat:g} s"),
        (FAULTS, f"below {timing.backoff_initial:g} s, then dials"),
        (FAULTS, f"doubles that bound, up to {timing.backoff_max:g} s"),
        (FAULTS, f"lived less than {timing.stable_after:g} s counts"),
    ):
        assert sentence in prose(page)


@pytest.mark.parametrize(
    ("page", "head"), [(README, "`status`"), (FAULTS, "`Gap.status`")]
)
def test_every_status_of_a_gap_is_explained(page, head):
    shown = [row[0].strip('`"') for row in table(head, page)]
    assert tuple(shown) == get_args(GapStatus)


def test_the_reach_of_recovery_is_that_of_the_code():
    for page, sentence in (
        (README, f"the last {TRADES_MAX} trades of each symbol"),
        (README, f"up to {KLINES_MAX} klines"),
        (
            README,
            f"at most {recovery._CLOSE_AFTER:g} s after all subscriptions are restored",
        ),
        (
            FAULTS,
            f"tried again for {supervisor._STALE_SLOT_TIMEOUT:g} s before it is final",
        ),
        (FAULTS, f"is final only after {supervisor._STALE_SLOT_TIMEOUT:g} s"),
        (FAULTS, f"the last {TRADES_MAX} trades"),
        (FAULTS, f"the last {TRADES_MAX} of each symbol"),
        (FAULTS, f"up to {KLINES_MAX}"),
        (
            FAULTS,
            f"at most {recovery._CLOSE_AFTER:g} s after all subscriptions are restored",
        ),
    ):
        assert sentence in prose(page)


def test_the_buffers_and_their_sizes_are_the_defaults():
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


def test_the_depth_of_books_is_that_of_the_simulator():
    for row in table("market", COOKBOOK):
        if row[2].isdecimal():
            for market in re.findall(r"`(\w+)`", row[0]):
                levels = {
                    one.levels for one in INSTRUMENTS.values() if one.market == market
                }
                assert levels == {int(row[2])}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_has_a_target(page):
    for target in re.findall(
        r"\]\((?!https?:)([^)]+)\)", (ROOT / page).read_text("utf-8")
    ):
        path, _, anchor = target.partition("#")
        there = (ROOT / page).parent / path if path else ROOT / page
        assert there.exists(), target
        if anchor:
            heads = re.findall(r"^#+ (.+)$", there.read_text("utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", head.lower()) for head in heads}
            assert anchor in {slug.replace(" ", "-") for slug in slugs}, target


def test_the_extras_are_those_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    shown = {
        row[0].strip("`"): re.findall(r"`([\w.-]+)`", row[1]) for row in table("extra")
    }
    assert shown.pop("all") == []
    assert shown == {
        name: [re.split(r"[^\w.-]", package)[0] for package in packages]
        for name, packages in extras.items()
        if name not in ("all", "test", "dev")
    }


def test_every_program_is_in_the_table_of_the_cookbook():
    linked = {
        name
        for row in table("program", COOKBOOK)
        for name in re.findall(r"\]\((.+?)\)", row[0])
    }
    kinds = ("*.py", "*.ipynb", "*.service", "Dockerfile")
    programs = [path for kind in kinds for path in (ROOT / "examples").glob(kind)]
    assert linked == {path.name for path in programs}


def test_every_file_on_the_map_exists():
    text = (ROOT / CONTRIBUTING).read_text("utf-8")
    named = re.findall(
        r"`(?:qos_async/)?([\w/]+(?:\.py|/))`", text.partition("## The map")[2]
    )
    assert len(named) >= 40
    roots = (ROOT, ROOT / "qos_async")
    assert not [
        name for name in named if not any((one / name).exists() for one in roots)
    ]


def test_the_readme_is_short():
    assert len((ROOT / README).read_text("utf-8").splitlines()) <= 320


def test_the_gate_runs_the_two_commands_of_the_readme():
    commands = [block.text for block in blocks(README, "sh")]
    shown = subprocess.run(
        ["bash", ROOT / ".ci" / "run", "--commands"],
        capture_output=True,
        check=True,
        text=True,
    )
    assert len(commands) == 2
    assert shown.stdout == "".join(commands)


def test_the_changelog_has_this_version():
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert "## [Unreleased]" in changes
    assert re.search(
        rf"^## \[{re.escape(qos_async.__version__)}\] - \d{{4}}-\d\d-\d\d$",
        changes,
        re.MULTILINE,
    )


def test_every_guarantee_names_a_test_that_exists():
    text = (ROOT / FAULTS).read_text("utf-8").partition("\n## The list\n")[0]
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    assert len(named) >= 5
    for path, name in named:
        assert f"def {name}(" in (ROOT / path).read_text("utf-8"), f"{path}::{name}"


def test_the_figures_of_the_soak_test_are_those_that_were_measured():
    results = json.loads((ROOT / "benchmarks/results/soak.json").read_text("utf-8"))
    days, shown = results["days"]["more"], table("soak", FAULTS)
    growths = [f"+{results[name]['rss_growth_mib']} MiB" for name in LOADS]
    assert [row[2] for row in shown] == growths
    assert f"{results['reconnects']['count']:,} reconnects" in shown[0][0]
    assert f"{results['reconnects']['more']['gaps']:,} gaps" in shown[0][1]
    assert f"{results['readers']['count']:,} subscriptions" in shown[1][0]
    assert f"{days['outages']} outages, {days['trades']:,} trades" in shown[2][0]
    assert shown[2][1].startswith(f"{days['trades_missing_in_gaps']} trades")
    assert days["trades_missing_silently"] == days["trades_delivered_twice"] == 0
    assert f"{results['ticks']['count']:,} ticks" in shown[3][0]
    assert f"on {results['date']} with Python {results['python']}" in prose(FAULTS)


def measured() -> tuple[list[Any], dict[str, Any]]:
    """Return the reports in benchmarks/results, and their goals by name."""
    paths = (ROOT / "benchmarks" / "results").glob("*.json")
    reports = [json.loads(path.read_text("utf-8")) for path in paths]
    reports = [report for report in reports if "goals" in report]
    return reports, {goal["what"]: goal for one in reports for goal in one["goals"]}


def test_the_figures_of_speed_are_those_that_were_measured():
    """Every row is a goal of a file in benchmarks/results."""
    reports, goals = measured()
    for what, ratio, half, bound, verdict in table("measured", BENCHMARKS):
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
    for name in ("date", "python", "machine", "aiohttp", "msgspec"):
        assert about[name] in prose(BENCHMARKS)


def test_the_figures_of_speed_in_the_readme_are_those_that_were_measured():
    reports, goals = measured()
    about = next(one for one in reports if one["benchmark"] == "throughput")["about"]
    bare = "float: speed, to a bare aiohttp loop's"
    ratio = {what: f"{goal['value']['median']:.3g}" for what, goal in goals.items()}
    verdicts = [row[4] for row in table("measured", BENCHMARKS)]
    for sentence in (
        f"`async for` over trades is {ratio[f'async for, {bare}']} times as fast",
        f"(`batches()`: {ratio[f'batches(), {bare}']} times)",
        f"{ratio['default: speed, to that of qos-api']} times as fast as qos-api",
        f"{ratio['default: speed, to that of websockets + orjson + asyncio.Queue']} times as fast",
        f"{verdicts.count('**not met**')} of {len(verdicts)} goals are not met",
        *(about[name] for name in ("date", "python", "machine")),
    ):
        assert sentence in prose(README)
