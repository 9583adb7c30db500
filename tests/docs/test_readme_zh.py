"""The Chinese README has the structure, code and facts of the English one."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.support.markdown import ROOT, blocks

ENGLISH, CHINESE = "README.md", "README.zh.md"

_FENCE = re.compile(r"^```(\w+)\n.*?^```$", re.MULTILINE | re.DOTALL)
_HEAD = re.compile(r"^#+ (.+)$", re.MULTILINE)
_KIND = re.compile(r"#+ |~~~\w+|<!-- .+ -->|- |\d+\. |\||!\[|")
_CODE = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"\]\(([^)]+)\)")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def words(page: str) -> str:
    """Return a page without the content of its code blocks."""
    return _FENCE.sub(r"~~~\1", (ROOT / page).read_text("utf-8"))


def sections(page: str) -> list[str]:
    """Return the sections of a page, each with its heading."""
    return re.split(r"^(?=#+ )", words(page), flags=re.MULTILINE)[1:]


def shape(section: str) -> list[str]:
    """Return the kinds of elements in a section: headings, paragraphs, rows, blocks."""
    kinds = []
    for chunk in section.split("\n\n"):
        lines = [line for line in chunk.splitlines() if not line.startswith(" ")]
        found = [_KIND.match(line) for line in lines]
        marked = [match[0] for match in found if match and match[0]]
        kinds += marked or ["paragraph"] * bool(lines)
    return kinds


def first_cells(section: str) -> list[list[str]]:
    """Return the code in the first cell of each row of a section's tables."""
    rows = re.findall(r"^\|(.+?)\|", section, re.MULTILINE)
    return [sorted(_CODE.findall(row)) for row in rows]


def anchors(page: str) -> set[str]:
    """Return the anchors that GitHub makes from a page's headings."""
    heads = _HEAD.findall(words(page))
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def pairs() -> Iterator[tuple[str, str]]:
    return zip(sections(ENGLISH), sections(CHINESE), strict=True)


def code(section: str) -> set[str]:
    return {" ".join(span.split()) for span in _CODE.findall(section)}


def numbers(section: str) -> set[str]:
    return set(_NUMBER.findall(_CODE.sub("", section)))


def targets(section: str) -> list[str]:
    """Return the targets of links; those within a page without their anchor."""
    return sorted(re.sub("#.+", "#", target) for target in _LINK.findall(section))


def test_the_first_line_links_to_the_english_page():
    assert f"]({ENGLISH})" in words(CHINESE).splitlines()[0]


def test_the_code_blocks_are_the_same():
    def code_blocks(page: str) -> list[tuple[str, str, str]]:
        return [(block.language, block.how, block.text) for block in blocks(page)]

    assert code_blocks(CHINESE) == code_blocks(ENGLISH)


def test_no_section_paragraph_item_or_row_is_missing():
    shapes = [[shape(one) for one in sections(page)] for page in (ENGLISH, CHINESE)]
    assert shapes[1] == shapes[0]


@pytest.mark.parametrize(
    "fact", [code, numbers, targets, first_cells], ids=lambda fact: fact.__name__
)
def test_each_section_has_the_same_facts(fact):
    for english, chinese in pairs():
        assert fact(chinese) == fact(english), chinese.splitlines()[0]


def test_every_link_has_a_target():
    for target in _LINK.findall(words(CHINESE)):
        if not target.startswith("https:"):
            path, _, anchor = target.partition("#")
            assert (ROOT / path).exists(), target
            assert not anchor or anchor in anchors(path or CHINESE), target
