"""Tests of names beside codes, and of ``qos search``."""

from __future__ import annotations

import json

import pytest

from qos_async.cli import names as names_module
from qos_async.cli.watch.model import Model
from qos_async.cli.watch.panels import draw_top
from qos_async.cli.watch.text import plain_text
from qos_async.enums import Interval


@pytest.fixture
def terminal(monkeypatch):
    """A wide terminal, in English."""
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("LC_ALL", "en_US.UTF-8")
    monkeypatch.setattr("qos_async.cli.tables.is_terminal", lambda stream=None: True)


def asked(live):
    """Return the paths that were requested so far."""
    return list(live.ask(lambda: [str(one) for one in live.sim.requests]))


def count(live, word):
    return sum(word in one for one in asked(live))


@pytest.mark.usefixtures("terminal")
def test_a_snapshot_has_names_that_are_asked_for_once(live, qos, home):
    before = count(live, "instrument")
    for _ in range(2):
        ran = qos("snapshot", "HK:700", "CF:BTCUSDT")
        assert ran.code == 0, ran.err
        assert "TENCENT" in ran.out.upper()
    assert count(live, "instrument") - before == 1
    [kept] = home.parent.parent.glob("state/**/names.json")
    assert live.sim.key not in kept.read_text()


@pytest.mark.usefixtures("terminal")
def test_names_are_chinese_where_the_locale_is(live, qos, monkeypatch):
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    assert "腾讯" in qos("snapshot", "HK:700").out


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("damage", ["{", '{"names":[]}'])
def test_a_damaged_file_of_names_is_replaced(damage, live, qos, home):
    qos("snapshot", "HK:700")
    [kept] = home.parent.parent.glob("state/**/names.json")
    kept.write_text(damage)
    assert "TENCENT" in qos("snapshot", "HK:700").out.upper()
    assert json.loads(kept.read_text())["names"]


@pytest.mark.usefixtures("terminal")
def test_without_an_answer_about_names_the_table_has_none(live, qos):
    live.sim.reject("No permission", "/instrument-info")
    ran = qos("snapshot", "HK:700")
    assert ran.code == 0
    assert "HK:700" in ran.out
    assert "Name" not in ran.out


@pytest.mark.parametrize("words", [[], ["--csv"], ["--json"]])
def test_output_for_programs_has_no_names_and_asks_for_none(words, live, qos):
    before = count(live, "instrument")
    ran = qos("snapshot", "HK:700", *words)
    assert (ran.code, "TENCENT" in ran.out.upper()) == (0, False)
    assert count(live, "instrument") == before


@pytest.mark.usefixtures("terminal")
def test_a_chart_has_the_name_in_its_title(live, qos):
    ran = qos("chart", "HK:700", "-i", "1d")
    assert ran.code == 0, ran.err
    assert "TENCENT" in ran.out.upper()


def test_watch_shows_the_name_of_the_selected_symbol_where_it_fits():
    model = Model(["HK:700"], Interval.MIN_1)
    model.names = {"HK:700": "Tencent"}
    assert "HK:700 Tencent " in plain_text(draw_top(model, 100, 0.0))
    assert "Tencent" not in plain_text(draw_top(model, 24, 0.0))


@pytest.mark.parametrize(
    "word", ["tencent", "TENC", "700", "腾讯", "00700", "00700.HK", "700.SEHK"]
)
def test_search_finds_a_part_of_a_name_or_of_a_code(word, live, qos):
    assert qos("instruments", "HK:700").code == 0
    ran = qos("search", word, "--json")
    assert ran.code == 0, ran.err
    rows = [json.loads(line) for line in ran.out.splitlines()]
    assert "HK:700" in [row["symbol"] for row in rows]
    assert {tuple(row) for row in rows} == {("symbol", "name", "market")}


def test_search_finds_the_chinese_name_of_a_product_in_a_table(live, qos):
    ran = qos("search", "腾讯")
    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[0].split() == ["Symbol", "Name", "Market"]
    assert ran.out.splitlines()[1].startswith("HK:700")


def test_the_code_itself_comes_first(live, qos):
    ran = qos("search", "btcusdt", "--market", "CF", "--csv")
    assert ran.out.splitlines()[:1] == ["symbol,name,market"]
    assert ran.out.splitlines()[1].startswith("CF:BTCUSDT,")


def test_product_lists_are_kept_for_a_day(live, qos, monkeypatch):
    before = count(live, "product")
    qos("search", "tencent", "--market", "HK")
    first = count(live, "product")
    assert first == before + 1
    qos("search", "tencent", "--market", "HK")
    assert count(live, "product") == first
    monkeypatch.setattr(names_module, "_KEPT", -1)
    qos("search", "tencent", "--market", "HK")
    assert count(live, "product") == first + 1


def test_a_word_that_is_in_no_name_is_a_failure_with_advice(live, qos):
    ran = qos("search", "zzzzzz", "--market", "HK")
    assert (ran.code, ran.out) == (1, "")
    assert (
        "nothing with zzzzzz in its code or name, in HK: product lists have" in ran.err
    )


@pytest.mark.filterwarnings("default:no font")
def test_a_name_that_no_font_has_is_one_line_on_stderr(
    live, qos, monkeypatch, tmp_path
):
    font_manager = pytest.importorskip("matplotlib.font_manager")
    monkeypatch.setattr(font_manager, "get_font_names", list)
    monkeypatch.setattr("qos_async.cli.charts.command._title", lambda *_: "HK:700 腾讯")
    ran = qos("chart", "HK:700", "-o", tmp_path / "chart.png")
    assert ran.code == 0
    assert ran.err.startswith("qos: no font of this machine has all characters of")
    assert ran.err.count("\n") == 2
