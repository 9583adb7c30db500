"""Merge of trades after an outage: no trade twice, and no wrong "filled".

An oracle knows the whole tape; a world draws from it what a client receives.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from random import Random
from string import ascii_lowercase
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from qos_async._core.recovery.trades import (
    Echoes,
    MergedTrades,
    merge_trades,
    trade_key,
)
from qos_async.enums import Side
from qos_async.models import Trade

ASKED = 6  # In place of 50: the same logic in a smaller search space.
WORLDS = int(os.environ.get("MERGING_WORLDS", "1000"))

Tape = Sequence[Trade[str]]


def trade(at: int, price: str = "a", size: str | None = "1", side: int = 0):
    return Trade(symbol="US:A", timestamp=at, price=price, size=size, side=Side(side))


def tape(text: str) -> list[Trade[str]]:
    """``"7ab 8c"`` is a and b in second 7, then c in second 8."""
    words = [(word.rstrip(ascii_lowercase), word) for word in text.split()]
    return [trade(int(at), p) for at, word in words for p in word[len(at) :]]


def keys(trades: Iterable[Trade[Any]]):
    return [trade_key(one) for one in trades]


def count(*parts: Iterable[Trade[Any]]):
    return Counter(known for part in parts for known in keys(part))


def fill(tail: str, window: str | None, live: str, acked_at: int | None, asked: int):
    return merge_trades(
        tail=tape(tail),
        window=None if window is None else tape(window),
        live=tape(live),
        acked_at=acked_at,
        asked=asked,
    )


def outcome(merged: MergedTrades[str]):
    found: dict[int, str] = {}
    for one in merged.recovered:
        found[one.timestamp] = found.get(one.timestamp, "") + one.price
    text = " ".join(f"{at}{prices}" for at, prices in found.items())
    return merged.status, text, merged.waits_for


# -- One example of each status


def test_trades_between_two_anchors_are_recovered():
    merged = fill("5a 6b", "5a 6bc 7d 9e", "9e", acked_at=8, asked=5)
    assert outcome(merged) == ("filled", "6c 7d", None)
    assert not merged.waiting


def test_an_outage_without_trades_is_filled_with_nothing():
    assert outcome(fill("5a 6b", "5a 6b 9c", "9c", 8, 3)) == ("filled", "", None)


def test_copies_of_delivered_trades_are_recovered_in_their_place():
    merged = fill("5a 6x", "5a 6xbxcx 7d", "6x 7d", acked_at=6, asked=7)
    assert outcome(merged) == ("filled", "6bxc", None)


def test_a_window_that_begins_after_the_last_trade_is_partial():
    merged = fill("5a 6b", "7d 8e 9f", "9f", acked_at=8, asked=3)
    assert outcome(merged) == ("partial", "7d 8e", None)


def test_a_window_that_begins_within_the_last_second_is_partial():
    merged = fill("5a 6bcd", "6cdx 7e 9f", "9f", acked_at=8, asked=5)
    assert outcome(merged) == ("partial", "6x 7e", None)


def test_a_window_from_after_the_outage_recovers_nothing():
    merged = fill("5a 6b", "9xyz", "9xyz", acked_at=8, asked=3)
    assert outcome(merged) == ("partial", "", None)


def test_a_server_that_lost_its_trades_does_not_reach_back():
    merged = fill("5a 6b", "7x 9c", "9c", acked_at=8, asked=50)
    assert outcome(merged) == ("partial", "7x", None)


@pytest.mark.parametrize("window", [None, ""])
def test_without_a_reply_the_trades_are_unfilled(window: str | None):
    assert outcome(fill("5a 6b", window, "9c", 8, 3)) == ("unfilled", "", None)


@pytest.mark.parametrize(
    ("why", "tail", "window", "live"),
    [
        ("a delivered trade is not listed", "4a 5xy 6b", "4a 5x 6b 7d 9e", "9e"),
        ("an old trade was not delivered", "4a 5x 6b", "4a 5xy 6b 7d 9e", "9e"),
        ("the last trade is not listed", "4a 5x 6b", "4a 5x 6c 7d 9e", "9e"),
        ("the oldest listed was not delivered", "3a 4b 6c", "4x 6c 7d 9e", "9e"),
        ("the oldest differ on both sides", "4b 6c", "4x 6c 7d 9e", "9e"),
        ("a push is not listed", "5a 6b", "5a 6b 7d 10f", "9e 10f"),
        ("an early push is not listed", "5a 6b", "5a 6b 7d 9e", "8x 9e"),
    ],
)
def test_inconsistent_data_recovers_only_the_seconds_without_pushes(
    why: str, tail: str, window: str, live: str
):
    merged = fill(tail, window, live, acked_at=8, asked=len(tape(window)))
    assert outcome(merged) == ("unverified", "7d", None), why


@pytest.mark.parametrize(
    ("tail", "window", "live"),
    [
        ("5a 6b", "5a 7d 6b 9e", "9e"),  # The window is in no order.
        (
            "5a 6b 5x",
            "5ax 6bz 7d 9e",
            "9e",
        ),  # Late trades: more of them may be missing.
        ("5a 6b", "5a 6b 7d 9xe", "9e 9x 8y"),
    ],
)
def test_trades_out_of_time_order_are_unverified(tail: str, window: str, live: str):
    merged = fill(tail, window, live, acked_at=9, asked=len(tape(window)))
    assert outcome(merged) == ("unverified", "7d", None)


def test_a_late_trade_long_before_the_outage_does_not_matter():
    merged = fill("3a 2x 4a 5a 6b", "5a 6b 7d 9e", "9e", acked_at=8, asked=4)
    assert outcome(merged) == ("filled", "7d", None)


def test_a_window_that_lags_is_compared_with_all_delivered_trades():
    tail = "1a 2b 3c 4d 5e 6f"
    assert outcome(fill(tail, "2b 3c 4d", "9e", 8, 3)) == ("unverified", "", "reply")
    assert outcome(fill(tail, "2b 3cx 4d", "9e", 8, 4)) == ("unverified", "", None)


def test_a_push_older_than_the_last_trade_is_unverified():
    merged = fill("5a 6b", "5ax 6b 7d 9e", "5x 9e", acked_at=8, asked=5)
    assert outcome(merged) == ("unverified", "", None)


# -- Waiting


def test_a_window_ahead_of_the_pushes_waits_for_the_next_push():
    window = "5a 6b 7d 9e"
    assert outcome(fill("5a 6b", window, "", 8, 4)) == ("unverified", "7d", "push")
    assert outcome(fill("5a 6b", window, "9e", 8, 4)) == ("filled", "7d", None)


def test_a_window_that_ends_before_the_cut_waits_for_a_later_one():
    merged = fill("5a 6b", "5a 6b 7d", "9e", acked_at=8, asked=3)
    assert outcome(merged) == ("unverified", "7d", "reply")
    assert merged.waiting
    assert outcome(fill("5a 6b", "5a 6b 7d 9e", "9e", 8, 4))[0] == "filled"


def test_a_window_that_does_not_reach_back_waits_for_nothing():
    assert outcome(fill("5a 6b", "7d 8e", "9f", 8, 2)) == ("unverified", "7d 8e", None)


def test_trades_that_may_still_be_pushed_are_not_recovered():
    merged = fill("5a 6b", "5a 6b 7d 8xy", "8x", acked_at=8, asked=5)
    assert outcome(merged) == ("unverified", "7d", "reply")
    assert outcome(fill("5a 6b", "5a 6b 7d 8xy", "", 8, 5))[1] == "7d"


def test_a_listed_trade_before_a_push_of_its_second_waits_for_the_next_second():
    # The server's clock may be behind the timestamps: then x was traded in the outage.
    window = "5a 6b 9xe"
    assert outcome(fill("5a 6b", window, "9e", 8, 4)) == ("unverified", "", "push")
    # The next second shows whether it was the order or the clock.
    assert outcome(fill("5a 6b", window, "9ex 10f", 8, 4))[0] == "filled"
    merged = fill("5a 6b", window + " 10f", "9e 10f", acked_at=8, asked=5)
    assert outcome(merged) == ("filled", "9x", None)


# -- The acknowledgement's second


@pytest.mark.parametrize(
    ("window", "live"),
    [
        ("5a 6b 7d 9e 10f", "10f"),
        ("5a 6b 7d 9ex", "9e 10f"),
        ("5a 6b 7d 9e", "9f"),
    ],
)
def test_a_listed_trade_after_the_acknowledgement_that_was_not_pushed_is_unverified(
    window: str, live: str
):
    """Either the push was lost, or the server's clock is behind the timestamps."""
    merged = fill("5a 6b", window, live, acked_at=8, asked=len(tape(window)))
    assert (merged.status, merged.waiting) == ("unverified", True)


