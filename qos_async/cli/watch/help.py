"""The keys, and what the colours mean."""

from __future__ import annotations

from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import Static

from qos_async.cli.watch.palette import style_of

__all__ = ["Help"]

_KEYS = (
    ("up down  k j", "choose a symbol; also with the mouse, and Home, End"),
    ("left right  h l", "a shorter, a longer interval"),
    ("p  space", "hold the tape; again: let it run"),
    ("a", "trades of all symbols, or of the chosen one"),
    ("z", "wider or slimmer candles"),
    ("v", "in a small window: order book, trades, or the chart alone"),
    ("c", "change red for green: red rises, as in mainland China"),
    ("?", "this page; Escape leaves it"),
    ("q  Ctrl-C", "quit"),
)
_NOTES = (
    "change  since yesterday's close, or since the open where there is none",
    "trend   the closes of the chart's interval; times are UTC",
    "lag     how long the oldest unread tick has waited here",
    "rtt     round trip of the last heartbeat; there is one every 15 s",
    "gaps    topics times outages, by what became of them",
    "↺       a trade that was fetched after an outage",
)


class Help(ModalScreen[None]):
    """A page over the market, with what happened lately at its end."""

    CSS = """
    Help { align: center middle; background: $background 60%; }
    Help Static {
        width: 76; max-width: 100%; height: auto; max-height: 100%;
        padding: 1 2; border: round #f0b90b; background: #121822; overflow-y: auto;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q", "dismiss", "Close")
    ]

    def __init__(self, news: list[str]) -> None:
        super().__init__()
        self._news = news

    def compose(self) -> ComposeResult:
        """Make the page."""
        text = Text()
        for keys, does in _KEYS:
            text.append(f"{keys:<17}", _colour("accent"))
            text.append(f"{does}\n")
        text.append("\n" + "\n".join(_NOTES), _colour("soft"))
        for line in self._news[-6:]:
            text.append(f"\n{line}", _colour("warn"))
        page = Static(text)
        page.border_title = "qos watch"
        yield page


def _colour(role: str) -> Style:
    """Give a role's colour alone: the page has a background of its own."""
    return Style(color=style_of(role).color)
