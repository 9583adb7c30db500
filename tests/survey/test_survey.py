"""The survey of a service: what it finds on simulators that behave differently."""

from __future__ import annotations

import asyncio
import functools
import json
from typing import Any

import msgspec
import pytest

from qos_async import AuthenticationError, Limits
from qos_async.sim import Simulator, Variants
from qos_async.survey import SurveyReport, Target, survey
from qos_async.testing.virtual import simulate

pytestmark = pytest.mark.slow

BEYOND = {
    "too_fast",
    "too_fast_code",
    "too_many_symbols",
    "second_connection",
    "second_connection_status",
    "no_heartbeat",
}
DEPENDENT = {"too_fast_code", "second_connection_status"}
"""Seen only if another switch has one of its values."""


async def examine(
    variants: Variants,
    *,
    beyond_plan: bool = False,
    seconds: float = 20.0,
    violations: list[str] | None = None,
    key: str = "a-key-of-the-test",
    **options: Any,
) -> SurveyReport:
    async with Simulator(variants=variants, key=key, **options) as sim:
        target = Target(sim.key, sim.http_url, sim.stream_url, limits=sim.plan)
        report = await survey(target, beyond_plan=beyond_plan, seconds=seconds)
        if violations is not None:
            violations += sim.violations
        return report


def run(variants: Variants, **options: Any) -> SurveyReport:
    return simulate(functools.partial(examine, variants, **options), horizon=1e6)


@pytest.mark.parametrize(
    "turned",
    [
        {"bad_key": "400"},
        {"bad_key": "403"},
        {"bad_key": "message"},
        {"unknown_symbol": "refuse"},
        {"subscribed_twice": "error"},
        {"reqid_on_errors": False},
        {"push_on_subscribe": True},
        {"json_numbers": True},
        {"history_ignores_end": True},
        {"trades_newest_first": True},
        {"errors_as_200": True},
        {"compression": False},
    ],
    ids=str,
)
def test_a_switch_that_is_turned_is_reported_and_no_other(turned):
    report = run(Variants(**turned))
    assert {one.name: one.found for one in report.differing} == turned
    assert all(one.effect for one in report.differing)
    assert {name for name, value in report.variants.items() if value is None} == BEYOND


@pytest.mark.parametrize(
    "turned",
    [
        {"too_fast": "ignore"},
        {"too_fast": "drop"},
        {"too_fast": "close"},
        {"too_fast": "close", "too_fast_code": 4003},
        {"too_many_symbols": "cut"},
        {"second_connection": "close_oldest"},
        {"second_connection": "accept"},
        {"second_connection_status": 403},
        {"no_heartbeat": "ignore"},
    ],
    ids=str,
)
def test_what_the_plan_forbids_is_tried_only_when_asked(turned):
    report = run(Variants(**turned), beyond_plan=True)
    assert {one.name: one.found for one in report.differing} == turned
    unknown = {name for name, value in report.variants.items() if value is None}
    assert unknown <= DEPENDENT


@pytest.mark.parametrize(
    "plan", [Limits(), Limits(symbols=5, http_requests=5)], ids=["default", "small"]
)
def test_it_stays_within_the_plan(plan):
    violations: list[str] = []
    report = run(Variants(), violations=violations, plan=plan)
    assert report.differing == []
    # Two requests have an interval that does not exist, to see what an error is like.
    assert violations == ["Parameter error: kt 12345"] * 2


def test_a_simulator_with_the_reported_variants_behaves_the_same(tmp_path):
    behaviour = Variants(
        bad_key="message", unknown_symbol="refuse", json_numbers=True, compression=False
    )
    first = run(behaviour)
    path = tmp_path / "report.json"
    path.write_bytes(msgspec.json.encode(first))
    assert Variants.load(path) == behaviour
    assert run(Variants.load(path)).variants == first.variants


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "not a report of qos doctor --deep"),
        ("\xff", "not a report of qos doctor --deep"),
        (
            '{"variants": {"nosuch": 1}}',
            "variants that this version does not have: nosuch",
        ),
        ('{"variants": {"too_fast": "maybe"}}', "not a report .*maybe"),
    ],
)
def test_a_file_that_is_no_report_is_an_error_that_says_so(tmp_path, content, message):
    path = tmp_path / "report.json"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match=message):
        Variants.load(path)


def test_a_service_that_repeats_the_key_has_it_removed_from_the_bundle(tmp_path):
    key = 'a"key&of-the/test'
    report = run(Variants(bad_key="message"), key=key)
    path = tmp_path / "bundle.json"
    report.write_bundle(path, key=key)
    text = path.read_text()
    assert key not in text
    assert json.loads(text)["exchanges"]


def test_a_bundle_with_a_form_of_the_key_is_not_written(tmp_path):
    report = run(Variants())
    path = tmp_path / "bundle.json"
    key = "symbols-are-not-keys"
    leaked = msgspec.structs.replace(report, version=key.encode().hex())
    with pytest.raises(ValueError, match="not written"):
        leaked.write_bundle(path, key=key)
    assert not path.exists()


def test_a_service_that_is_away_is_reported_and_nothing_hangs():
    async def away() -> SurveyReport:
        target = Target("key", "http://127.0.0.1:9", "ws://127.0.0.1:9/ws")
        return await survey(target)

    report = simulate(away, horizon=1e6)
    assert {*report.variants.values()} == {None}
    assert report.findings[0].detail.startswith("no answer")


@pytest.mark.parametrize("at", [5.0, 12.0, 25.0])
def test_a_link_that_is_cut_meanwhile_leaves_the_rest_unseen(at):
    async def cut() -> SurveyReport:
        async with Simulator() as sim:
            target = Target(sim.key, sim.http_url, sim.stream_url)
            asyncio.get_running_loop().call_later(at, sim.cut)
            return await survey(target, seconds=20.0)

    report = simulate(cut, horizon=1e6)
    assert report.variants["bad_key"] == "401"
    assert report.variants["errors_as_200"] is False


def test_a_key_that_no_header_may_hold_is_refused():
    with pytest.raises(AuthenticationError, match="visible ASCII"):
        simulate(lambda: survey(Target("a key")))
