"""Results of fetch_*."""

from __future__ import annotations

import copy
import pickle

from qos_async.models import Trade
from qos_async.results import Result


def result() -> Result[int]:
    return Result(("US:A", "US:B", "HK:1"), {"HK:1": 3, "US:A": 1})


def test_a_result_is_a_dict_in_the_order_of_the_request():
    found = result()
    assert isinstance(found, dict)
    assert list(found) == ["US:A", "HK:1"]
    assert found["US:A"] == 1
    assert found == {"US:A": 1, "HK:1": 3}


def test_a_result_has_the_missing_symbols():
    assert result().missing == ("US:B",)
    assert Result(("US:A",), {"US:A": 1}).missing == ()
    assert Result((), {}).missing == ()


def test_symbols_that_were_not_requested_are_left_out():
    assert Result(("US:A",), {"US:A": 1, "US:X": 2}) == {"US:A": 1}


def test_a_value_of_none_is_not_missing():
    assert Result(("US:A",), {"US:A": None}).missing == ()


def test_any_iterable_of_symbols_is_accepted():
    requested = (symbol for symbol in ("US:B", "US:A"))
    found = Result(requested, {"US:A": 1})
    assert found == {"US:A": 1}
    assert found.missing == ("US:B",)


def test_the_repr_shows_the_missing_symbols():
    assert repr(Result(("US:A",), {"US:A": 1})) == "Result({'US:A': 1})"
    assert repr(result()) == "Result({'US:A': 1, 'HK:1': 3}, missing=('US:B',))"


def test_copies_and_pickles_keep_order_and_missing():
    for twin in (
        copy.copy(result()),
        copy.deepcopy(result()),
        pickle.loads(pickle.dumps(result())),
    ):
        assert type(twin) is Result
        assert list(twin.items()) == [("US:A", 1), ("HK:1", 3)]
        assert twin.missing == ("US:B",)


def test_copies_and_pickles_keep_the_kind():
    found: Result[Trade] = Result((), {}, Trade)
    twins = (copy.copy(found), found.copy(), pickle.loads(pickle.dumps(found)))
    assert [twin.kind for twin in twins] == [Trade] * 3
    assert Result((), {}).kind is None


def test_the_method_copy_keeps_missing_too():
    found = result()
    twin = found.copy()
    assert type(twin) is Result
    assert list(twin.items()) == [("US:A", 1), ("HK:1", 3)]
    assert twin.missing == ("US:B",)
    twin["US:A"] = 5
    assert found["US:A"] == 1