def test_a_push_lost_after_the_first_second_is_inconsistent():
    merged = fill("5a 6b", "5a 6b 7d 9e 10f 11g", "9e 11g", acked_at=8, asked=6)
    assert outcome(merged) == ("unverified", "7d", None)


def test_a_push_lost_in_the_first_second_is_recovered_like_the_outage():
    merged = fill("5a 6b", "5a 6b 7d 9efg 10h", "9eg 10h", acked_at=8, asked=7)
    assert outcome(merged) == ("filled", "7d 9f", None)


def test_without_the_acknowledgements_second_two_seconds_of_pushes_settle():
    assert outcome(fill("5a 6b", "5a 6b 7d 9e", "9e", None, 4)) == (
        "unverified",
        "7d",
        "reply",
    )
    assert outcome(fill("5a 6b", "5a 6b 7d 9e 10f", "9e 10f", None, 5)) == (
        "filled",
        "7d",
        None,
    )
    assert outcome(fill("5a 6b", "5a 6b 7d 9e", "", None, 4)) == (
        "unverified",
        "",
        "push",
    )


def test_a_feed_that_lags_behind_the_clock_is_filled_by_its_own_timestamps():
    merged = fill("5a 6b", "5a 6bx 7d 9e", "7d 9e", acked_at=900, asked=5)
    assert outcome(merged) == ("filled", "6x", None)


