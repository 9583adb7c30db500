"""Help screen of ``qos watch``: keys, terms, and the newest events."""

from __future__ import annotations

from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import Static

from qos_async.cli.watch.text import style_of

__all__ = ["HelpScreen"]

_KEYS = (
    ("up down  k j", "select a symbol; also: mouse, Home, End"),
    ("left right  h l", "shorter, longer interval"),
    ("p  space", "pause the trades, count new ones; again: resume"),
    ("a", "trades of all symbols, or of the selected one"),
    ("z", "wider or slimmer candles"),
    ("v", "small window: order book, trades or only the chart"),
    ("c", "swap red and green (mainland China: red rises)"),
    ("?", "this page; Escape closes it"),
    ("q  Ctrl-C", "quit"),
)
_NOTES = (
    "change  since yesterday's close, or since the open if there is none",
    "trend   closes of the chart's interval; times are UTC",
    "lag     age of the oldest tick that this program has not read yet",
    "rtt     round trip time of the last heartbeat, sent every 15 s",
    "gaps    one for each topic and outage, by the result of the recovery",
    "↺       a trade recovered after an outage",
)


class HelpScreen(ModalScreen[None]):
    """The page of keys and terms, with the newest events at its end."""

    CSS = """
    HelpScreen { align: center middle; background: $background 60%; }
    HelpScreen Static {
        width: 76; max-width: 100%; height: auto; max-height: 100%;
        padding: 1 2; border: round #f0b90b; background: #121822; overflow-y: auto;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q", "dismiss", "Close")
    ]

    def __init__(self, events: list[str]) -> None:
        super().__init__()
        self._events = events

    def compose(self) -> ComposeResult:
        """Yield the page."""
        text = Text()
        for keys, action in _KEYS:
            text.append(f"{keys:<17}", _colour("accent"))
            text.append(f"{action}\n")
        text.append("\n" + "\n".join(_NOTES), _colour("soft"))
        for line in self._events[-6:]:
            text.append(f"\n{line}", _colour("warn"))
        page = Static(text)
        page.border_title = "qos watch"
        yield page


def _colour(role: str) -> Style:
    """Return the colour of a role without its background: the page has another one."""
    return Style(color=style_of(role).color)
