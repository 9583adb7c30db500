"""``qos doctor --deep``, in virtual time."""

from __future__ import annotations

import json
from typing import Any

import pytest

from qos_async import AuthenticationError
from qos_async.cli import exits
from qos_async.cli.doctor.deep import deep_check
from qos_async.cli.files import OutputError
from qos_async.cli.options import Options
from qos_async.sim import Variants
from qos_async.testing.virtual import simulate


def run(**options: Any) -> int:
    given = {
        "json": False,
        "bundle": None,
        "beyond_plan": False,
        "sim": True,
        **options,
    }
    return simulate(lambda: deep_check(Options(**given)), horizon=1e6)


def test_the_table_fits_80_columns_and_names_every_switch(capsys):
    assert run() == exits.OK
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    shown = "\n".join(lines)
    assert all(f" {name} " in shown for name in Variants.__struct_fields__)
    assert "as assumed bad_key                  401: " in shown
    assert lines[-1].startswith("0 differ from what this client assumes, 6 could not")


def test_json_is_one_object_that_variants_load_reads(capsys, tmp_path):
    assert run(json=True) == exits.OK
    text = capsys.readouterr().out
    report = json.loads(text)
    assert report["variants"]["unknown_symbol"] == "omit"
    assert report["variants"]["too_fast"] is None
    assert "exchanges" not in report
    path = tmp_path / "report.json"
    path.write_text(text)
    assert Variants.load(path) == Variants()


def test_the_bundle_has_the_exchanges_and_is_never_overwritten(capsys, tmp_path):
    path = tmp_path / "bundle.json"
    assert run(bundle=str(path)) == exits.OK
    exchanges = json.loads(path.read_text())["exchanges"]
    assert {one["kind"] for one in exchanges} >= {"opened", "sent", "received"}
    assert "attach it to a bug report" in capsys.readouterr().err
    with pytest.raises(OutputError, match=r"bundle\.json"):
        run(bundle=str(path))


def test_without_a_key_it_says_how_to_set_one(monkeypatch):
    monkeypatch.delenv("QOS_API_KEY", raising=False)
    with pytest.raises(AuthenticationError, match="QOS_API_KEY"):
        run(sim=False)


def test_options_of_the_deep_check_belong_to_it(qos):
    ran = qos("doctor", "--bundle", "x.json")
    assert ran.code == exits.USAGE
    assert "--deep" in ran.err
