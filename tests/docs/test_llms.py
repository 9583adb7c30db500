"""Facts and code of llms.txt match the package."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import tomllib
from collections.abc import Iterator
from decimal import Decimal

import pytest

import qos_async
from qos_async import Client, Limits, Timing, errors
from qos_async.cli import exits
from qos_async.cli.commands import COMMANDS
from qos_async.enums import Interval
from tests.support.markdown import ROOT, Block, blocks, table
from tests.support.programs import Screen, run_fragment

PAGE = "llms.txt"
TEXT = (ROOT / PAGE).read_text("utf-8")
PYTHON = blocks(PAGE, "python")
VERBS = {
    name: verb
    for name, verb in inspect.getmembers(Client, inspect.isfunction)
    if name.startswith(("fetch_", "iter_", "watch"))
}


def rows(head: str) -> Iterator[list[str]]:
    for row in table(head, PAGE):
        yield [cell.strip("`") for cell in row]


def code(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def options(text: str) -> dict[str, object]:
    """Return keyword arguments with their values."""
    call = ast.parse(f"f({text})", mode="eval").body
    assert isinstance(call, ast.Call)
    return {str(one.arg): ast.literal_eval(one.value) for one in call.keywords}


def test_the_page_has_the_format_of_llmstxt_org():
    lines = TEXT.splitlines()
    assert lines[0] == "# qos_async"
    assert [line for line in lines if re.match(r"#(?!#) ", line)] == lines[:1]
    assert lines[2].startswith("> ")
    _, *sections = re.split(r"^## .+$", TEXT, flags=re.MULTILINE)
    assert len(sections) == 2
    for line in "".join(sections).split("\n"):
        assert not line or re.fullmatch(r"- \[[^]]+\]\([^)]+\): .+", line)


def test_every_link_has_a_target_and_every_example_is_linked():
    links = set(re.findall(r"\]\(([^)]+)\)", TEXT))
    assert not [link for link in links if not (ROOT / link).exists()]
    programs = {*ROOT.glob("examples/*.py"), *ROOT.glob("examples/*.ipynb")}
    assert {str(path.relative_to(ROOT)) for path in programs} <= links


def test_the_methods_are_those_of_the_client():
    shown = {}
    for text in re.findall(
        r"^\| `((?:fetch|iter|watch)\w*\(.*?\))` \|", TEXT, re.MULTILINE
    ):
        call = ast.parse(text, mode="eval").body
        assert isinstance(call, ast.Call)
        shown[ast.unparse(call.func)] = call
    assert shown.keys() == VERBS.keys()
    for name, call in shown.items():
        parameters = inspect.signature(VERBS[name]).parameters
        assert {ast.unparse(one).lstrip("*") for one in call.args} <= set(parameters)
        for keyword in call.keywords:
            default = parameters[str(keyword.arg)].default
            assert default == ast.literal_eval(keyword.value)


def test_the_methods_that_are_not_awaited_are_iter_history_and_watch():
    plain = {
        name for name, verb in VERBS.items() if not inspect.iscoroutinefunction(verb)
    }
    watching = {name for name in VERBS if name.startswith("watch")}
    assert plain == {"iter_history", *watching}
    for name, verb in VERBS.items():
        takes_via = "via" in inspect.signature(verb).parameters
        about_symbols = name.startswith("fetch_") and "markets" not in str(
            inspect.signature(verb)
        )
        assert takes_via == about_symbols


def test_the_options_are_those_of_the_client():
    [shown] = re.findall(r"`Client\((key=None, \*, .*?)\)`\. `key`", TEXT, re.DOTALL)
    text = " ".join(shown.split()).replace("*, ", "")
    for word in ("limits=Limits()", "timing=Timing()", "numbers=Decimal"):
        assert word in text
        text = text.replace(word, f"{word.partition('=')[0]}=None")
    parameters = inspect.signature(Client).parameters
    defaults = {name: one.default for name, one in parameters.items()}
    assert defaults.pop("numbers") is Decimal
    assert options(text) == {**defaults, "numbers": None}


@pytest.mark.parametrize("kind", [Limits, Timing])
def test_the_limits_and_the_timing_are_the_defaults(kind):
    shown = dict(rows("option"))
    made = options(shown[kind.__name__])
    assert tuple(made) == kind.__struct_fields__
    assert kind(**made) == kind()


def test_the_errors_and_their_bases_are_those_of_the_package():
    shown = {name: parent for name, parent, _ in rows("error")}
    assert shown == {
        name: getattr(errors, name).__bases__[0].__name__ for name in errors.__all__
    }


def test_the_fields_are_those_of_the_records():
    for name, fields in rows("record"):
        kind = getattr(qos_async, name)
        shown = fields.split()
        assert all(hasattr(kind, field) for field in shown), name
        own = set(kind.__struct_fields__) - {"received_at", "recovered", "place"}
        assert own <= set(shown), name


def test_the_commands_and_exit_codes_are_those_of_the_program():
    shown = [word for row in table("command", PAGE) for word in code(row[0])]
    assert sorted(shown) == sorted(f"qos {name}" for name in COMMANDS)
    codes = exits.OK, exits.FAILED, exits.USAGE, exits.KEY_REFUSED
    assert "Exit codes: {}, {} failed, {} usage, {} key refused.".format(*codes) in TEXT


def test_the_extras_are_those_of_the_project():
    [line] = [line for line in TEXT.splitlines() if line.startswith("Extras: ")]
    shown = {re.sub(r".*\[(\w+)\].*", r"\1", word) for word in code(line)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert shown == project["optional-dependencies"].keys() - {"test", "dev"}


def test_the_intervals_are_those_of_the_enumeration():
    shown = " ".join(one.short for one in Interval if one)
    assert f"Intervals: `{shown}`" in TEXT


def test_every_module_name_on_the_page_exists():
    found = 0
    for line in TEXT.split("\n\n"):
        for name, has in re.findall(
            r"`(qos_async\.\w+)` has (.+?)(?:\.|for)", line, re.DOTALL
        ):
            module = importlib.import_module(name)
            for word in code(has):
                assert hasattr(module, word), f"{name}.{word}"
                found += 1
    assert found >= 8
    for path in re.findall(r"`qos_async\.(\w+)\.(\w+)`", TEXT):
        assert hasattr(importlib.import_module(f"qos_async.{path[0]}"), path[1])


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.place)
async def test_the_code_runs(block: Block, simulator, environment, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    text = block.text.replace("asyncio.run(main())", "await main()")
    if block.how == "pytest":
        text += "\nawait test_a_cut_is_reported(simulator, client)\nprint('passed')"
    if block.how == "compile":
        compile(text, PAGE, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(str(node.module))
                assert all(hasattr(module, one.name) for one in node.names)
        return
    screen = Screen(lambda lines: len(lines) >= (1 if block.how == "pytest" else 3))
    limits, timing = Limits(command_interval=0.0), Timing(backoff_initial=0.05)
    async with Client(limits=limits, timing=timing) as client:
        names = {"client": client, "simulator": simulator}
        await run_fragment(text, block.place, screen, **names)
    assert screen.lines
    assert not simulator.violations
