"""What was traded in an outage, from what both sides of it tell.

Trades carry no id and whole seconds, and alike ones are common: they are told apart
by (timestamp, price, size) alone and compared as multisets. The side is no part of it,
because the server tells one trade with a side here and without it there.

Four things are taken on trust; "filled" is exact where they hold:

* C1: while a topic is live its pushes are complete, and no stamp is older than the
  one before it.
* C2: the answer lists the newest ``asked`` trades of the tape that the pushes come
  from, or all of them if there are fewer, in its order or in the reverse.
* C3: no trade from before the acknowledgement is stamped later than ``acked_at``.
* C4: ``tail`` is the end of what was delivered, without a hole: at least the last
  ``asked`` trades, or all since the topic was live (or since the last hole).

Each is checked as far as it can be seen; what cannot be seen is a trade of the hole
that the server itself has forgotten.

Let *last* be the second of the last trade of ``tail``, and *cut* one after which all
trades are live: ``acked_at`` (by C3), or the second of the first live push (by C1).

* Left anchor: the answer begins in a second before *last*. Stamps do not fall, so all
  of second *last* and of the hole comes later than its first trade: it is listed.
* Right anchor: a trade newer than *cut* was pushed, and one is listed. So all live
  trades up to *cut* are here, and the answer has got past the hole: it does not lag.

With both, whatever is listed from *last* to *cut*, less ``tail``, less ``live``, is the
hole. Why delivered trades at the start of an answer are no anchor within second *last*,
however long their run and however well the order agrees: an outage in which that same
run was traded once more leaves the same tail, the same answer and the same pushes, with
another hole. Nobody can tell the two apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from typing import Any, Generic, Literal, TypeAlias

from msgspec import Struct

from qos_async._core.recovery.gaps import GapStatus
from qos_async.models import N, Trade

__all__ = ["Echoes", "MergedTrades", "TradeKey", "merge_trades", "trade_key"]

TradeKey: TypeAlias = tuple[int, object, object]

_NOTHING: Counter[TradeKey] = Counter()
_NEVER = -1  # Older than any stamp.
_ECHO_WINDOW = 5
_RANKS: tuple[GapStatus, ...] = ("filled", "partial", "unverified", "unfilled")


def trade_key(trade: Trade[Any]) -> TradeKey:
    """Give all that tells one trade of a symbol from another."""
    return trade.timestamp, _number(trade.price), _number(trade.size)


def _number(value: object) -> object:
    # As text, one number may be written in several ways.
    if not isinstance(value, str):
        return value
    try:
        number = Decimal(value)
    except InvalidOperation:
        return value
    return number if number.is_finite() else value


class MergedTrades(Struct, Generic[N], frozen=True):
    """What an outage's hole can be filled with, and what may be said of it.

    Attributes:
        status: ``"filled"``: delivered, ``recovered`` and ``live`` are together the
            tape, in its order. ``"partial"``: the answer does not reach back; they are
            the tape after the second it begins in. ``"unverified"``: the sides
            disagree, an anchor is missing, or some of what is left may be older than
            the subscription. ``"unfilled"``: nothing was answered.
        recovered: To be delivered after the gap and before ``live``, oldest first.
            None of them can be pushed any more, by C1; if ``live`` is empty, as long
            as no stamp is older than the acknowledgement (see ``Echoes``).
        waits_for: What may yet turn ``"unverified"`` into ``"filled"``. ``"push"``:
            another push; merge again with the same answer. ``"answer"``: a later
            answer; ask again once a push newer than ``acked_at`` has come. None: this
            is the last word.
    """

    status: GapStatus
    recovered: tuple[Trade[N], ...] = ()
    waits_for: Literal["push", "answer"] | None = None

    @property
    def waiting(self) -> bool:
        """Whether waiting may still lead to ``"filled"``."""
        return self.waits_for is not None


def merge_trades(
    *,
    tail: Sequence[Trade[N]],
    window: Sequence[Trade[N]] | None,
    live: Sequence[Trade[N]],
    acked_at: int | None,
    asked: int = 50,
) -> MergedTrades[N]:
    """Find the trades of an outage of one symbol.

    In every verdict, and whatever is wrong with the input, nothing is told more often
    (in ``tail``, ``recovered`` and ``live``) than the answer or the pushes have it.
    Where the sides disagree, only the seconds between ``tail`` and ``live`` are
    recovered; without a tail nothing, as all may be older than the subscription, and of
    an answer with more rows than asked for nothing, as it is to another question.

    Args:
        tail: What was delivered before the outage, as in C4, in that order.
        window: What the server answered; None if it did not answer.
        live: All pushes since the acknowledgement, in order.
        acked_at: The server's second in the acknowledgement, if it told.
        asked: How many trades the server was asked for.
    """
    if not window:
        return MergedTrades("unfilled")
    if not tail or len(window) > asked:
        return MergedTrades("unverified")
    sides = _Evidence(tail, window, live, asked)
    # Each cut is sound. The first decides a quiet topic at its first push; the second
    # copes with a server's clock that runs before or behind the stamps.
    cuts = [acked_at, live[0].timestamp if live else None]
    usable = [cut for cut in cuts if cut is not None and cut >= sides.last]
    verdicts = [_verdict_at_cut(sides, cut) for cut in usable or [sides.last]]
    return min(verdicts, key=lambda it: (_RANKS.index(it.status), not it.waiting))


class Echoes:
    """Recovered trades that are pushed after all.

    There should be none (see ``Merged.recovered``). Where pushes overtake each other, or
    stamps lag behind the clock, a push that equals a recovered trade is taken for it,
    as often as that was recovered. Then nothing is told more often than it was traded.
    False when no more are expected: once a push is more than 5 seconds newer.
    """

    __slots__ = ("_left", "_until")

    def __init__(self, recovered: Iterable[Trade[Any]]) -> None:
        self._left = Counter(map(trade_key, recovered))
        self._until = (
            max((second for second, *_ in self._left), default=0) + _ECHO_WINDOW
        )

    def __bool__(self) -> bool:
        return bool(self._left)

    def matches(self, push: Trade[Any]) -> bool:
        """Say whether this push was delivered already, as a recovered trade."""
        if push.timestamp > self._until:
            self._left.clear()
        known = trade_key(push)
        echoed = self._left[known] > 0
        self._left -= Counter([known])  # Drops what falls to zero.
        return echoed


class _Evidence(Generic[N]):
    """What we heard and what the server lists, second by second.

    ``first`` and ``last`` are the seconds of the ends of the tail; we may have missed
    the beginning of the one and the end of the other. The same goes for the answer's
    ``begins`` and ``ends``, unless it is the ``whole`` tape: it says so by listing less
    than was asked, and is believed unless we heard older trades.
    """

    def __init__(
        self,
        tail: Sequence[Trade[N]],
        window: Sequence[Trade[N]],
        live: Sequence[Trade[N]],
        asked: int,
    ) -> None:
        listed = _oldest_first(window)
        heard = [*tail[-asked:], *live]
        self.in_order = _in_order(listed) and _in_order(heard)
        self.live = live
        self.listed = sorted(listed, key=_second)
        self.ours, self.theirs = _by_second([*tail, *live]), _by_second(listed)
        self.first, self.last = min(map(_second, tail)), max(map(_second, tail))
        self.whole = len(listed) < asked and self.begins <= self.first
        # Of copies alike, the delivered ones are the oldest and the live ones the
        # newest: with those gone, what is left stands in the order of the tape.
        undelivered = _without(self.listed, tail)
        self.rest = _without(undelivered[::-1], live)[::-1]

    @property
    def begins(self) -> int:
        return self.listed[0].timestamp

    @property
    def ends(self) -> int:
        return self.listed[-1].timestamp

    @property
    def newest(self) -> int:
        return max(map(_second, self.live), default=_NEVER)

    @property
    def reaches_back(self) -> bool:
        """Whether the left anchor stands."""
        return self.whole or self.begins < self.last

    @property
    def may_predate(self) -> bool:
        """Whether some of the rest may be older than the subscription.

        If all of the tail is of one second, that second began before we listened.
        """
        return self.first == self.last in map(_second, self.rest)

    def consistent(self, cut: int) -> bool:
        """Whether nothing that can be seen speaks against C1 to C4."""
        known = self.ours.keys() | self.theirs.keys()
        return self.in_order and not any(self._differ(at, cut) for at in known)

    def _differ(self, at: int, cut: int) -> bool:
        # A second that they know whole holds all of ours, and the other way round. One
        # that both know in part was cut at the same side, so one part holds the other;
        # only in the hole may each know what the other does not.
        ours, theirs = self.ours.get(at, _NOTHING), self.theirs.get(at, _NOTHING)
        missing, extra = ours - theirs, theirs - ours
        they_know = self.begins + (not self.whole) <= at < self.ends
        we_know = self.first < at < self.last or cut < at < self.newest
        if (missing and they_know) or (extra and we_know):
            return True
        return bool(missing and extra) and not self.last <= at <= cut

    def missing_anchor(self, cut: int) -> Literal["push", "answer"] | None:
        """Say what is missing for the right anchor, if the sides agree.

        If both know trades after the cut and agree, they know a common one: in the
        oldest second of these, one side holds all that the other does.
        """
        if self.ends <= cut:
            return "answer"
        if self.newest <= cut or not self._same_order():
            return "push"
        return None

    def _same_order(self) -> bool:
        # In the newest second the answer may be ahead of the pushes: by what comes
        # after them. What it lists *before* one of them should have been pushed before
        # it, unless the answer has an order of its own. The next second will tell.
        ours = [trade_key(one) for one in self.live if one.timestamp == self.newest]
        theirs = [trade_key(one) for one in self.listed if one.timestamp == self.newest]
        return all(a == b for a, b in zip(ours, theirs, strict=False))

    def recovered(self, cut: int, *, agreed: bool) -> tuple[Trade[N], ...]:
        """Give what of the rest is of the hole and cannot be pushed any more.

        After a push none is older (C1); before the first one, none is expected from
        before the cut. If the sides disagree, only seconds of silence are taken.
        """
        since, until = self.last, self.newest if self.live else cut
        if not agreed:
            since, until = since + 1, min(map(_second, self.live), default=cut)
        since = max(since, self.first + 1)
        return tuple(one for one in self.rest if since <= one.timestamp < until)


def _verdict_at_cut(sides: _Evidence[N], cut: int) -> MergedTrades[N]:
    agreed = sides.consistent(cut)
    recovered = sides.recovered(cut, agreed=agreed)
    if not agreed:
        return MergedTrades("unverified", recovered)
    possible = sides.reaches_back and not sides.may_predate
    lacking = sides.missing_anchor(cut)
    if lacking:  # A later answer reaches back even less.
        return MergedTrades("unverified", recovered, lacking if possible else None)
    if not sides.reaches_back:
        return MergedTrades("partial", recovered)
    return MergedTrades("filled" if possible else "unverified", recovered)


def _second(trade: Trade[Any]) -> int:
    return trade.timestamp


def _oldest_first(window: Sequence[Trade[N]]) -> list[Trade[N]]:
    newest_first = window[0].timestamp > window[-1].timestamp
    return list(reversed(window)) if newest_first else list(window)


def _in_order(trades: Sequence[Trade[Any]]) -> bool:
    return all(a.timestamp <= b.timestamp for a, b in pairwise(trades))


def _by_second(trades: Iterable[Trade[Any]]) -> dict[int, Counter[TradeKey]]:
    seconds: dict[int, Counter[TradeKey]] = {}
    for trade in trades:
        seconds.setdefault(trade.timestamp, Counter())[trade_key(trade)] += 1
    return seconds


def _without(trades: Iterable[Trade[N]], told: Iterable[Trade[Any]]) -> list[Trade[N]]:
    # Leaves out the first copies.
    left, kept = Counter(map(trade_key, told)), list[Trade[N]]()
    for trade in trades:
        left[trade_key(trade)] -= 1
        if left[trade_key(trade)] < 0:
            kept.append(trade)
    return kept
