"""The line at the top and the line at the bottom: the link, and what happened."""

from __future__ import annotations

from datetime import UTC, datetime

from qos_async import LinkState
from qos_async.cli.formatting import clock, percent
from qos_async.cli.watch.lines import Line, between, fit, line_width
from qos_async.cli.watch.model import Model

__all__ = ["draw_news", "draw_top"]

_QUIET = 5.0
"""Seconds without a tick that are worth a word."""


def draw_top(model: Model, width: int, now: float) -> Line:
    """Draw the chosen symbol's price on the left, the link on the right."""
    quote = model.quote
    change = quote.change
    role = "" if not change else "up" if change > 0 else "down"
    arrow = "" if not change else "▲ " if change > 0 else "▼ "
    left: Line = [
        (" qos ", "brand"),
        (f"  {quote.symbol} ", "bold"),
        (f" {quote.price(quote.last)}", f"bold {role}"),
        (f"  {arrow}{percent(change)}", role),
    ]
    right = [*_link(model, now), (f"   {clock(datetime.fromtimestamp(now, UTC))} ", "")]
    utc: Line = [("UTC ", "dim")]
    for parts in ([*right, *utc], right, _link(model, now), _link(model, now)[:2]):
        if line_width(left) + line_width(parts) < width:
            return fit(between(left, parts, width), width, "top")
    return fit(left, width, "top")


def draw_news(model: Model, width: int, now: float) -> Line:
    """Draw the newest event on the left, the counters on the right."""
    stats = model.stats
    statuses = [f"{n} {status}" for status, n in stats.gaps_by_status.items() if n]
    gaps = ", ".join(statuses) or "none"
    counters: Line = [(f"gaps {gaps}", "warn" if statuses else "dim")]
    if stats.recovered:
        counters.append((f"  recovered {stats.recovered}", "mark"))
    if model.dropped:
        counters.append((f"  skipped {model.dropped}", "warn"))
    newest: Line = [(f" {model.news.newest}", "soft")]
    return fit(between(newest, [*counters, (" ", "")], width), width)


def _link(model: Model, now: float) -> Line:
    change, stats = model.link, model.stats
    if change.state is LinkState.OPEN:
        trip = stats.heartbeat_round_trip
        told = "-" if trip is None else f"{1000 * trip:.0f} ms"
        return [
            ("● ", "good"),
            ("live", "good"),
            (
                f"  {model.pace:.0f}/s  lag {_lag(stats.consumer_lag)}  rtt {told}",
                "dim",
            ),
        ]
    if change.state is LinkState.BACKOFF:
        left = max(model.link_at + change.retry_in - now, 0.0)
        return [("● ", "bad"), (f"lost, dialling again in {left:.0f} s", "bad")]
    return [("● ", "warn"), (f"{change.state}", "warn")]


def _lag(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
