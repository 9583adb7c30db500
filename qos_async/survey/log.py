"""Log of a survey: its events by step, and what can be read from replies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from qos_async._server.parsing import as_list, as_row
from qos_async.survey.exchanges import Event, Row

__all__ = [
    "Found",
    "Log",
    "Value",
    "bars_of",
    "is_error",
    "message",
    "not_seen",
    "rows_of",
]

Value: TypeAlias = bool | int | str | None
Found: TypeAlias = tuple[Value, str]
"""A value, None if it could not be seen, and what was seen."""


class Log:
    """The events of a survey, by step, and the epoch seconds of their time 0."""

    def __init__(self, events: Sequence[Event], began_at: float) -> None:
        self.events = events
        self.began_at = began_at

    def of(self, step: str, *kinds: str) -> list[Event]:
        """Return the events of a step, of some kinds."""
        return [one for one in self.events if one.step == step and one.kind in kinds]

    def first(self, step: str, *kinds: str) -> Event | None:
        """Return the first event of a step, of some kinds."""
        return next(iter(self.of(step, *kinds)), None)

    def reply(self, step: str) -> Row:
        """Return the first object received in a step that is no push; else {}."""
        rows = (one.row for one in self.of(step, "received"))
        none: Row = {}
        return next((row for row in rows if row and "tp" not in row), none)

    def pushes(self, letter: str) -> list[tuple[float, Row]]:
        """Return the pushes of a channel, with their times."""
        rows = [(one.at, one.row) for one in self.events if one.kind == "received"]
        return [(at, row) for at, row in rows if row.get("tp") == letter]


def rows_of(reply: Row) -> list[Row]:
    """Return the rows of a reply."""
    return [row for one in as_list(reply.get("data")) if (row := as_row(one))]


def is_error(row: Row) -> bool:
    """Return whether a reply is a refusal."""
    return "msg" in row and row["msg"] != "OK"


def message(row: Row) -> str:
    """Return the quoted ``msg`` of a reply."""
    return f'"{row.get("msg", "")}"'


def not_seen(log: Log, step: str, *, beyond_plan: bool = False) -> Found:
    """Return that a step has no answer, and why."""
    if beyond_plan and not any(one.step == step for one in log.events):
        return None, "not tried: it is beyond the plan (--beyond-plan)"
    refused = log.first(step, "refused", "closed")
    why = f": {refused.text or refused.code}" if refused is not None else ""
    return None, f"no answer{why}"


def bars_of(reply: Row) -> list[Row]:
    """Return the klines of a reply."""
    return [bar for row in rows_of(reply) for bar in row.get("k", []) if "ts" in bar]
