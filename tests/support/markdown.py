"""Markdown, as far as these tests need it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

__all__ = ["ROOT", "Block", "blocks", "table"]

ROOT = Path(__file__).resolve().parents[2]

_FENCED = re.compile(
    r"(?:^<!-- test: (?P<how>[^\n]+) -->\n)?"
    r"^```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """A fenced block of code; ``how`` is what the comment above it says."""

    language: str
    how: str
    line: int
    text: str


def blocks(page: str = "README.md") -> list[Block]:
    """Give all code blocks of a page, in order."""
    text = (ROOT / page).read_text("utf-8")
    found = [
        Block(
            match["language"],
            match["how"] or "",
            text.count("\n", 0, match.start("text")),
            match["text"],
        )
        for match in _FENCED.finditer(text)
    ]
    assert text.count("```") == 2 * len(found), "a fence without language or end"
    return found


def table(head: str, page: str = "README.md") -> list[list[str]]:
    """Give the rows of the table whose first heading is ``head``."""
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
