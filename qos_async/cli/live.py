"""The live table. It needs rich, from the extra ``cli``."""

from __future__ import annotations

import time
from collections import deque
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from qos_async import Channel, Gap, LinkState, StateChange
from qos_async.cli import summary
from qos_async.cli.columns import fitting
from qos_async.cli.formatting import clock, gaps_line, move_line
from qos_async.cli.quotes import Quote, Quotes
from qos_async.cli.script import SYMBOLS, Script
from qos_async.cli.tally import AnyTick, Tally

__all__ = ["LiveView"]

_NEWS = 8
_FRAME = 7
"""Lines beside quotes and news: head, table's head and edges, counts, one spare."""


class LiveView:
    """Keeps a board on the terminal, drawn anew at each ``refresh``."""

    def __init__(self, script: Script, tally: Tally) -> None:
        self._script = script
        self._tally = tally
        self._quotes = Quotes(SYMBOLS)
        self._news: deque[str] = deque(maxlen=_NEWS)
        self._gaps: list[Gap] = []
        self._started_at = time.monotonic()
        self._console = Console(highlight=False)
        self._live = Live(console=self._console, auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.refresh()
        self._live.stop()

    def tick(self, tick: AnyTick) -> None:
        """Put it on the board."""
        self._quotes.put(tick)

    def gap(self, gap: Gap) -> None:
        """Collect: the gaps of one channel come together and become one line."""
        if self._gaps and self._gaps[0].topic.channel is not gap.topic.channel:
            self._tell_gaps()
        self._gaps.append(gap)

    def drop(self, count: int) -> None:
        """Add a line of news."""
        self.note(f"{count} ticks dropped: this program was too slow for them")

    def move(self, change: StateChange) -> None:
        """Add a line of news."""
        self.note(f"link {move_line(change)}")

    def note(self, text: str) -> None:
        """Add a line of news."""
        self._news.append(f"{clock(datetime.now(UTC))} {text}")

    def refresh(self) -> None:
        """Draw."""
        self._tell_gaps()
        self._live.update(self._board(), refresh=True)

    def sum_up(self, elapsed: float) -> None:
        """Draw the summary as a table."""
        table = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for name, text in summary.rows(self._tally, elapsed):
            table.add_row(name, Text(text))
        self._console.print(table)

    def _tell_gaps(self) -> None:
        if self._gaps:
            gaps, self._gaps = self._gaps, []
            self.note(gaps_line(gaps))

    def _board(self) -> Group:
        width, height = self._console.size
        quotes = self._quotes.rows
        room = max(height - _FRAME, 1)
        shown = quotes[:room]
        news = list(self._news)[-(room - len(shown)) :] if room > len(shown) else []
        return Group(
            self._head(len(quotes) - len(shown)),
            self._table(width, shown),
            self._counts(),
            *(_line(text, "dim") for text in news),
        )

    def _table(self, width: int, quotes: list[Quote]) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        columns = fitting(width)
        for column in columns:
            table.add_column(
                column.title,
                justify=column.justify,
                min_width=column.width,
                no_wrap=True,
            )
        stale = "" if self._tally.change.state is LinkState.OPEN else "dim"
        for quote in quotes:
            table.add_row(*(column.cell(quote) for column in columns), style=stale)
        return table

    def _head(self, hidden: int) -> Text:
        tally = self._tally
        well = tally.change.state is LinkState.OPEN
        whole = well and len(tally.live) == len(tally.topics)
        style = "bold green" if whole else "bold yellow" if well else "bold red"
        elapsed = min(time.monotonic() - self._started_at, self._script.seconds)
        text = _line("", "")
        text.append(f"link {tally.progress}", style)
        text.append(f"  {elapsed:.0f} of {self._script.seconds:g} s  ", "dim")
        text.append("qos demo")
        if hidden:
            text.append(f", {hidden} more symbols", "dim")
        return text

    def _counts(self) -> Text:
        tally = self._tally
        parts = [f"{channel} {tally.ticks[channel]}" for channel in Channel]
        gaps = f"gaps {tally.gaps.total()}, recovered {tally.recovered}"
        return _line("  ".join([*parts, gaps]), "")


def _line(text: str, style: str) -> Text:
    return Text(text, style, no_wrap=True, overflow="ellipsis")
