"""Everything public is documented, and what is written leads somewhere."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

import qos_async
from tests.docs.reference.surface import Homes, Named, faults, surface


def test_everything_public_is_documented_and_every_reference_leads_somewhere():
    names = list(surface())
    assert not faults(names)
    paths = {name.path for name in names}
    assert len(paths) == len(names)
    assert {
        "qos_async.Client.fetch_trades",  # Of a private base class.
        "qos_async.Client.stats",
        "qos_async.Gap.since",
        "qos_async.Market.US",
        "qos_async.GapStatus",
        "qos_async.LimitError.symbols",  # Of a public base class.
        "qos_async.testing.qos_client",
        "qos_async.testing.virtual.WALL",
    } <= paths
    assert not [path for path in paths if "._" in path]


def test_what_lives_in_a_private_module_is_shown_where_users_find_it():
    homes, real = Homes(), qos_async.Subscription.__module__
    assert homes.of(real, "Subscription") == ("qos_async", "Subscription")
    assert homes.shown(f"{real}.Subscription") == "qos_async.Subscription"
    assert homes.shown(f"{real}.Source") == "Source"
    assert homes.shown("qos_async.Gap.since") == "qos_async.Gap.since"


SAMPLE = '''
"""Sample."""

__all__ = ["Sample", "LIMIT", "work"]

LIMIT = 3
"""How many."""


class Sample:
    """Something.

    Attributes:
        told: It is told
            in two lines.
    """

    told = 1
    silent = 2
    below = 3
    """It is told below."""
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
def look(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """Find what is wrong with a module of the text given."""

    def look(text: str) -> list[str]:
        monkeypatch.syspath_prepend(tmp_path)
        (tmp_path / "sample.py").write_text(text)
        monkeypatch.delitem(sys.modules, "sample", raising=False)
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        monkeypatch.setattr("tests.docs.reference.surface.PACKAGE", "sample")
        found = faults(list(surface(["sample"])))
        monkeypatch.delitem(sys.modules, "sample", raising=False)
        return [one.removeprefix("sample.") for one in found]

    return look


def test_each_name_of_which_nothing_is_written_is_named(look):
    assert look(SAMPLE) == [
        "Sample.silent: nothing is written about it",
        "Sample.shown: nothing is written about it",
    ]
    bare = SAMPLE.replace('"""Sample."""', "").replace('"""How many."""', "")
    bare = bare.replace('"""Something.', '"""').replace('"""Do it."""', "...")
    assert {
        "sample: nothing is written about it",
        "LIMIT: nothing is written about it",
        "Sample.verb: nothing is written about it",
    } <= set(look(bare))
    silent = SAMPLE.replace('    """Work.\n\n    >>> work()\n    """', "    ...")
    assert "work: nothing is written about it" in look(silent)


@pytest.mark.parametrize(
    ("word", "alive"),
    [
        ("Sample", True),
        ("Sample.told", True),
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
def test_a_reference_to_what_is_not_public_is_named(look, word, alive, quote):
    found = look(SAMPLE.replace("Do it.", f"Do {quote}{word}{quote}."))
    dead = f"Sample.verb: `{word}` is not a public name"
    assert (dead in found) is not alive


@pytest.mark.parametrize(
    ("example", "valid"),
    [
        ("async with work() as one: ...", True),
        ("print(await work())", True),
        ("work(", False),
        ("for one in work()", False),
    ],
)
def test_an_example_that_is_not_python_is_named(look, example, valid):
    found = look(SAMPLE.replace(">>> work()", f">>> {example}"))
    wrong = [one for one in found if one.startswith("work: its example is not Python")]
    assert bool(wrong) is not valid


def test_a_prompt_without_a_space_is_named():
    [fault] = faults([Named("name", ">>>work()", vars(ModuleType("sample")))])
    assert "not Python" in fault
