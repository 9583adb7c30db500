"""The screen as SVG that loads nothing from anywhere.

Rich can export SVG, too, with web fonts and with seams between block characters. Here
blocks and frames are drawn as shapes, so that they look the same with any font.
"""

from __future__ import annotations

from collections import defaultdict
from html import escape

WIDE, HIGH, SIZE = 8, 18, 13.2
PAD = 10
FONTS = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace"
LOWER = "▁▂▃▄▅▆▇█"
LEFT = "▏▎▍▌▋▊▉"
Shapes = defaultdict[str, list[tuple[float, float, float, float]]]


def shape(glyph, x, y):
    """Return the rectangles of a block or a line, as (x, y, width, height)."""
    middle, centre = x + WIDE / 2 - 0.5, y + HIGH / 2 - 0.5
    if glyph in LOWER:
        high = HIGH * (LOWER.index(glyph) + 1) / 8
        return [(x, y + HIGH - high, WIDE, high)]
    if glyph in LEFT:
        return [(x, y, WIDE * (LEFT.index(glyph) + 1) / 8, HIGH)]
    return {
        "▀": [(x, y, WIDE, HIGH / 2)],
        "│": [(middle, y, 1, HIGH)],
        "╷": [(middle, y + HIGH / 2, 1, HIGH / 2)],
        "╵": [(middle, y, 1, HIGH / 2)],
        "━": [(x, centre - 1, WIDE, 3)],
        "┿": [(x, centre - 1, WIDE, 3), (middle, y, 1, HIGH)],
        "┷": [(x, centre - 1, WIDE, 3), (middle, y, 1, HIGH / 2)],
        "┯": [(x, centre - 1, WIDE, 3), (middle, y + HIGH / 2, 1, HIGH / 2)],
        "─": [(x, centre, WIDE, 1)],
        "╌": [(x + 0.5, centre, 3, 1), (x + 4.5, centre, 3, 1)],
        "┈": [(x + step, centre, 1, 1) for step in (0.5, 2.5, 4.5, 6.5)],
        "╭": [(middle, y + HIGH / 2, 1, HIGH / 2), (middle, centre, WIDE / 2, 1)],
        "╮": [(middle, y + HIGH / 2, 1, HIGH / 2), (x, centre, WIDE / 2, 1)],
        "╰": [(middle, y, 1, HIGH / 2), (middle, centre, WIDE / 2, 1)],
        "╯": [(middle, y, 1, HIGH / 2), (x, centre, WIDE / 2, 1)],
    }.get(glyph, [])


def draw(strips, background):
    """Draw the lines of a screen."""
    grounds: Shapes = defaultdict(list)
    shapes: Shapes = defaultdict(list)
    words: list[tuple[float, float, str, str, bool]] = []
    for row, strip in enumerate(strips):
        x, y = PAD, PAD + row * HIGH
        for text, style, _ in strip:
            fill, ground = colour(style.color), colour(style.bgcolor)
            if ground != background:
                grounds[ground].append((x, y, WIDE * len(text), HIGH))
            word, start = "", x
            for glyph in text + "\n":
                drawn = shape(glyph, x, y)
                if drawn or glyph in " \n":
                    words += [(start, y, word, fill, bool(style.bold))] if word else []
                    word = ""
                    shapes[fill] += drawn
                elif not word:
                    start = x
                if not drawn and glyph not in " \n":
                    word += glyph
                x += WIDE * (glyph != "\n")
    width = 2 * PAD + WIDE * max(strip.cell_length for strip in strips)
    return page(
        width, 2 * PAD + HIGH * len(strips), background, (grounds, shapes), words
    )


def colour(value):
    return value.get_truecolor().hex if value is not None else "#000000"


def page(width, height, background, layers, words):
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">',
        "<title>qos watch in a terminal</title>",
        f'<rect width="{width}" height="{height}" rx="8" fill="{background}"/>',
        f'<g font-family="{FONTS}" font-size="{SIZE}" xml:space="preserve">',
    ]
    for fill, rectangles in (item for layer in layers for item in layer.items()):
        path = "".join(f"M{x:g} {y:g}h{w:g}v{h:g}h{-w:g}z" for x, y, w, h in rectangles)
        lines.append(f'<path fill="{fill}" shape-rendering="crispEdges" d="{path}"/>')
    for x, y, word, fill, bold in words:
        weight = ' font-weight="bold"' if bold else ""
        lines.append(
            f'<text x="{x:g}" y="{y + HIGH * 0.74:g}" textLength="{WIDE * len(word)}" '
            f'lengthAdjust="spacingAndGlyphs" fill="{fill}"{weight}>{escape(word)}'
            "</text>"
        )
    return "\n".join([*lines, "</g>", "</svg>", ""])
