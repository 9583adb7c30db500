"""What a run came to, in words."""

from __future__ import annotations

from collections.abc import Iterator

from qos_async import Channel
from qos_async.cli.tally import Outage, Tally

__all__ = ["rows"]


def rows(tally: Tally, elapsed: float) -> Iterator[tuple[str, str]]:
    """Give the lines of the summary: a word, and what there is to say about it."""
    total = tally.ticks.total()
    yield "ran", f"{elapsed:.1f} s, {total} ticks of {len(tally.symbols)} symbols"
    for channel in Channel:
        yield channel, f"{tally.ticks[channel]} ticks"
    yield "outages", str(len(tally.outages) or "none")
    for outage in tally.outages:
        yield "", outage.reason
        yield "", _healing(outage)
    told = ", ".join(f"{n} {status}" for status, n in sorted(tally.gaps.items()))
    yield "gaps", f"{told or 'none'}; {tally.recovered} ticks recovered"
    if tally.dropped:
        yield "dropped", f"{tally.dropped} ticks: this program was too slow for them"
    yield "sent", f"{tally.frames_sent} frames, {_breaches(tally)}"
    for breach in tally.breaches:
        yield "", breach


def _healing(outage: Outage) -> str:
    if outage.back_at is None:
        return "the link was not back before the end"
    back = f"link back after {outage.back_at - outage.lost_at:.1f} s"
    if outage.healed_at is None:
        return f"{back}, {len(outage.missing)} topics not live before the end"
    return f"{back}, all live again after {outage.healed_at - outage.lost_at:.1f} s"


def _breaches(tally: Tally) -> str:
    number = len(tally.breaches)
    return f"{number} {'breach' if number == 1 else 'breaches'} of the protocol"