def test_an_acknowledgement_older_than_the_last_trade_counts_as_unknown():
    merged = fill("5a 6b", "5a 6bx 7d 9e", "7d 9e", acked_at=4, asked=5)
    assert outcome(merged) == ("filled", "6x", None)
    merged = fill("5a 6b", "5a 6bxb", "6b", acked_at=4, asked=4)
    assert outcome(merged) == ("unverified", "", "reply")


# -- Short windows, short tails


def test_a_short_window_is_the_whole_tape_and_needs_no_left_anchor():
    assert outcome(fill("6b", "6b 7d 9e", "9e", 8, 50)) == ("filled", "7d", None)
    assert outcome(fill("6b", "6b 7d 9e", "9e", 8, 3)) == ("partial", "7d", None)
    assert outcome(fill("6b", "6c 7d 9e", "9e", 8, 50))[0] == "unverified"


def test_trades_that_may_predate_the_subscription_are_not_recovered():
    merged = fill("6b", "5a 6xby 7d 9e", "9e", acked_at=8, asked=6)
    assert outcome(merged) == ("unverified", "7d", None)
    merged = fill("5x 6b", "4z 5ax 6by 7d 9e", "9e", acked_at=8, asked=7)
    assert outcome(merged) == ("filled", "6y 7d", None)


def test_without_a_tail_the_gap_is_unverified():
    assert outcome(fill("", "5a 7d 9e", "9e", 8, 50)) == ("unverified", "", None)
    assert outcome(fill("", None, "9e", 8, 50)) == ("unfilled", "", None)


# -- Identity and order


def test_the_window_may_be_newest_first():
    window = tape("5a 6bc 7de 9f")[::-1]
    merged = merge_trades(
        tail=tape("5a 6b"), window=window, live=tape("9f"), acked_at=8, asked=6
    )
    assert outcome(merged) == ("filled", "6c 7de", None)


