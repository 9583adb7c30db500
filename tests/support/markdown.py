"""Code blocks and tables of Markdown pages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

__all__ = ["ROOT", "Block", "blocks", "prose", "table"]

ROOT = Path(__file__).resolve().parents[2]

_FENCED = re.compile(
    r"(?:^<!-- test: (?P<how>[^\n]+) -->\n)?"
    r"^```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """A fenced block of code; ``how`` is the text of the comment above it."""

    page: str
    language: str
    how: str
    line: int
    text: str

    @property
    def place(self) -> str:
        """The page and line of its first line, as ``README.md:12``."""
        return f"{self.page}:{self.line}"


def blocks(page: str = "README.md", language: str = "") -> list[Block]:
    """Return the code blocks of a page, in order: all, or those of a language."""
    text = (ROOT / page).read_text("utf-8")
    found = [
        Block(
            page,
            match["language"],
            match["how"] or "",
            text.count("\n", 0, match.start("text")) + 1,
            match["text"],
        )
        for match in _FENCED.finditer(text)
    ]
    assert text.count("```") == 2 * len(found), "a fence without language or end"
    return [block for block in found if language in ("", block.language)]


def prose(page: str) -> str:
    """Return the text of a page on one line."""
    return " ".join((ROOT / page).read_text("utf-8").split())


def table(head: str, page: str = "README.md") -> list[list[str]]:
    """Return the rows of the table whose first heading is ``head``."""
    lines = iter((ROOT / page).read_text("utf-8").splitlines())
    for line in lines:
        if line.startswith(f"| {head} |"):
            break
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    assert rows, f"no table {head!r}"
    return rows[1:]
