"""Results of fetch_*."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

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


def test_a_symbol_is_found_in_any_spelling():
    result = Result(["HK:700", "US:AAPL"], {"HK:700": 1, "US:AAPL": 2})
    for spelling in ("HK:700", "HK:00700", "hk:0700"):
        assert result[spelling] == result.get(spelling) == 1
        assert spelling in result
    assert [*result] == ["HK:700", "US:AAPL"]


@pytest.mark.parametrize("key", ["US:TSLA", "AAPL", "HK:1", "", 5, None])
def test_what_is_not_there_is_not_found(key: Any):
    result = Result(["US:AAPL", "HK:1"], {"US:AAPL": 2})
    assert key not in result
    assert result.get(key) is None
    assert result.get(key, 7) == 7
    with pytest.raises(KeyError):
        result[key]


@pytest.mark.parametrize(
    ("key", "advice"),
    [
        ("AAPL", "no record of 'AAPL': did you mean 'US:AAPL'?"),
        ("HK:00001", "no record of 'HK:00001': the service sent none, see .missing"),
        ("US:TSLA", "'US:TSLA', which was not requested; there are: US:AAPL"),
        (5, "no record of 5, which was not requested; there are: US:AAPL"),
    ],
)
def test_the_error_says_what_is_missing_and_what_was_meant(key: Any, advice: str):
    result = Result(["US:AAPL", "HK:1"], {"US:AAPL": 2})
    with pytest.raises(KeyError) as caught:
        result[key]
    assert advice in str(caught.value)


def test_the_error_of_a_large_result_is_short():
    names = [f"US:A{number}" for number in range(1000)]
    with pytest.raises(KeyError) as caught:
        Result(names, dict.fromkeys(names, 1))["US:TSLA"]
    assert len(str(caught.value)) < 200
