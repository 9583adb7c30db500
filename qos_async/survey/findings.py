"""Findings: what the exchanges of a survey show, without I/O."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from itertools import pairwise

from msgspec import Struct

from qos_async.sim.variants import Variants
from qos_async.survey.exchanges import Event
from qos_async.survey.log import Log, Value, bars_of, is_error, message, rows_of
from qos_async.survey.questions import LIVE
from qos_async.survey.switches import EFFECTS, SWITCHES

__all__ = ["Finding", "find_all"]

_MINUTE = 60
_CLOCK = 2.0
"""Seconds by which clocks may differ."""
_REQUESTS = ("snapshot", "depth", "trade", "kline", "history", "instrument")
_SUBSCRIPTIONS = tuple(f"subscribe {letter}" for letter in "SDTK")


class Finding(Struct, frozen=True):
    """What the service does in one respect.

    Attributes:
        name: A switch of ``sim.Variants``, or another subject.
        found: The switch's value, or a short text; None if it could not be seen.
        assumed: What this client and the simulator's default assume; None if nothing.
        detail: What was seen.
        effect: What it means for this client, where it is not as assumed.
    """

    name: str
    found: Value
    assumed: Value
    detail: str
    effect: str = ""

    @property
    def as_assumed(self) -> bool | None:
        """Whether it is; None where nothing was seen or nothing is assumed."""
        if self.found is None or self.assumed is None:
            return None
        return self.found == self.assumed


def find_all(events: Sequence[Event], began_at: float) -> list[Finding]:
    """Return a finding for each switch of ``Variants``, and for the other subjects.

    Args:
        events: Everything that was sent and received.
        began_at: The epoch seconds, by this machine's clock, of their time 0.
    """
    log, default = Log(events, began_at), Variants()
    findings: list[Finding] = []
    for name in Variants.__struct_fields__:
        found, detail = SWITCHES[name](log)
        assumed = getattr(default, name)
        effect = "" if found in (None, assumed) else EFFECTS[name]
        findings.append(Finding(name, found, assumed, detail, effect))
    others = [judge(log) for judge in _OTHERS]
    return findings + [one for one in others if one is not None]


def _bar_time(log: Log) -> Finding | None:
    bars, reply = bars_of(log.reply("kline")), log.reply("heartbeat")
    if not bars or not isinstance(reply.get("time"), int):
        return None
    beat = log.first("heartbeat", "received")
    got = log.first("kline", "received")
    now = reply["time"] + (got.at - beat.at if got and beat else 0)
    age = now - max(bar["ts"] for bar in bars)
    found = "open" if age >= 0 else "close"
    detail = f"the newest 1m bar is {age:.0f} s old by its ts"
    effect = "" if found == "open" else "bars would be dated one interval too late"
    return Finding("time of a 1m bar", found, "open", detail, effect)


def _clock(log: Log) -> Finding | None:
    received = log.first("heartbeat", "received")
    time = log.reply("heartbeat").get("time")
    if received is None or not isinstance(time, int):
        return None
    ahead = time - (log.began_at + received.at)
    # The service's time has whole seconds.
    near = "agrees" if -_CLOCK - 1 < ahead < _CLOCK else "differs"
    effect = "" if near == "agrees" else "synchronise this machine's clock (NTP)"
    return Finding(
        "clock", near, "agrees", f"it is {ahead:+.1f} s ahead of ours", effect
    )


def _bar_gaps(log: Log) -> Finding | None:
    times = sorted({bar["ts"] for bar in bars_of(log.reply("kline"))})
    if not times:
        return None
    holes = sum(b - a > _MINUTE for a, b in pairwise(times))
    order = [bar["ts"] for bar in bars_of(log.reply("kline"))]
    ascending = "ascending" if order == times else "not ascending"
    detail = f"{len(times)} bars, {ascending}, {holes} times more than a minute apart"
    effect = "" if ascending == "ascending" else "none: the client sorts them"
    return Finding("order of klines", ascending, "ascending", detail, effect)


def _row_order(log: Log) -> Finding | None:
    symbols = [str(row.get("c")) for row in rows_of(log.reply("snapshot"))]
    if not symbols:
        return None
    asked = [*LIVE, "HK:700", "US:AAPL"]
    as_asked = [one for one in asked if one in symbols] == symbols
    detail = (
        "rows come in the order asked" if as_asked else "rows come in another order"
    )
    zeros = "HK:00700" in symbols
    if zeros:
        detail += "; HK codes keep their zeros"
    return Finding("order of rows", "as asked" if as_asked else "other", None, detail)


def _depth_pushes(log: Log) -> Finding | None:
    levels = [
        len(row.get(side) or ())
        for _, row in log.pushes("D")
        for side in "ba"
        if row.get("c") in LIVE
    ]
    if not levels:
        return None
    whole = min(levels) * 2 > max(levels)
    detail = (
        f"{len(levels) // 2} pushes with {min(levels)} to {max(levels)} levels a side"
    )
    effect = "" if whole else "each push would replace the book by a part of it"
    return Finding(
        "depth pushes",
        "whole books" if whole else "changes",
        "whole books",
        detail,
        effect,
    )


def _push_rates(log: Log) -> Finding | None:
    watched = [one.at for one in log.events if one.step == "watch"]
    if not watched or watched[-1] <= watched[0]:
        return None
    seconds = watched[-1] - watched[0]
    counts = {
        name: sum(watched[0] <= at <= watched[-1] for at, _ in log.pushes(letter))
        for letter, name in zip(
            "STDK", ("snapshot", "trade", "depth", "kline"), strict=True
        )
    }
    rates = ", ".join(f"{name} {count / seconds:.1f}" for name, count in counts.items())
    return Finding(
        "pushes a second", rates, None, f"of four symbols, for {seconds:.0f} s"
    )


def _reqid_in_replies(log: Log) -> Finding | None:
    replies = [
        row for step in _REQUESTS if (row := log.reply(step)) and not is_error(row)
    ]
    if not replies:
        return None
    echoed = all("reqid" in row for row in replies)
    effect = "" if echoed else "replies are matched by type and order"
    detail = f"reqid is {'in each reply' if echoed else 'missing in replies'}"
    return Finding("reqid in replies", echoed, True, detail, effect)


def _pings(log: Log) -> Finding | None:
    opened = log.first("connect", "opened")
    if opened is None:
        return None
    times = [one.at for one in log.events if one.kind == "ping"]
    if not times:
        return Finding("pings of the server", "none", None, "no websocket ping came")
    apart = _median_step(times)
    detail = f"{len(times)}, {apart:.0f} s apart" if apart else f"{len(times)}"
    return Finding("pings of the server", "yes", None, detail)


def _median_step(times: Sequence[float]) -> float:
    steps = [b - a for a, b in pairwise(times)]
    return statistics.median(steps) if steps else 0.0


def _endpoints(log: Log) -> Finding | None:
    steps = sorted({one.step for one in log.events if one.step.startswith("http ")})
    wanted = [one for one in steps if "unknown" not in one and "wrong" not in one]
    if not wanted:
        return None
    failed = {
        step: log.reply(step) for step in wanted if log.reply(step).get("msg") != "OK"
    }
    detail = "; ".join(f"{step[5:]}: {message(row)}" for step, row in failed.items())
    return Finding(
        "HTTP endpoints",
        f"{len(wanted) - len(failed)} of {len(wanted)}",
        f"{len(wanted)} of {len(wanted)}",
        detail or "all answer",
        "the fetch_* of the others raise that error" if failed else "",
    )


def _requests(log: Log) -> Finding | None:
    steps = (*_REQUESTS, *_SUBSCRIPTIONS)
    if log.first("connect", "opened") is None:
        return None
    refused = {
        step: row
        for step in steps
        if (row := log.reply(step)).get("msg", "OK") != "OK" or not row
    }
    detail = "; ".join(f"{step}: {message(row)}" for step, row in refused.items())
    total = len(steps)
    return Finding(
        "websocket requests",
        f"{total - len(refused)} of {total}",
        f"{total} of {total}",
        detail or "all answer",
        "those raise that error" if refused else "",
    )


_OTHERS: Sequence[Callable[[Log], Finding | None]] = (
    _endpoints,
    _requests,
    _row_order,
    _reqid_in_replies,
    _clock,
    _bar_time,
    _bar_gaps,
    _depth_pushes,
    _push_rates,
    _pings,
)
