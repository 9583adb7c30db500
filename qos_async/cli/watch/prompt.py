"""Input line of ``qos watch``: one line of text, checked when Enter is pressed."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Generic, TypeVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from qos_async._printable import printable

__all__ = ["PromptScreen"]

T = TypeVar("T")


class PromptScreen(ModalScreen[T], Generic[T]):
    """A line at the bottom of the screen; Escape leaves it, without a result.

    Args:
        label: What to type.
        parse: Returns the result for the text, or raises ``ValueError`` with a sentence,
            which is shown until the text is another.
    """

    CSS = """
    PromptScreen { align: left bottom; background: $background 20%; }
    PromptScreen Vertical {
        height: auto; padding: 0 1; border: round $accent-line; background: $raised;
        border-title-color: $soft-text; border-subtitle-color: $soft-text;
    }
    PromptScreen Input {
        height: 1; border: none; padding: 0; background: $raised; color: $foreground;
    }
    PromptScreen Input:focus { border: none; }
    PromptScreen Static { height: auto; color: $accent-line; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Leave")]

    def __init__(self, label: str, parse: Callable[[str], T]) -> None:
        super().__init__()
        self._label, self._parse = label, parse

    def compose(self) -> ComposeResult:
        """Yield the line, and the place of the sentence."""
        with Vertical() as box:
            box.border_title = printable(self._label)
            box.border_subtitle = "Enter: ok  Esc: leave"
            yield Input(select_on_focus=False)
            yield Static(markup=False)

    def on_mount(self) -> None:
        """Hide the place of the sentence until there is one."""
        self.query_one(Static).display = False

    def on_input_changed(self) -> None:
        """Remove the sentence about the text before."""
        self.query_one(Static).display = False

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Return the result, or show what is wrong."""
        try:
            result = self._parse(event.value)
        except ValueError as error:
            message = self.query_one(Static)
            message.update(printable(str(error)))
            message.display = True
            return
        _ = self.dismiss(result)  # Textual awaits it

    def action_leave(self) -> None:
        """Leave without a result."""
        _ = self.dismiss(None)
