"""Textual app of ``qos watch``: panels, keys, and a redraw five times a second.

It needs textual, from the extra ``cli``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ClassVar, TypeVar

from rich.segment import Segment
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.events import Click, Resize
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Footer
from textual.worker import Worker, WorkerState

from qos_async.cli.options import CommandError
from qos_async.cli.watch.alerts import Alert, parse_price
from qos_async.cli.watch.board import draw_board, first_row
from qos_async.cli.watch.chart import chart_title, draw_chart
from qos_async.cli.watch.help import HelpScreen
from qos_async.cli.watch.model import Model
from qos_async.cli.watch.panels import (
    Layout,
    arrange,
    draw_events,
    draw_ladder,
    draw_tape,
    draw_top,
)
from qos_async.cli.watch.prompt import PromptScreen
from qos_async.cli.watch.reader import MarketReader
from qos_async.cli.watch.remember import save
from qos_async.cli.watch.rows import SORTS
from qos_async.cli.watch.text import Line, line_width, style_of
from qos_async.cli.watch.themes import CSS, THEMES
from qos_async.symbols import split

__all__ = ["Panel", "WatchApp"]

T = TypeVar("T")

_FRAME_TIME = 0.2
_PANELS = ("board", "chart", "ladder", "tape")
_CANDLE_WIDTHS = (2, 3, 1)
_SIDE_PANELS = ("ladder", "tape", "chart")


class Panel(Widget):
    """A widget that shows lines, and redraws only those that have changed."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self._lines: list[Line] = []
        self._title = ""
        self._style = partial(style_of, red_up=False, light=False)

    def set_colours(self, *, red_up: bool, light: bool) -> None:
        """Choose whether rises are red or green, and the background light or dark."""
        self._style = partial(style_of, red_up=red_up, light=light)
        self.refresh()

    def set_title(self, title: str) -> None:
        """Set the title of the frame."""
        if title != self._title:  # Assigning an equal one would redraw the frame.
            self._title = title
            self.border_title = Text(title)

    def set_lines(self, lines: list[Line]) -> None:
        """Replace the lines."""
        before, self._lines = self._lines, lines
        if len(before) != len(lines):
            self.refresh()
            return
        changed = [y for y, line in enumerate(lines) if line != before[y]]
        if changed:
            width = self.size.width
            self.refresh(*(Region(0, y, width, 1) for y in changed))

    def render_line(self, y: int) -> Strip:
        """Return one line as textual draws it; called by textual."""
        width = self.size.width
        if y >= len(self._lines):
            return Strip.blank(width, self._style(""))
        line = self._lines[y]
        segments = [Segment(text, self._style(roles)) for text, roles in line]
        strip = Strip(segments, line_width(line))
        return strip.adjust_cell_length(width, self._style(""))


