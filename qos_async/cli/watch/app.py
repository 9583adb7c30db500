"""The screen. It needs textual, from the extra ``cli``."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Protocol, TypeVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.events import Click, Resize
from textual.widgets import Footer
from textual.worker import Worker, WorkerState

from qos_async.cli.watch.board import draw_board, first_row
from qos_async.cli.watch.chart import chart_title, draw_chart
from qos_async.cli.watch.help import Help
from qos_async.cli.watch.ladder import draw_ladder
from qos_async.cli.watch.layout import Layout, arrange
from qos_async.cli.watch.lines import Line
from qos_async.cli.watch.model import Model
from qos_async.cli.watch.panel import Panel
from qos_async.cli.watch.status import draw_news, draw_top
from qos_async.cli.watch.tape import draw_tape

__all__ = ["Source", "WatchApp"]

T = TypeVar("T")

_FRAME_TIME = 0.2
_PANELS = ("board", "chart", "ladder", "tape")
_PITCHES = (2, 3, 1)
_BESIDE = ("ladder", "tape", "chart")


class Source(Protocol):
    """Where the model's content comes from."""

    async def run(self) -> None:
        """Fill the model, as long as it is shown."""
        ...

    def look(self, now: float) -> None:
        """Bring the counters up to date."""
        ...

    def rechoose(self) -> None:
        """Follow the model to another interval."""
        ...


class WatchApp(App[None]):
    """Draws a model five times a second, and at each key.

    Args:
        model: What to show.
        source: Who fills it.
        clock: Epoch seconds, as ``time.time``.
        red_up: Whether rises are red.

    Attributes:
        failure: The error that ended the source, and so the app.
    """

    CSS_PATH = "watch.tcss"
    TITLE = "qos watch"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "choose(-1)", "Symbol", key_display="↑↓"),
        Binding("down,j", "choose(1)", show=False),
        Binding("home", "choose(-1000)", show=False),
        Binding("end", "choose(1000)", show=False),
        Binding("left,h", "interval(-1)", "Interval", key_display="←→"),
        Binding("right,l", "interval(1)", show=False),
        Binding("question_mark", "help", "Help", key_display="?"),
        Binding("p,space", "pause", "Pause", key_display="p"),
        Binding("v", "view", "View"),
        Binding("a", "everything", "All trades"),
        Binding("z", "zoom", "Zoom"),
        Binding("c", "colours", show=False),
        Binding("q,ctrl+c,ctrl+q", "quit", "Quit", key_display="q", priority=True),
    ]

    def __init__(
        self,
        model: Model,
        source: Source,
        clock: Callable[[], float],
        *,
        red_up: bool = False,
    ) -> None:
        super().__init__()
        self._market, self._source, self._clock = model, source, clock
        self._panels = {name: Panel(name) for name in ("top", *_PANELS, "news")}
        self._everything = False
        self._pitch, self._beside = _PITCHES[0], _BESIDE[0]
        self._red_up = red_up
        self._layout: Layout | None = None
        self.failure: BaseException | None = None

    def compose(self) -> ComposeResult:
        """Make the panels; ``arrange`` tells them where to be."""
        yield from self._panels.values()
        yield Footer()

    def on_mount(self) -> None:
        """Begin to draw."""
        self._colour()
        self.set_interval(_FRAME_TIME, self.draw)
        self._reading = self.run_worker(self._source.run(), exit_on_error=False)

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """Leave when the source has failed: nothing will change any more."""
        if event.state is WorkerState.ERROR:
            self.failure = self._reading.error
            self.exit()

    def on_resize(self, event: Resize) -> None:
        """Arrange anew."""
        self.draw()

    def on_click(self, event: Click) -> None:
        """Choose the symbol that was clicked on."""
        board = self._panels["board"]
        if event.widget is board and event.get_content_offset(board) is not None:
            height = board.size.height
            offset = event.get_content_offset(board)
            row = -1 if offset is None else offset.y - 1
            if row >= 0:
                self._market.choose(first_row(self._market, height) + row)
                self.draw()

    # Keys

    def action_choose(self, step: int) -> None:
        """Choose another symbol."""
        self._market.choose(self._market.chosen + step)
        self.draw()

    def action_interval(self, step: int) -> None:
        """Choose another interval."""
        before = self._market.interval
        self._market.change_interval(step)
        if self._market.interval is not before:
            self._source.rechoose()
        self.draw()

    def action_pause(self) -> None:
        """Hold the tape, or let it run."""
        self._market.pause()
        self.draw()

    def action_everything(self) -> None:
        """Show the trades of all symbols, or of the chosen one."""
        self._everything = not self._everything
        self.draw()

    def action_zoom(self) -> None:
        """Draw candles wider or slimmer."""
        self._pitch = _after(_PITCHES, self._pitch)
        self.draw()

    def action_view(self) -> None:
        """Show another panel beside the chart, where not all fit."""
        self._beside = _after(_BESIDE, self._beside)
        self.draw()

    def action_colours(self) -> None:
        """Change red for green."""
        self._red_up = not self._red_up
        self._colour()

    def action_help(self) -> None:
        """Show the keys."""
        page = Help(self._market.news.lines)
        self.call_later(self.push_screen, page)

    # Drawing

    def draw(self) -> None:
        """Bring what has come to the screen."""
        now = self._clock()
        self._source.look(now)
        width, height = self.size
        model, panels = self._market, self._panels
        layout = arrange(width, height, len(model.symbols), self._beside)
        if layout != self._layout:
            self._layout = layout
            for name in _PANELS:
                self._place(panels[name], layout, name)
        panels["top"].show([draw_top(model, width, now)])
        panels["news"].show([draw_news(model, width, now)])
        for name in layout.boxes:
            panels[name].entitle(self._title(name, layout.boxes[name].width, now))
            panels[name].show(self._lines(name, *layout.inner(name), now))

    def _place(self, panel: Panel, layout: Layout, name: str) -> None:
        box = layout.boxes.get(name)
        panel.display = box is not None
        if box is None:
            return
        panel.set_class(layout.framed, "framed")
        panel.styles.offset = (box.x, box.y)
        panel.styles.width, panel.styles.height = box.width, box.height

    def _title(self, name: str, width: int, now: float) -> str:
        model = self._market
        if name == "chart":
            return chart_title(model, width, now)
        if name == "tape":
            whose = "all symbols" if self._everything else model.symbol
            held = f", held: {model.unseen} more" if model.paused else ""
            return f"trades  {whose}{held}"
        return "quotes" if name == "board" else f"order book  {model.symbol}"

    def _lines(self, name: str, width: int, height: int, now: float) -> list[Line]:
        model = self._market
        if name == "board":
            return draw_board(model, width, height, now)
        if name == "chart":
            return draw_chart(model, width, height, pitch=self._pitch)
        if name == "ladder":
            return draw_ladder(model, width, height)
        return draw_tape(model, width, height, everything=self._everything)

    def _colour(self) -> None:
        for panel in self._panels.values():
            panel.colour(red_up=self._red_up)


def _after(choices: tuple[T, ...], chosen: T) -> T:
    return choices[(choices.index(chosen) + 1) % len(choices)]
