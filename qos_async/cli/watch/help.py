"""Help screen of ``qos watch``: keys, terms, and the newest events."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from rich.style import Style
from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from qos_async._printable import printable
from qos_async.cli.settings import config_path
from qos_async.cli.watch.text import style_of

__all__ = ["HelpScreen"]

_KEYS = (
    ("up down", "select a symbol; also k j, mouse, Home End"),
    ("left right", "shorter, longer interval; also h l"),
    ("p  space", "pause the trades; again: resume"),
    ("a", "trades of all symbols, or of one"),
    ("v", "small window: another panel"),
    ("z", "wider or slimmer candles"),
    ("c", "swap red and green"),
    ("+  Insert", "add symbols"),
    ("-  Delete", "remove the selected symbol"),
    ("s", "sort: as given, symbol, change, volume"),
    ("b", "bell and a line at a price"),
    ("t", "dark or light"),
    ("w", "write symbols, interval, sort, alerts, theme"),
    ("r", "link lost: connect now"),
    ("?", "this page; Escape closes it"),
    ("q  Ctrl-C", "quit"),
)
_NOTES = (
    ("change", "since yesterday's close, or since the open if there is none"),
    ("trend", "closes of the chart's interval"),
    ("lag", "age of the oldest tick that this program has not read yet"),
    ("rtt", "round trip time of the last heartbeat, sent every 15 s"),
    ("gaps", "one for each topic and outage, by the result of the recovery"),
    ("~", "not current: the link is lost, or a tick is overdue"),
    ("↺", "a trade recovered after an outage"),
)
_EVENTS = 6


class HelpScreen(ModalScreen[None]):
    """The page of keys and terms, with the newest events at its end.

    It scrolls where the terminal is too low for it.
    """

    CSS = """
    HelpScreen { align: center middle; background: $background 60%; }
    HelpScreen VerticalScroll {
        width: 76; max-width: 100%; height: auto; max-height: 100%;
        padding: 0 1; border: round $accent-line; background: $raised;
        border-title-color: $soft-text; border-subtitle-color: $soft-text;
    }
    HelpScreen Static { height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark", "dismiss", "Close"),
        Binding("q", "app.quit", show=False),
        Binding("j,space", "scroll_page(1)", show=False),
        Binding("k", "scroll_page(-1)", show=False),
    ]

    def __init__(self, events: list[str], zone: str, *, light: bool = False) -> None:
        super().__init__()
        self._events, self._zone = events[-_EVENTS:], zone
        self._light = light

    def compose(self) -> ComposeResult:
        """Yield the page."""
        zone = f"{self._zone}: --tz, or tz in the configuration, chooses another"
        with VerticalScroll() as page:
            page.border_title = "qos watch"
            yield Static(self._table(_KEYS, "accent", ""))
            notes = (("", ""), *_NOTES, ("time", zone), ("w", _written()))
            yield Static(self._table(notes, "soft", "soft"))
            for line in self._events:
                yield Static(printable(line), markup=False)

    def on_mount(self) -> None:
        """Focus the page, so that the arrow keys scroll it."""
        self.query_one(VerticalScroll).focus()

    def on_resize(self) -> None:
        """Show how to scroll where the page does not fit."""
        self.call_after_refresh(self._show_hint)

    def _show_hint(self) -> None:
        page = self.query_one(VerticalScroll)
        page.border_subtitle = "↑↓ scroll  Esc close" if page.max_scroll_y else ""

    def action_scroll_page(self, step: int) -> None:
        """Scroll a few lines."""
        self.query_one(VerticalScroll).scroll_relative(y=4 * step, animate=False)

    def _table(
        self, rows: Iterable[tuple[str, str]], key_role: str, role: str
    ) -> Table:
        """Return two columns; what is too wide for the second is wrapped within it."""
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(style=self._colour(key_role), no_wrap=True)
        table.add_column(style=self._colour(role))
        for key, text in rows:
            table.add_row(key, Text(text))  # Not markup, as [watch] would be.
        return table

    def _colour(self, role: str) -> Style:
        """Return the colour of a role, on the background of the page."""
        return Style(color=style_of(role, light=self._light).color)


def _written() -> str:
    """Return where the key writes to."""
    path = config_path()
    if path is None:
        return "writes nothing: there is no home directory"
    return printable(f"writes the table [watch] of {path}, read at the next start")