def test_the_size_is_part_of_a_trade():
    bigger = trade(6, size="2")
    merged = merge_trades(
        tail=[trade(5), trade(6)],
        window=[trade(5), bigger, trade(6), trade(9)],
        live=[trade(9)],
        acked_at=8,
        asked=4,
    )
    assert (merged.status, merged.recovered) == ("filled", (bigger,))


def test_the_side_is_not_part_of_a_trade():
    merged = merge_trades(
        tail=[trade(5), trade(6, side=1)],
        window=[trade(5), trade(6, side=2), trade(9, side=0)],
        live=[trade(9, side=1)],
        acked_at=8,
        asked=3,
    )
    assert outcome(merged) == ("filled", "", None)


def test_numbers_are_compared_by_value_and_a_missing_size_equals_itself():
    def priced(at: int, price: str, size: str | None = None):
        number = None if size is None else Decimal(size)
        return Trade(symbol="A", timestamp=at, price=Decimal(price), size=number)

    window = [priced(5, "1.50"), priced(6, "2", "1.0"), priced(9, "3")]
    merged = merge_trades(
        tail=[priced(5, "1.5"), priced(6, "2.0", "1")],
        window=window,
        live=window[2:],
        acked_at=8,
        asked=3,
    )
    assert (merged.status, merged.recovered) == ("filled", ())


def test_numbers_as_text_are_compared_by_value():
    window = [trade(5, "1.50"), trade(6, "8.5", "1.0"), trade(7, "NaN"), trade(9, "a")]
    merged = merge_trades(
        tail=[trade(5, "1.5"), trade(6, "8.50", "1")],
        window=window,
        live=window[3:],
        acked_at=8,
        asked=4,
    )
    assert (merged.status, merged.recovered) == ("filled", (window[2],))
    echoes = Echoes([trade(7, "8.5"), trade(7, "sNaN")])
    assert echoes.matches(trade(7, "8.50"))
    assert echoes.matches(trade(7, "sNaN"))


def test_a_window_with_more_rows_than_requested_is_unverified():
    merged = fill("5a 6b", "5a 6bc 7d 9e", "9e", acked_at=8, asked=4)
    assert outcome(merged) == ("unverified", "", None)


# -- Echoes


def test_a_push_equal_to_a_recovered_trade_matches_it_once():
    echoes = Echoes(tape("7aab"))
    assert echoes
    pushes = tape("7aabaab")
    assert [echoes.matches(push) for push in pushes] == [1, 1, 1, 0, 0, 0]
    assert not echoes


def test_echoes_are_expected_for_five_seconds_of_timestamps():
    echoes = Echoes(tape("7a 8b"))
    assert not echoes.matches(trade(13, "c"))
    assert echoes.matches(trade(7, "a"))
    assert not echoes.matches(trade(14, "c"))
    assert not echoes
    assert not echoes.matches(trade(8, "b"))
    assert not Echoes([])


# -- Why a run of delivered trades is no anchor within one second


@pytest.mark.parametrize("run", ["a", "abc", "abcdefxyz"])
def test_indistinguishable_outages_forbid_an_anchor_within_one_second(run: str):
    tail, window, live = f"6{run}", f"6{run} 7d 9e", "9e"
    short, long = (
        f"{tail} 7d 9e",
        f"6{run}{run} 7d 9e",
    )  # In the second tape the run was traded twice.
    asked = len(tape(window))
    assert tape(short)[-asked:] == tape(long)[-asked:] == tape(window)
    assert fill(tail, window, live, 8, asked).status == "partial"


# -- Random tapes


