"""One JSON object a tick on stdout; all else on stderr, an object a line too."""

from __future__ import annotations

import sys
from enum import Enum
from types import TracebackType
from typing import Any, Self, cast

import msgspec
from msgspec import Struct

from qos_async import Gap, StateChange
from qos_async.cli.run_stats import AnyTick, RunStats, channel_of
from qos_async.enums import word

__all__ = ["JsonView", "builtins"]


class JsonView:
    """Writes ticks under the names of our fields, plus ``channel``.

    Prices, sizes and volumes are strings, exact as sent; what a market leaves out is
    null. Enumerations are words (``"buy"``, ``"1m"``), ``timestamp`` epoch seconds,
    ``received_at`` epoch nanoseconds.
    """

    def __init__(self, tally: RunStats) -> None:
        self._tally = tally
        self._encode = msgspec.json.Encoder().encode

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def tick(self, tick: AnyTick) -> None:
        """Write an object."""
        row = {"channel": channel_of(tick).value, **builtins(tick)}
        print(self._encode(row).decode())

    def gap(self, gap: Gap) -> None:
        """Tell it on stderr."""
        told = builtins(gap)
        self._tell("gap", **told.pop("topic"), **told)

    def drop(self, count: int) -> None:
        """Tell it on stderr."""
        self._tell("dropped", count=count)

    def move(self, change: StateChange) -> None:
        """Tell it on stderr."""
        self._tell("link", **builtins(change))

    def note(self, text: str) -> None:
        """Tell it on stderr."""
        self._tell("note", text=text)

    def refresh(self) -> None:
        """Let readers of a pipe have what there is."""
        if sys.stdout is not None:
            sys.stdout.flush()

    def sum_up(self, elapsed: float) -> None:
        """Tell it on stderr."""
        tally = self._tally
        outages = [
            {
                "reason": outage.reason,
                "link_back_after": _since(outage.lost_at, outage.back_at),
                "all_live_after": _since(outage.lost_at, outage.recovered_at),
            }
            for outage in tally.outages
        ]
        self._tell(
            "summary",
            seconds=round(elapsed, 3),
            symbols=sorted(tally.symbols),
            ticks={channel.value: n for channel, n in tally.ticks.items()},
            outages=outages,
            gaps=dict(tally.gaps),
            recovered=tally.recovered,
            dropped=tally.dropped,
            frames_sent=tally.frames_sent,
            breaches=tally.violations,
        )

    def _tell(self, event: str, **fields: Any) -> None:
        line = self._encode({"event": event, **fields}).decode()
        print(line, file=sys.stderr, flush=True)


def builtins(value: Any) -> Any:
    """Take a record apart into what JSON knows, under the names of its fields.

    ``msgspec.to_builtins`` would give the letters of the wire.
    """
    if isinstance(value, Struct):
        return {
            name: builtins(getattr(value, name)) for name in value.__struct_fields__
        }
    if isinstance(value, tuple):
        return [builtins(one) for one in cast("tuple[object, ...]", value)]
    if isinstance(value, Enum):
        return word(value)
    return value


def _since(start: float, end: float | None) -> float | None:
    return None if end is None else round(end - start, 3)
