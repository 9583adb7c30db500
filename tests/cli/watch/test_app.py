"""Keys, resizing and errors of ``qos watch``, on a screen in memory."""

from __future__ import annotations

import asyncio

import pytest

from qos_async import AuthenticationError, Interval
from qos_async.cli.watch.app import WatchApp
from qos_async.cli.watch.text import style_of
from tests.support.fixed_market import NOW, IdleReader, app_of, scene, text_of


class Screen:
    def __init__(self, app, pilot):
        self.app = app
        self._pilot = pilot

    async def press(self, *keys, shows):
        await self._pilot.press(*keys)
        await self.until(lambda shown: shows in shown)

    async def resize(self, width, height, *, shows):
        await self._pilot.resize_terminal(width, height)
        await self.until(lambda shown: shows in shown)

    async def until(self, content):
        async with asyncio.timeout(5):  # Textual styles and lays out when it is idle.
            while not content("\n".join(text_of(self.app))):
                await self._pilot.pause()


@pytest.fixture(autouse=True)
async def _quick():
    asyncio.get_running_loop().set_debug(False)  # The tasks here are textual's.


async def test_the_keys_do_what_the_footer_shows():
    model = scene()
    app = app_of(model)
    async with app.run_test(size=(120, 36)) as pilot:
        screen = Screen(app, pilot)
        await screen.press("down", shows="order book  CF:ETHUSDT")
        await screen.press("k", "k", shows="order book  SZ:000001")
        await screen.press("end", shows="trades  CM:XAUUSD")
        await screen.press("home", "up", shows="trades  US:AAPL")
        await screen.press("right", shows="US:AAPL  5m")
        await screen.press("h", "h", shows="no klines yet")
        assert app._reader.intervals == [Interval.MIN_5, Interval.MIN_1]
        await screen.press("p", shows="trades  US:AAPL  paused +0")
        await screen.press("a", shows="trades  all symbols  paused")
        await screen.press("space", shows="trades  all symbols ")
        await screen.press("question_mark", shows="swap red and green")
        assert "17 recovered" in "\n".join(text_of(app))
        await pilot.press("escape")
        await screen.until(lambda shown: "swap red and green" not in shown)
        await pilot.press("q")
    assert app.return_code == 0
    assert app.failure is None


async def test_a_resize_rearranges_the_panels_and_v_changes_them_in_small_windows():
    app = app_of(scene())
    async with app.run_test(size=(120, 36)) as pilot:
        screen = Screen(app, pilot)
        await screen.press("z", "z", shows="┃┃")
        await screen.resize(60, 20, shows="─CF:BTCUSDT  1m")
        assert "order book" not in "\n".join(text_of(app))
        await screen.press("v", shows="order book")
        await screen.press("v", shows="trades  CF:BTCUSDT")
        await screen.press("v", shows="CF:BTCUSDT  1m")
        for width, height in ((1, 1), (40, 9), (170, 40)):
            await screen.resize(width, height, shows="")
        await screen.resize(80, 24, shows="─order book")
        await pilot.click("#board", offset=(4, 3))
        await screen.press("c", shows="order book  US:TSLA")
        strips = app.screen._compositor.render_strips()
        row = next(strip for strip in strips if "▌ US:TSLA" in strip.text)
        # The last price, not the high, which is the same.
        ground = next(style.bgcolor for text, style, _ in row if "246.62" in text)
        assert ground == style_of("flash_down").bgcolor  # It has just risen.


@pytest.mark.parametrize("key", ["q", "ctrl+c"])
async def test_quit_works_in_the_help_screen(key):
    app = app_of(scene(("CF:BTCUSDT",)))
    async with app.run_test(size=(60, 20)) as pilot:
        await pilot.press("question_mark", key)
        await pilot.pause()
        assert app._exit
    assert app.failure is None


async def test_the_app_ends_with_its_reader_and_keeps_the_error():
    class Broken(IdleReader):
        async def run(self):
            raise AuthenticationError("the key was refused")

    model = scene(("CF:BTCUSDT",))
    app = WatchApp(model, Broken(model), lambda: NOW)
    async with app.run_test(size=(60, 20)) as pilot:
        await pilot.pause()
        assert app._exit
    assert isinstance(app.failure, AuthenticationError)


async def test_only_changed_panels_are_redrawn(monkeypatch):
    app = app_of(scene())
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.pause()
        drawn = []
        for panel in app._panels.values():
            monkeypatch.setattr(
                panel, "refresh", lambda *a, p=panel, **k: drawn.append(p)
            )
        app.draw()
        assert not drawn
        app._model.select(0)
        app.draw()
        assert drawn
