"""Misspelt commands and options, ``qos help``, short options, completion."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal

import pytest

from qos_async import Client, Interval, LimitError, Limits, Trade
from qos_async.cli.command_line import parse
from qos_async.cli.commands import COMMANDS
from qos_async.cli.formatting import DecimalPlaces, tick_line
from qos_async.symbols import canonical

SHELLS = ["bash", "zsh", "fish"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["snapshto", "US:AAPL"], "did you mean snapshot?"),
        (["help", "hstory"], "did you mean history?"),
        (["arcive", "recordings"], "did you mean archive?"),
        (["convert", "recordings", "--symbol", "US:A"], "did you mean --symbols?"),
        (["hub", "--subscribe", "tradez", "US:A"], "did you mean trades?"),
        (["klines", "US:AAPL", "--intervall", "1d"], "did you mean --interval?"),
        (["history", "US:AAPL", "--intervl=1d"], "did you mean --interval?"),
        (["chart", "US:AAPL", "--theme", "drak"], "did you mean dark?"),
        (["stream", "tradez", "US:AAPL"], "did you mean trades?"),
        (["nothing"], "choose from demo, sim"),
    ],
)
def test_a_misspelt_word_exits_with_2_and_a_suggestion(words, says, qos):
    ran = qos(*words)
    assert (ran.code, ran.out) == (2, "")
    assert says in ran.err


@pytest.mark.parametrize(
    "words",
    [
        "--sim --tz market US:A HK:1",
        "US:A --sim HK:1 --tz market",
        "US:A --tz market HK:1 --sim",
        "--tz=market US:A --sim -- HK:1",
    ],
)
@pytest.mark.parametrize("name", ["snapshot", "stream", "trades"])
def test_options_may_stand_between_symbols(name, words):
    options = parse([name, *words.split()])
    typed = options.words if name == "stream" else options.symbols
    assert [one for many in typed for one in many] == ["US:A", "HK:1"]
    assert (options.sim, options.tz) == (True, "market")


def test_an_option_between_symbols_that_lacks_its_value_is_named(qos):
    ran = qos("snapshot", "US:A", "--tz", "--sim", "HK:1")
    assert ran.code == 2
    assert "argument --tz: expected one argument" in ran.err


def test_options_after_the_program_of_sim_are_those_of_sim():
    options = parse(["sim", "python", "--port", "5", "bot.py", "--", "--port"])
    assert (options.program, options.port) == (["python", "bot.py", "--port"], 5)


def test_options_of_a_program_are_not_checked():
    options = parse(["sim", "--", "python", "--intervall"])
    assert options.program[-1] == "--intervall"


@pytest.mark.parametrize("name", [*COMMANDS])
def test_help_of_a_command(name, qos):
    assert qos("help", name) == qos(name, "--help")


def test_help_alone_lists_the_commands(qos):
    assert qos("help") == qos("--help")
    assert "https://qos.hk" in qos("help").out


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("trade", "trades"), ("snapshots", "snapshot"), ("kline", "klines")],
)
def test_singular_and_plural_name_the_same_command(typed, meant):
    assert parse([typed, "US:AAPL"]).command == meant


def test_short_options():
    klines = parse(["klines", "US:AAPL", "-n", "5", "-i", "1h"])
    assert (klines.count, klines.interval) == (5, Interval.HOUR_1)
    assert parse(["trades", "US:AAPL", "-n", "5"]).count == 5
    for name in ("stream", "watch", "chart"):
        assert parse([name, "US:AAPL", "-i", "1h"]).interval is Interval.HOUR_1
    chart = parse(["chart", "US:AAPL", "-n", "9", "-o", "a.html"])
    assert (chart.count, chart.output.name) == (9, "a.html")


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_knows_each_command(shell, qos):
    pytest.importorskip("shtab")
    ran = qos("completion", shell)
    assert (ran.code, ran.err) == (0, "")
    assert all(name in ran.out for name in COMMANDS)


def test_bash_completes_commands_options_and_values(qos, tmp_path):
    pytest.importorskip("shtab")
    script = tmp_path / "qos.bash"
    script.write_text(qos("completion", "bash").out)

    def complete(*words):
        listed = " ".join(f"'{word}'" for word in ("qos", *words))
        program = (
            f"source {script}; COMP_WORDS=({listed}); COMP_CWORD={len(words)}; "
            "$(complete -p qos | sed 's/.*-F \\([^ ]*\\).*/\\1/') qos "
            f"'{words[-1]}'; echo ${{COMPREPLY[@]}}"
        )
        done = subprocess.run(
            ["bash", "-c", program], capture_output=True, text=True, check=False
        )
        return done.stdout.split()

    assert complete("snap") == ["snapshot"]
    assert "--interval" in complete("klines", "--int")
    assert "15m" in complete("klines", "--interval", "1")
    assert complete("hub", "--subscribe", "tr") == ["trades"]
    assert complete("record", "--on-conflict", "y") == ["yield"]
    assert "--tz" in complete("info", "--t")


def test_completion_without_its_package_is_one_line(qos, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    ran = qos("completion", "bash")
    assert ran.code == 1
    assert "pip install 'qos-async[cli]'" in ran.err


# Messages


@pytest.mark.parametrize("symbol", ["US:AAPL,TSLA", "AAPL", "US:A,HK:1"])
@pytest.mark.fault("Y3")
def test_where_one_symbol_is_expected_no_list_is_recommended(symbol):
    with pytest.raises(ValueError, match='expected "MARKET:CODE";') as caught:
        canonical(symbol)
    assert "MARKET:CODE,CODE" not in str(caught.value)


@pytest.mark.fault("Y3")
async def test_symbols_beyond_the_plan_are_listed_once_and_not_all():
    async with Client("key", limits=Limits(symbols=10)) as client:
        with pytest.raises(LimitError) as caught:
            client.watch_trades([f"US:A{n}" for n in range(12)])
    text = str(caught.value)
    assert [text.count(f"US:A{n}") for n in (3, 5)] == [1, 1]
    assert "and 2 more" in text
    assert len(caught.value.symbols) == 12


@pytest.mark.fault("Y3")
def test_the_command_names_its_option_for_a_limit(live, qos):
    ran = qos("stream", "trades", "CF:" + ",".join(f"A{n}" for n in range(11)))
    assert ran.code == 1
    assert "--symbols-limit N" in ran.err
    assert "Limits(" not in ran.err


@pytest.mark.parametrize(
    ("words", "missing"),
    [
        (["history", "US:A", "-i", "1d", "--from", "1d", "-o", "a.parquet"], "pyarrow"),
        (["record", "US:AAPL", "-o", "r", "--to", "parquet"], "pyarrow"),
        (["convert", "r", "-o", "out"], "pyarrow"),
        (["chart", "US:AAPL", "-o", "a.html"], "plotly"),
        (["chart", "US:AAPL"], "rich"),
    ],
)
@pytest.mark.fault("Y3")
def test_a_missing_package_is_exit_code_1_in_the_words_of_a_command(
    words, missing, home, qos, monkeypatch
):
    monkeypatch.chdir(home.parent)
    monkeypatch.setitem(sys.modules, missing, None)
    ran = qos(*words)
    assert ran.code == 1, ran.err
    assert f"need {missing}, which is not installed: pip install" in ran.err
    assert "to_arrow" not in ran.err


def test_prices_of_a_symbol_have_equal_decimal_places_in_lines():
    places = DecimalPlaces()
    shown = [
        tick_line(Trade(symbol="US:AAPL", price=Decimal(text)), places=places)
        for text in ("211.10", "211.1", "211.5")
    ]
    assert [line.split()[3] for line in shown] == ["211.10", "211.10", "211.50"]
