"""Judge of a fleet: what its consumers have, beside the whole tape of the simulator.

Each trade of the tape is there once, or inside a gap that was announced before it; none
is there twice by its place; those of a recorder are in order. Nothing depends on time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from msgspec import Struct

from tests.support.observations import trade_key

__all__ = ["Tape", "Verdict", "judge", "judge_all"]

Row = dict[str, Any]

_LATE, _SLACK = 30.0, 1.0
"""Seconds: how late a trade may be received, and by how much clocks may differ."""


class Tape:
    """The trades of a symbol, in order."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.keys = [trade_key(row) for row in rows]
        self._numbers: dict[tuple[Any, ...], list[int]] = defaultdict(list)
        for number, key in enumerate(self.keys):
            self._numbers[key].append(number)

    def number_of(self, key: Sequence[Any], after: int, used: set[int]) -> int | None:
        """Return the number of a trade: of equal ones, the next that is not used."""
        timestamp, price, size = key
        wanted = timestamp, Decimal(price), Decimal(size)
        left = [number for number in self._numbers[wanted] if number not in used]
        following = [number for number in left if number > after]
        return next(iter(following or left), None)


class Verdict(Struct):
    """What was found of one consumer.

    Attributes:
        name: The consumer.
        trades: Trades that it has, each place once.
        recovered: How many of these were recovered.
        in_gaps: Trades of the tape that it does not have, inside announced gaps.
        repeated: Trades that were given again after a restart, at the same place.
        gaps: The number of gaps by status.
        faults: What must not be.
    """

    name: str
    trades: int = 0
    recovered: int = 0
    in_gaps: int = 0
    repeated: int = 0
    gaps: dict[str, int] = {}
    faults: list[str] = []

    def add(self, fault: str) -> None:
        self.faults.append(f"{self.name}: {fault}")

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.trades} trades ({self.recovered} recovered), "
            f"{self.in_gaps} missing in gaps, {len(self.faults)} faults, "
            f"{self.repeated} given again, gaps {self.gaps}"
        )


class _Span(NamedTuple):
    since: float
    until: float


def judge(
    name: str,
    rows: Iterable[Row],
    tapes: dict[str, Tape],
    *,
    checks_times: bool = True,
) -> Verdict:
    """Judge the rows of one consumer, of all its runs.

    Args:
        name: The name of the consumer.
        rows: What it wrote.
        tapes: The tapes by symbol.
        checks_times: Whether the bounds of a gap hold what is missing in it; not if a
            clock was set. That a gap stands where trades are missing is checked always.
    """
    verdict = Verdict(name, gaps=defaultdict(int), faults=[])
    kept = _without_repetitions(verdict, rows)
    _check_order_of_places(verdict, kept)
    for symbol, tape in tapes.items():
        _check_tape(
            verdict, [row for row in kept if row.get("symbol") == symbol], tape, symbol,
            checks_times=checks_times,
        )  # fmt: skip
    return verdict


def judge_all(
    consumers: dict[str, list[Row]],
    tapes: dict[str, Tape],
    *,
    checks_times: bool = True,
) -> list[Verdict]:
    """Judge all consumers, and whether they have the same."""
    verdicts = [
        judge(name, rows, tapes, checks_times=checks_times)
        for name, rows in consumers.items()
    ]
    known: dict[str, Any] = {}
    for verdict, rows in zip(verdicts, consumers.values(), strict=True):
        for row in _placed(rows):
            content = row["symbol"], row["key"]
            if known.setdefault(row["place"], content) != content:
                verdict.add(f"another trade at {row['place']} than its neighbour has")
    for verdict, rows in zip(verdicts, consumers.values(), strict=True):
        if missing := sorted(known.keys() - {row["place"] for row in _placed(rows)}):
            verdict.add(
                f"does not have {missing[0]} ... {missing[-1]} ({len(missing)}), as its "
                "neighbour has"
            )
    return verdicts


def _placed(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if row["kind"] == "trade" and row["place"]]


def _without_repetitions(verdict: Verdict, rows: Iterable[Row]) -> list[Row]:
    """Return the rows without what a later run was given again."""
    seen: dict[str, tuple[int, Any]] = {}
    run, kept = 0, list[Row]()
    for row in rows:
        run += row["kind"] == "run"
        if row["kind"] == "error":
            verdict.add(f"ended with {row['text']}")
        if row["kind"] == "trade":
            place, content = row["place"], (row["symbol"], row["key"])
            if not place:
                verdict.add(f"a trade without a place: {row}")
            elif place in seen:
                before, same = seen[place]
                if same != content:
                    verdict.add(f"two trades at {place}: {same}, {content}")
                elif before == run:
                    verdict.add(f"twice in one run: {row}")
                verdict.repeated += 1
                continue
            seen[place] = run, content
        kept.append(row)
    return kept


def _check_order_of_places(verdict: Verdict, rows: list[Row]) -> None:
    """Check that the places of each recorder ascend, for each symbol."""
    last: dict[tuple[str, str], str] = {}
    for row in _placed(rows):
        recorder = row["place"].split(".")[1]
        key = recorder, row["symbol"]
        if row["place"] <= last.get(key, ""):
            verdict.add(f"{row['place']} follows {last[key]}")
        last[key] = row["place"]


def _check_tape(
    verdict: Verdict, rows: list[Row], tape: Tape, symbol: str, *, checks_times: bool
) -> None:
    used: set[int] = set()
    spans: list[_Span] = []
    last, may_skip, first = -1, False, True
    for row in rows:
        if row["kind"] == "gap":
            verdict.gaps[row["status"]] += 1
            if row["status"] != "filled":
                spans.append(_Span(row["since"], row["until"]))
                may_skip = True
            continue
        number = tape.number_of(row["key"], last, used)
        verdict.trades += 1
        verdict.recovered += row["recovered"]
        if number is None:
            verdict.add(f"twice, or no trade of the tape: {row}")
            continue
        used.add(number)
        if number < last:
            verdict.add(f"after a later trade: {row}")
            continue
        missing = [] if first else range(last + 1, number)
        outside = [
            tape.keys[one]
            for one in missing
            if not may_skip or (checks_times and not _is_in(spans, tape.keys[one][0]))
        ]
        verdict.in_gaps += len(missing) - len(outside)
        if outside:
            verdict.add(
                f"{symbol}: {len(outside)} missing before {row}: "
                f"{outside[0]} ... {outside[-1]}; gaps {spans[-3:]}"
            )
        last, first = number, False
        # What is missing may be on both sides of what was recovered.
        may_skip = may_skip and row["recovered"]


def _is_in(spans: list[_Span], second: float) -> bool:
    return any(span.since - _LATE <= second <= span.until + _SLACK for span in spans)