@dataclass
class World:
    """A tape and what a client receives of it, as indices into the tape.

    The client listened from ``since`` to ``lost`` and again from ``back`` to ``now``;
    the reply was written at ``answered``.
    """

    tape: Tape
    since: int
    lost: int
    back: int
    now: int
    answered: int
    acked_at: int | None = None
    asked: int = ASKED
    kept: int = ASKED
    newest_first: bool = False
    shuffle: int | None = None
    forgotten: frozenset[int] = field(default_factory=frozenset[int])

    @property
    def delivered(self) -> Tape:
        return self.tape[self.since : self.lost]

    @property
    def hole(self) -> Tape:
        return self.tape[self.lost : self.back]

    @property
    def live(self) -> Tape:
        return self.tape[self.back : self.now]

    @property
    def window(self) -> Tape:
        known = [
            one
            for place, one in enumerate(self.tape[: self.answered])
            if place not in self.forgotten
        ][-self.asked :]
        if self.shuffle is not None:  # Another order within each second.
            Random(self.shuffle).shuffle(known)
            known.sort(key=lambda one: one.timestamp)
        return known[::-1] if self.newest_first else known

    def merge(self) -> MergedTrades[str]:
        return merge_trades(
            tail=self.delivered[-self.kept :],
            window=self.window,
            live=self.live,
            acked_at=self.acked_at,
            asked=self.asked,
        )


def make_world(random: Random, *, shuffled: bool = False, sound: bool = True) -> World:
    """Return a world in which C1 to C4 hold; if not ``sound``, only C1 and C4 do."""
    at, trades = 1, list[Trade[str]]()
    for _ in range(random.randint(0, 30)):
        at += random.choice([0, 0, 0, 1, 1, 3])
        trades.append(trade(at, random.choice("aab")))
    size = len(trades)
    since, lost, back, now = sorted(random.randint(0, size) for _ in range(4))
    if random.random() < 0.7:  # Short outages, and all pushes received: mostly settled.
        since, back, now = 0, min(size, lost + random.randint(0, 4)), size
    soon = min(size, back + random.randint(1, 5))
    asked = random.choice([ASKED, 2 * ASKED])
    acked_at = (
        trades[back - 1].timestamp if back else 0
    )  # The lowest value that C3 allows.
    acked_at += random.randint(0, 2) if sound else random.randint(-2, 9)
    gone = (
        [] if sound else [random.randint(0, size) for _ in range(random.randint(0, 4))]
    )
    return World(
        tape=trades,
        since=since,
        lost=lost,
        back=back,
        now=now,
        answered=random.choice([random.randint(0, size), soon, soon]),
        acked_at=random.choice([None, acked_at, acked_at]),
        asked=asked,
        kept=asked + random.choice([0, 2, 99]),
        newest_first=random.choice([False, True]),
        shuffle=random.randint(0, 99) if shuffled else None,
        forgotten=frozenset(gone),
    )


def assert_nothing_twice(world: World, merged: MergedTrades[str]) -> None:
    everything = count(world.delivered, merged.recovered, world.live)
    assert everything <= count(world.tape), (world, merged)
    # Later pushes may be any trades that were neither delivered nor pushed yet.
    echoes = Echoes(merged.recovered)
    later = [one for one in world.tape[world.now :] if not echoes.matches(one)]
    assert everything + count(later) <= count(world.tape), (world, merged)


def assert_the_hole(world: World, merged: MergedTrades[str], *, ordered: bool) -> None:
    recovered, hole = count(merged.recovered), count(world.hole)
    if merged.status == "filled":
        assert recovered == hole, (world, merged)
        assert not ordered or keys(merged.recovered) == keys(world.hole)
    if merged.status == "partial":
        begins = min(one.timestamp for one in world.window)
        listed = [one for one in world.hole if one.timestamp > begins]
        assert recovered <= hole, (world, merged)
        assert count(listed) <= recovered, (world, merged)
    seconds = [one.timestamp for one in merged.recovered]
    assert seconds == sorted(seconds)


def spans_two_seconds(world: World) -> bool:
    """Return whether the tail has its last second from the beginning."""
    return len({one.timestamp for one in world.delivered[-world.kept :]}) > 1


def anchored(world: World) -> bool:
    """Return whether both anchors hold."""
    tail = [one.timestamp for one in world.delivered]
    listed = [one.timestamp for one in world.window]
    pushed = [one.timestamp for one in world.live]
    if not (spans_two_seconds(world) and listed and pushed):
        return False
    cut = pushed[0] if world.acked_at is None else world.acked_at
    return min(listed) < tail[-1] and max(listed) > cut and pushed[-1] > cut


