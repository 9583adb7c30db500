"""The judge of fleets finds each kind of fault, and takes nothing else for one."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.fleet_judge import Tape, Verdict, judge, judge_all

SYMBOL = "CF:BTCUSDT"

Row = dict[str, Any]

TAPES = {
    SYMBOL: Tape([{"ts": 100 + n, "p": str(n), "v": "1"} for n in range(20)]),
    "CF:ETHUSDT": Tape([{"ts": 100 + n, "p": str(n), "v": "2"} for n in range(20)]),
}


def place(number: int) -> str:
    return f"1.main.1.{number:04d}"


def trade(number: int, at: int | None = None, **more: Any) -> Row:
    """Return a row for a trade of the tape, at the place of that number or another."""
    row = {
        "kind": "trade",
        "symbol": SYMBOL,
        "key": [100 + number, str(number), "1"],
        "place": place(number if at is None else at),
        "recovered": False,
    }
    return row | more


def gap(since: int, until: int, status: str = "unfilled") -> Row:
    bounds = {"since": 100.0 + since, "until": 100.0 + until}
    return {"kind": "gap", "symbol": SYMBOL, "status": status, **bounds}


RUN: Row = {"kind": "run"}
WHOLE = [RUN, *(trade(number) for number in range(2, 12))]


def found(rows: list[Row], **options: Any) -> Verdict:
    return judge("bot", rows, TAPES, **options)


def without(*numbers: int) -> list[Row]:
    left_out = {place(number) for number in numbers}
    return [row for row in WHOLE if row.get("place") not in left_out]


def test_a_piece_of_the_tape_has_no_fault():
    verdict = found(WHOLE)
    assert not verdict.faults
    assert (verdict.trades, verdict.in_gaps) == (10, 0)


def test_a_missing_trade_is_found():
    [fault] = found(without(5, 6)).faults
    assert "2 missing before" in fault


def test_a_missing_trade_is_allowed_inside_a_gap():
    rows = without(5, 6)
    rows.insert(4, gap(4, 7))
    verdict = found(rows)
    assert not verdict.faults
    assert verdict.in_gaps == 2


@pytest.mark.parametrize(
    ("number", "row"),
    [
        (4, gap(4, 7, "filled")),  # It promises to be whole.
        (5, gap(4, 7)),  # Too late.
        (4, gap(1, 2)),  # Of another time.
        (4, gap(4, 7) | {"symbol": "CF:ETHUSDT"}),
    ],
)
def test_another_gap_allows_no_missing_trade(number: int, row: Row):
    rows = without(5, 6)
    rows.insert(number, row)
    assert "2 missing before" in found(rows).faults[0]


def test_where_a_clock_was_set_the_gap_has_to_stand_in_its_place():
    rows = without(5, 6)
    early, right = [gap(0, 1), *rows], [*rows[:4], gap(8, 9), *rows[4:]]
    assert not found(right, checks_times=False).faults
    assert found(early, checks_times=False).faults


def test_a_trade_that_is_there_twice_is_found():
    again = [*WHOLE[:5], trade(5, at=6), *WHOLE[5:]]
    assert "twice, or no trade of the tape" in found(again).faults[1]
    assert "twice in one run" in found([*WHOLE, trade(11)]).faults[0]


def test_what_a_restarted_follower_is_given_again_counts_once():
    verdict = found([*WHOLE, RUN, trade(10), trade(11), trade(12)])
    assert not verdict.faults
    assert (verdict.trades, verdict.repeated) == (11, 2)


def test_another_trade_at_the_same_place_is_found():
    assert "two trades at" in found([*WHOLE, RUN, trade(12, at=11)]).faults[0]


def test_trades_out_of_order_are_found():
    rows = [*without(6), trade(6)]
    assert any("follows" in fault for fault in found(rows).faults)
    rows = [*without(6), trade(6, at=30)]
    assert any("after a later trade" in fault for fault in found(rows).faults)


def test_a_trade_without_a_place_is_found():
    assert "without a place" in found([*WHOLE, trade(12, place="")]).faults[0]


def test_an_error_of_a_follower_is_found():
    assert "bad" in found([*WHOLE, {"kind": "error", "text": "bad"}]).faults[0]


def test_consumers_that_have_different_trades_at_a_place_are_found():
    other = {"symbol": "CF:ETHUSDT", "key": [102, "2", "2"]}
    rows = [RUN, trade(2) | other, *WHOLE[2:]]
    first, second = judge_all({"one": WHOLE, "two": rows}, TAPES)
    assert not first.faults
    assert "another trade at 1.main.1.0002" in second.faults[0]


def test_consumers_of_which_one_has_less_are_found():
    rows = without(5)
    rows.insert(4, gap(4, 6))
    one, two = judge_all({"one": WHOLE, "two": rows}, TAPES)
    assert not one.faults
    assert f"does not have {place(5)}" in two.faults[0]
