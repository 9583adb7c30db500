"""A part of the screen that shows lines, and sends only those that have changed."""

from __future__ import annotations

from functools import partial

from rich.segment import Segment
from rich.text import Text
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from qos_async.cli.watch.lines import Line, line_width
from qos_async.cli.watch.palette import style_of

__all__ = ["Panel"]


class Panel(Widget):
    """Shows what it was last given; beyond that it is empty."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self._lines: list[Line] = []
        self._title = ""
        self._style = partial(style_of, red_up=False)

    def colour(self, *, red_up: bool) -> None:
        """Choose which way is red."""
        self._style = partial(style_of, red_up=red_up)
        self.refresh()

    def entitle(self, title: str) -> None:
        """Write this into the frame; it costs a drawing, so only if it is new."""
        if title != self._title:
            self._title = title
            self.border_title = Text(title)

    def show(self, lines: list[Line]) -> None:
        """Show these lines from now on."""
        before, self._lines = self._lines, lines
        if len(before) != len(lines):
            self.refresh()
            return
        changed = [y for y, line in enumerate(lines) if line != before[y]]
        if changed:
            width = self.size.width
            self.refresh(*(Region(0, y, width, 1) for y in changed))

    def render_line(self, y: int) -> Strip:
        """Give one line, in colour."""
        width = self.size.width
        if y >= len(self._lines):
            return Strip.blank(width, self._style(""))
        line = self._lines[y]
        segments = [Segment(text, self._style(role)) for text, role in line]
        strip = Strip(segments, line_width(line))
        return strip.adjust_cell_length(width, self._style(""))