class WatchApp(App[None]):
    """Draws a model five times a second, and after each key.

    Args:
        model: What to draw.
        reader: Fills the model as long as the app runs.
        clock: Returns seconds since the epoch, as ``time.time``.
        red_up: Whether rises are red.
        light: Whether to begin with the light theme.

    Attributes:
        failure: The error that ended the reader, and so the app.
    """

    CSS = CSS
    TITLE = "qos watch"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("up,k", "select(-1)", "Symbol", key_display="↑↓"),
        Binding("down,j", "select(1)", show=False),
        Binding("home", "select(-1000)", show=False),
        Binding("end", "select(1000)", show=False),
        Binding("left,h", "interval(-1)", "Interval", key_display="←→"),
        Binding("right,l", "interval(1)", show=False),
        Binding("question_mark", "help", "Help", key_display="?"),
        Binding("p,space", "pause", "Pause", key_display="p"),
        Binding("v", "view", "View"),
        Binding("a", "all_symbols", "All trades"),
        Binding("z", "zoom", "Zoom"),
        Binding("c", "colours", show=False),
        Binding("r", "dial", show=False),
        Binding("plus,insert", "add", "Add", key_display="+"),
        Binding("minus,delete", "remove", show=False),
        Binding("s", "sort", "Sort"),
        Binding("b", "alert", show=False),
        Binding("t", "theme", show=False),
        Binding("w", "save", show=False),
        Binding("ctrl+c,ctrl+q", "quit", show=False, priority=True),
    ]

    def __init__(
        self,
        model: Model,
        reader: MarketReader,
        clock: Callable[[], float],
        *,
        red_up: bool = False,
        light: bool = False,
    ) -> None:
        super().__init__()
        for theme in THEMES.values():
            self.register_theme(theme)
        self._model, self._reader, self._clock = model, reader, clock
        self._panels = {name: Panel(name) for name in ("top", *_PANELS, "events")}
        self._all_symbols = False
        self._candle_width, self._side_panel = _CANDLE_WIDTHS[0], _SIDE_PANELS[0]
        self._red_up, self._light = red_up, light
        self._alerts = model.alerts.count
        self._layout: Layout | None = None
        self.failure: BaseException | None = None

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Return the colours that textual's own themes do not have."""
        return THEMES["dark"].variables

    def compose(self) -> ComposeResult:
        """Yield the panels; ``draw`` places them."""
        yield from self._panels.values()
        yield Footer()

    def on_mount(self) -> None:
        """Start to draw and to read."""
        self._set_colours()
        self.set_interval(_FRAME_TIME, self.draw)
        self._worker = self.run_worker(self._reader.run(), exit_on_error=False)

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """Exit when the reader has failed: nothing would change any more."""
        # Those of the keys end in errors that the reader has, too.
        if self._worker.state is WorkerState.ERROR:
            self.failure = self._worker.error
            self.exit()

    def on_resize(self, event: Resize) -> None:
        """Arrange the panels anew."""
        self.draw()

    def on_click(self, event: Click) -> None:
        """Select the symbol in the row that was clicked."""
        board = self._panels["board"]
        offset = event.get_content_offset(board) if event.widget is board else None
        if offset is not None and offset.y > 0:  # Row 0 has the titles.
            first = first_row(self._model, board.size.height)
            self._model.select(first + offset.y - 1)
            self.draw()

    # Keys

    def action_select(self, step: int) -> None:
        """Select another symbol."""
        self._model.select(self._model.rows.selected + step)
        self.draw()

    def action_interval(self, step: int) -> None:
        """Select another interval."""
        before = self._model.interval
        self._model.change_interval(step)
        if self._model.interval is not before:
            self._reader.on_interval_changed()
        self.draw()

    def action_pause(self) -> None:
        """Freeze the trades, or let them run again."""
        self._model.tape.toggle_pause()
        self.draw()

    def action_all_symbols(self) -> None:
        """Show the trades of all symbols, or of the selected one."""
        self._all_symbols = not self._all_symbols
        self.draw()

    def action_zoom(self) -> None:
        """Draw wider or slimmer candles."""
        self._candle_width = _next_of(_CANDLE_WIDTHS, self._candle_width)
        self.draw()

    def action_view(self) -> None:
        """Show another panel beside the chart, where not all of them fit."""
        self._side_panel = _next_of(_SIDE_PANELS, self._side_panel)
        self.draw()

    def action_colours(self) -> None:
        """Swap red and green."""
        self._red_up = not self._red_up
        self._set_colours()

    def action_dial(self) -> None:
        """Connect now, while the link is lost."""
        if self._model.stale:
            self.run_worker(self._reader.dial_now(), exit_on_error=False)

    def action_help(self) -> None:
        """Show the keys."""
        model = self._model
        zone = model.display.zone_name(model.symbol, self._clock())
        screen = HelpScreen(model.event_log.lines, zone, light=self._light)
        self.call_later(self.push_screen, screen)

    def action_add(self) -> None:
        """Ask for symbols, and watch them, too."""
        prompt = PromptScreen("add symbols, such as US:AAPL,TSLA HK:700", _symbols)
        self.call_later(self.push_screen, prompt, self._add)

    def _add(self, symbols: tuple[str, ...] | None) -> None:
        if symbols:
            self.run_worker(self._reader.add(*symbols), exit_on_error=False)

    def action_remove(self) -> None:
        """Watch the selected symbol no longer."""
        model = self._model
        if len(model.symbols) == 1:
            model.event_log.add("the last symbol cannot be removed", self._clock())
        else:
            self.run_worker(self._reader.remove(model.symbol), exit_on_error=False)
        self.draw()

    def action_sort(self) -> None:
        """Sort the rows by something else."""
        rows = self._model.rows
        rows.sort = _next_of(SORTS, rows.sort)
        self.draw()

    def action_alert(self) -> None:
        """Ask for a price of the selected symbol to wait for."""
        symbol, alerts = self._model.symbol, self._model.alerts
        now = ", ".join(
            f"{one.price:f}" for one in alerts.waiting if one.symbol == symbol
        )
        prompt = PromptScreen(
            f"alert {symbol} at price (now: {now or 'none'}; empty: none)",
            lambda text: [Alert(symbol, parse_price(text))] if text.strip() else [],
        )
        self.call_later(self.push_screen, prompt, partial(self._set_alerts, symbol))

    def _set_alerts(self, symbol: str, added: list[Alert] | None) -> None:
        alerts = self._model.alerts
        if added == []:
            alerts.remove(symbol)
        for alert in added or ():
            alerts.add(alert)
        self.draw()

    def action_theme(self) -> None:
        """Change between dark and light."""
        self._light = not self._light
        self._set_colours()

    def action_save(self) -> None:
        """Write what is watched into the configuration."""
        try:
            text = f"written to {save(self._model, light=self._light)}"
        except CommandError as error:
            text = str(error)
        self._model.event_log.add(text, self._clock())
        self.draw()

    # Drawing

    def draw(self) -> None:
        """Draw the model as it is now."""
        now = self._clock()
        self._reader.update_stats(now)
        if self._alerts != self._model.alerts.count:
            self._alerts = self._model.alerts.count
            self.bell()
        width, height = self.size
        model, panels = self._model, self._panels
        layout = arrange(width, height, len(model.symbols), self._side_panel)
        if layout != self._layout:
            self._layout = layout
            for name in _PANELS:
                self._place_panel(panels[name], layout, name)
        panels["top"].set_lines([draw_top(model, width, now)])
        panels["events"].set_lines([draw_events(model, width)])
        for name in layout.boxes:
            panels[name].set_title(self._title(name, layout.boxes[name].width, now))
            panels[name].set_lines(self._lines(name, *layout.inner_size(name), now))

    def _place_panel(self, panel: Panel, layout: Layout, name: str) -> None:
        box = layout.boxes.get(name)
        panel.display = box is not None
        if box is None:
            return
        panel.set_class(layout.framed, "framed")
        panel.styles.offset = (box.x, box.y)
        panel.styles.width, panel.styles.height = box.width, box.height

    def _title(self, name: str, width: int, now: float) -> str:
        model = self._model
        if name == "chart":
            return chart_title(model, width, now)
        if name == "tape":
            symbols = "all symbols" if self._all_symbols else model.symbol
            tape = model.tape
            paused = f"  paused +{tape.unseen}" if tape.paused else ""
            return f"trades  {symbols}{paused}"
        if name == "ladder":
            return f"order book  {model.symbol}"
        sort = "" if model.rows.sort == SORTS[0] else f"by {model.rows.sort}  "
        count = len(model.alerts.waiting)
        alerts = f"alerts {count}  " if count else ""
        return f"quotes  {sort}{alerts}{model.caption}".rstrip()

    def _lines(self, name: str, width: int, height: int, now: float) -> list[Line]:
        model = self._model
        if name == "board":
            return draw_board(model, width, height, now)
        if name == "chart":
            return draw_chart(model, width, height, candle_width=self._candle_width)
        if name == "ladder":
            return draw_ladder(model, width, height)
        return draw_tape(model, width, height, all_symbols=self._all_symbols)

    def _set_colours(self) -> None:
        self.theme = THEMES["light" if self._light else "dark"].name
        for panel in self._panels.values():
            panel.set_colours(red_up=self._red_up, light=self._light)


def _symbols(text: str) -> tuple[str, ...]:
    """Return the symbols of a line; an empty line has no symbols."""
    return split(*text.split()) if text.strip() else ()


def _next_of(choices: tuple[T, ...], chosen: T) -> T:
    return choices[(choices.index(chosen) + 1) % len(choices)]
