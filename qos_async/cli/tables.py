"""Tables for people: aligned text that fits the terminal, in colours if it is one."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

__all__ = ["Block", "Cell", "Column", "is_terminal", "lay_out", "show"]

_GAP = "  "


class Cell(NamedTuple):
    """A text, and the style that a terminal gives it."""

    text: str
    style: str = ""


class Column(NamedTuple):
    """A column.

    Attributes:
        title: Its head.
        drop: In which order columns go where there is no room: 1 first, 0 never.
        left: Whether its text stands on the left.
    """

    title: str
    drop: int = 0
    left: bool = False


class Block(NamedTuple):
    """A table, with a line above it that may be empty."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]


def show(blocks: Iterable[Block]) -> None:
    """Print tables on stdout, an empty line between two."""
    if sys.stdout is None:  # As under pythonw.
        return
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    terminal = is_terminal()
    width = shutil.get_terminal_size().columns if terminal else None
    write = _painter() if terminal else _plain
    for number, block in enumerate(blocks):
        if number:
            write([])
        for line in lay_out(block, width):
            write(line)


def is_terminal() -> bool:
    """Say whether stdout is a terminal that can do more than lines."""
    dumb = os.environ.get("TERM") in ("dumb", "unknown")
    return sys.stdout is not None and sys.stdout.isatty() and not dumb


def lay_out(block: Block, width: int | None = None) -> Iterator[list[Cell]]:
    """Give the lines of a block, aligned.

    Args:
        block: The table.
        width: Columns of the terminal; columns of the table that find no room are left
            out. None leaves out nothing.
    """
    if block.title:
        yield [Cell(block.title, "bold")]
    heads = [Cell(column.title, "bold") for column in block.columns]
    widths = [
        max(map(_width, column)) for column in zip(heads, *block.rows, strict=True)
    ]
    chosen = _fitting(block.columns, widths, width)
    for row in (heads, *block.rows):
        line: list[Cell] = []
        for place in chosen:
            pad = " " * (widths[place] - _width(row[place]))
            left, cell = block.columns[place].left, row[place]
            text = cell.text + pad if left else pad + cell.text
            line += [Cell(_GAP)] if line else []
            line.append(Cell(text, cell.style))
        yield line


def _plain(line: Sequence[Cell]) -> None:
    print("".join(cell.text for cell in line).rstrip())


def _painter() -> Callable[[Sequence[Cell]], None]:
    try:
        from rich.console import Console  # noqa: PLC0415 - an extra
        from rich.text import Text  # noqa: PLC0415 - an extra
    except ImportError:
        return _plain
    console = Console(highlight=False)

    def paint(line: Sequence[Cell]) -> None:
        console.print(Text.assemble(*line), no_wrap=True, overflow="ellipsis")

    return paint


def _fitting(
    columns: Sequence[Column], widths: Sequence[int], width: int | None
) -> list[int]:
    chosen = list(range(len(columns)))
    while width is not None and len(chosen) > 1:
        total = sum(widths[place] + len(_GAP) for place in chosen) - len(_GAP)
        spare = [place for place in chosen if columns[place].drop]
        if total <= width or not spare:
            break
        chosen.remove(min(spare, key=lambda place: columns[place].drop))
    return chosen


def _width(cell: Cell) -> int:
    """Count columns: Chinese takes two a character, combining marks none."""
    return sum(
        0
        if unicodedata.combining(char)
        else 2
        if unicodedata.east_asian_width(char) in "WF"
        else 1
        for char in cell.text
    )
