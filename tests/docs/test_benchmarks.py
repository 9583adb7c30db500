"""The benchmark runs and says what it measured; how fast that was is not asserted."""

from __future__ import annotations

import json

import pytest

from tests.docs.running import finish, start

QUICK = ("-m", "benchmarks.decode", "--quick")


async def test_it_measures_every_record_with_every_type_of_number():
    async with start(*QUICK, "--json", env={}) as process:
        shown = json.loads(await finish(process))
    assert {"python", "machine", "qos_async", "msgspec"} <= set(shown["about"])
    measured = {(one["record"], one["numbers"]) for one in shown["results"]}
    assert len(measured) == len(shown["results"]) == 15
    for one in shown["results"]:
        assert one["ratio"]["qos_async"] == 1
        assert {"qos_async", "json"} <= set(one["ns"])
        assert all(ns > 0 for ns in one["ns"].values())


@pytest.mark.parametrize("peer", ["orjson", "pydantic"])
async def test_a_peer_that_is_missing_has_no_column(peer):
    hidden = (
        f"import sys; sys.modules['{peer}'] = None; sys.argv = ['decode', '--quick'];"
        "from benchmarks.decode import main; main()"
    )
    async with start("-c", hidden, env={}) as process:
        shown = await finish(process)
    note, head = shown.partition(" ns ")[::2]
    assert f"{peer} is not installed" in note
    assert peer not in head
