"""Public names are documented, and the references in their docstrings resolve."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

import qos_async
from public_names import PublicName, PublicPaths, problems, public_names


def test_every_public_name_is_documented_and_every_reference_resolves():
    names = list(public_names())
    assert not problems(names)
    paths = {name.path for name in names}
    assert len(paths) == len(names)
    assert {
        "qos_async.Client.fetch_trades",
        "qos_async.Client.stats",
        "qos_async.hub.Hub.stats",
        "qos_async.Gap.since",
        "qos_async.Market.US",
        "qos_async.GapStatus",
        "qos_async.LimitError.symbols",  # Of a public base class.
        "qos_async.testing.qos_client",
        "qos_async.testing.virtual.WALL",
    } <= paths
    assert not [path for path in paths if "._" in path]


def test_an_object_of_a_private_module_is_shown_under_its_public_path():
    paths, private = PublicPaths(), qos_async.Subscription.__module__
    assert paths.of(private, "Subscription") == ("qos_async", "Subscription")
    assert paths.shown(f"{private}.Subscription") == "qos_async.Subscription"
    assert paths.shown(f"{private}.Source") == "Source"
    assert paths.shown("qos_async.Gap.since") == "qos_async.Gap.since"


SAMPLE = '''
"""Sample."""

__all__ = ["Sample", "LIMIT", "work"]

LIMIT = 3
"""The limit."""


class Sample:
    """A sample.

    Attributes:
        listed: Documented
            in two lines.
    """

    listed = 1
    bare = 2
    below = 3
    """Documented below."""
    _private = 4

    @property
    def shown(self): ...

    def verb(self):
        """Do it."""


def work():
    """Work.

    >>> work()
    """
'''


@pytest.fixture
def check(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """Return the problems of a module with the given source."""

    def check(text: str) -> list[str]:
        monkeypatch.syspath_prepend(tmp_path)
        (tmp_path / "sample.py").write_text(text)
        monkeypatch.delitem(sys.modules, "sample", raising=False)
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        monkeypatch.setattr("public_names.PACKAGE", "sample")
        found = problems(list(public_names(["sample"])))
        monkeypatch.delitem(sys.modules, "sample", raising=False)
        return [one.removeprefix("sample.") for one in found]

    return check


def test_each_name_without_a_docstring_is_reported(check):
    assert check(SAMPLE) == [
        "Sample.bare: no docstring",
        "Sample.shown: no docstring",
    ]
    bare = SAMPLE.replace('"""Sample."""', "").replace('"""The limit."""', "")
    bare = bare.replace('"""A sample.', '"""').replace('"""Do it."""', "...")
    assert {
        "sample: no docstring",
        "LIMIT: no docstring",
        "Sample.verb: no docstring",
    } <= set(check(bare))
    undocumented = SAMPLE.replace('    """Work.\n\n    >>> work()\n    """', "    ...")
    assert "work: no docstring" in check(undocumented)


@pytest.mark.parametrize(
    ("word", "resolves"),
    [
        ("Sample", True),
        ("Sample.listed", True),
        ("sample.Sample.verb", True),
        ("ValueError", True),
        ("anything", True),
        ("Smaple", False),
        ("Sample.tell", False),
        ("sample.Sample.tell", False),
        ("fetch_everything", False),
    ],
)
@pytest.mark.parametrize("quote", ["`", "``"])
def test_a_reference_to_a_name_that_is_not_public_is_reported(
    check, word, resolves, quote
):
    found = check(SAMPLE.replace("Do it.", f"Do {quote}{word}{quote}."))
    dead = f"Sample.verb: `{word}` is not a public name"
    assert (dead in found) is not resolves


@pytest.mark.parametrize(
    ("example", "valid"),
    [
        ("async with work() as one: ...", True),
        ("print(await work())", True),
        ("work(", False),
        ("for one in work()", False),
    ],
)
def test_an_example_that_is_not_python_is_reported(check, example, valid):
    found = check(SAMPLE.replace(">>> work()", f">>> {example}"))
    wrong = [one for one in found if one.startswith("work: the example is not Python")]
    assert bool(wrong) is not valid


def test_a_prompt_without_a_space_is_reported():
    name = PublicName("name", ">>>work()", vars(ModuleType("sample")))
    [problem] = problems([name])
    assert "not Python" in problem
