"""Screens of ``qos watch``, compared with stored ones.

``QOS_PICTURES=1 pytest -n0 tests/cli/watch/test_picture.py`` writes the files anew.
Look at them then: the README shows one of them.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from qos_async.cli.watch.text import BACKGROUND
from tests.support.fixed_market import app_of, scene, text_of
from tests.support.svg_screen import draw

PICTURE = Path(__file__).parents[3] / "examples" / "watch.svg"
SCREENS = Path(__file__).parent / "screens"


def check(path, now):
    if os.environ.get("QOS_PICTURES"):
        path.write_text(now, "utf-8")
    assert now == path.read_text("utf-8"), f"{path.name} is another: see above"


async def settled(app, pilot):
    async with asyncio.timeout(5):
        while "Quit" not in text_of(app)[-1]:
            await pilot.pause()


async def test_the_picture_in_the_readme_is_what_the_command_shows():
    app = app_of(scene())
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(app, pilot)
        svg = draw(app.screen._compositor.render_strips(), BACKGROUND)
    check(PICTURE, svg)
    assert "url(" not in svg
    assert "href" not in svg
    assert svg.count("http") == 1  # The XML namespace, which is never loaded.


@pytest.mark.parametrize("size", [(60, 20), (80, 24), (200, 60)])
async def test_each_size_of_a_terminal_gets_a_screen_of_its_own(size):
    app = app_of(scene())
    async with app.run_test(size=size) as pilot:
        await settled(app, pilot)
        shown = "\n".join(text_of(app))
    check(SCREENS / f"{size[0]}x{size[1]}.txt", shown + "\n")