def assert_it_is_decided(world: World, merged: MergedTrades[str]) -> None:
    """The anchors decide; waiting leads to them, as soon as further trades are pushed."""
    if anchored(world):
        assert merged.status == "filled", (world, merged)
    if merged.waiting and spans_two_seconds(world):
        newest = world.tape[-1].timestamp if world.tape else 0
        more = [trade(newest + later, "z") for later in (9, 10, 11)]
        tape = [*world.tape, *more]
        asked = (
            len(tape) + 1
            if len(world.window) < world.asked
            else len(tape) - world.since
        )
        places = {"now": len(tape), "answered": len(tape), "asked": asked}
        end = World(**{**vars(world), "tape": tape, **places}).merge()
        assert end.status == "filled", (world, merged, end)


def assert_sound(world: World) -> MergedTrades[str]:
    merged = world.merge()
    ordered = world.shuffle is None
    assert_nothing_twice(world, merged)
    assert_the_hole(world, merged, ordered=ordered)
    if ordered:
        assert_it_is_decided(world, merged)
    if ordered and merged.status == "filled":
        together = [*world.delivered, *merged.recovered, *world.live]
        first = world.lost - len(world.delivered)
        assert keys(together) == keys(world.tape[first : world.now])
    return merged


@settings(max_examples=40)
@given(random=st.randoms(use_true_random=False), shuffled=st.booleans())
def test_filled_is_the_tape_and_nothing_is_repeated(*, random: Random, shuffled: bool):
    event(assert_sound(make_world(random, shuffled=shuffled)).status)


def test_filled_is_the_tape_in_thousands_of_random_outages():
    seen = Counter[str]()
    for seed in range(WORLDS):
        merged = assert_sound(make_world(Random(seed), shuffled=seed % 4 == 0))
        seen[merged.status] += 1
    assert min(seen[status] for status in ("filled", "partial")) > WORLDS / 10, seen


def test_nothing_is_repeated_by_a_server_that_lags_forgets_and_misdates():
    for seed in range(WORLDS):
        world = make_world(Random(seed), shuffled=seed % 2 == 0, sound=False)
        assert_nothing_twice(world, world.merge())


@st.composite
def any_trades(draw: st.DrawFn) -> Tape:
    some = st.tuples(st.integers(0, 4), st.sampled_from("ab"))
    trades = [trade(at, name) for at, name in draw(st.lists(some, max_size=9))]
    return sorted(trades, key=lambda t: t.timestamp) if draw(st.booleans()) else trades


@settings(max_examples=40)
@given(any_trades(), any_trades(), any_trades(), st.none() | st.integers(0, 5))
def test_no_trade_is_delivered_more_often_than_one_source_has_it(
    tail: Tape, window: Tape, live: Tape, acked_at: int | None
):
    """For any three inputs, even unrelated ones."""
    merged = merge_trades(
        tail=tail, window=window, live=live, acked_at=acked_at, asked=ASKED
    )
    received = count(tail, live)
    assert count(merged.recovered) + received <= received | count(window)
    if merged.status == "filled":
        together = [*tail[-ASKED:], *merged.recovered, *live]
        seconds = [one.timestamp for one in together]
        assert seconds == sorted(seconds)


# -- Poisson tapes: how often trades are filled, and what violated assumptions do


@dataclass
class Market:
    """One outage of a symbol that trades at ``rate`` a second, in exact times."""

    rate: float
    outage: float
    seed: int
    late: float = 0.0  # Share of trades with an old timestamp.
    lag: float = 0.0  # Seconds by which the windows lag.
    forgets: float = 0.0  # Share of trades that the windows lack.
    loses: float = 0.0  # Share of pushes lost while live.
    behind: int = 0  # Seconds by which the server's clock is behind the timestamps.
    sort: bool = False  # Windows are sorted by timestamp.

    def __post_init__(self) -> None:
        random = self.random = Random(self.seed)
        self.lost_at = 100.0 + random.random()
        self.back_at = self.lost_at + self.outage
        self.trades: list[tuple[float, Trade[str]]] = []
        now = 0.0
        while (now := now + random.expovariate(self.rate)) < self.back_at + 60 / min(
            self.rate, 1
        ):
            stamp = int(now)
            if random.random() < self.late:
                stamp -= random.randint(1, 20)
            price = str(100 + random.randint(-5, 5))
            size = random.choice(["1", "1", "1", "2", "5"])
            self.trades.append((now, trade(stamp, price, size)))
        self.known = [x for x in self.trades if random.random() >= self.forgets]
        self.pushed = [x for x in self.trades if random.random() >= self.loses]

    def between(self, start: float, end: float) -> Tape:
        return [one for at, one in self.pushed if start < at <= end]

    def hole(self) -> Tape:
        return [one for at, one in self.trades if self.lost_at < at <= self.back_at]

    def answer(self, at: float) -> Tape:
        tape = [one for time, one in self.known if time <= at - self.lag]
        return (
            sorted(tape, key=lambda t: t.timestamp)[-50:] if self.sort else tape[-50:]
        )

    def recover(self) -> tuple[MergedTrades[str], Tape]:
        """Request at the first push newer than the acknowledgement; hold for 5 s."""
        acked_at = int(self.back_at) - self.behind
        pushes = [at for at, one in self.pushed if at > self.back_at]
        newer = (
            at
            for at, one in self.pushed
            if at > self.back_at and one.timestamp > acked_at
        )
        held_at = min(pushes, default=self.back_at)
        asked_at = max(self.back_at + 1, next(newer, self.back_at + 5)) + 0.05
        now, answer = asked_at + 0.05, self.answer(asked_at)
        while True:
            live = self.between(self.back_at, now)
            merged = merge_trades(
                tail=self.between(0, self.lost_at)[-128:],
                window=answer,
                live=live,
                acked_at=acked_at,
            )
            if not merged.waiting or now > max(held_at, asked_at) + 5:
                return merged, live
            if merged.waits_for == "reply":
                answer, now = self.answer(now + 1), now + 1.05
            else:
                now = min((at for at in pushes if at > now), default=now + 9) + 0.01


def outages(rate: float, outage: float, runs: int, **trouble: Any):
    """Count the statuses, the wrong "filled", and the trades delivered twice."""
    seen = Counter[str]()
    for seed in range(runs):
        market = Market(rate, outage, seed, **trouble)
        merged, live = market.recover()
        seen[merged.status] += 1
        hole = market.hole()
        right = keys(merged.recovered) == keys(hole)
        seen["wrong"] += merged.status == "filled" and not right
        before = market.between(0, market.lost_at)
        every = count(before, merged.recovered, live)
        seen["twice"] += not every <= count([one for _, one in market.trades])
    return seen


@pytest.mark.parametrize(
    ("rate", "outage", "floor"),
    [(0.1, 30, 0.85), (1, 8, 0.85), (2, 15, 0.80), (5, 3, 0.60)],
)
def test_most_outages_of_a_calm_symbol_are_filled(
    rate: float, outage: float, floor: float
):
    runs = 40
    seen = outages(rate, outage, runs)
    share = seen["filled"] / runs  # Printed with -s.
    sys.stdout.write(f"\n{rate} trades/s, {outage} s: {share:.0%} filled\n")
    assert seen["filled"] >= floor * runs, seen
    assert seen["wrong"] == seen["twice"] == 0, seen


@pytest.mark.parametrize(
    "trouble",
    [
        {"late": 0.02},
        {"late": 0.2},
        {"lag": 2},
        {"lag": 60},
        {"behind": 1},
        {"behind": 3},
        {"late": 0.2, "sort": True},
        {"forgets": 0.3},
        {"loses": 0.3},
    ],
    ids=str,
)
def test_violated_assumptions_are_mostly_detected_and_repeat_nothing(
    trouble: dict[str, float],
):
    runs = 20
    seen = outages(1, 8, runs, **trouble)
    assert seen["twice"] == 0, seen
    assert seen["wrong"] <= 0.1 * runs, seen
