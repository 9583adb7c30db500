"""Keys, resizing and errors of ``qos watch``, on a screen in memory."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from qos_async import AuthenticationError, Interval, LinkState, StateChange, Trade
from qos_async.cli.settings import config_path, read_file
from qos_async.cli.watch.alerts import Alert
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


async def test_the_help_scrolls_where_it_does_not_fit_and_its_keys_come_first():
    app = app_of(scene())
    async with app.run_test(size=(60, 20)) as pilot:
        screen = Screen(app, pilot)
        await screen.press("question_mark", shows="scroll")
        assert all(key in "\n".join(text_of(app)) for key in ("Ctrl-C", "connect now"))
        assert "17 recovered" not in "\n".join(text_of(app))
        await screen.press(*["down"] * 40, shows="17 recovered")
        assert app._model.symbol == "CF:BTCUSDT"
        await screen.press("k", "k", "k", "k", "k", shows="connect now")
        await screen.resize(120, 40, shows="17 recovered")
        await screen.until(lambda shown: "scroll" not in shown)


async def test_the_help_names_the_file_that_w_writes(monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", "/c")
    app = app_of(scene())
    async with app.run_test(size=(160, 60)) as pilot:
        screen = Screen(app, pilot)
        await screen.press("question_mark", shows="symbols, interval, sort, alerts")
        await screen.until(lambda shown: "[watch] of /c/qos-async/config.toml" in shown)


async def test_r_connects_now_while_the_link_is_lost():
    model = scene()
    app = app_of(model)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("r")
        assert app._reader.dials == 0
        model.on_state(StateChange(LinkState.BACKOFF, "cut", retry_in=30.0), NOW)
        await Screen(app, pilot).press(shows="reconnecting in 30 s  r now")
        await pilot.press("r")
        await pilot.pause()
        assert app._reader.dials == 1


async def test_symbols_are_typed_and_a_malformed_one_gets_a_sentence():
    app = app_of(scene())
    async with app.run_test(size=(80, 24)) as pilot:
        screen = Screen(app, pilot)
        await screen.press("plus", shows="add symbols")
        await screen.press(*"AAPLq", "enter", shows="did you mean")
        await screen.press(*["backspace"] * 5, shows="add symbols")
        await screen.until(lambda shown: "did you mean" not in shown)
        await pilot.press(*"us:NVDA,MSFT", "enter")
        await screen.until(lambda shown: "add symbols" not in shown)
        assert app._reader.added == ["US:NVDA", "US:MSFT"]
        await screen.press("plus", shows="add symbols")
        await pilot.press("x", "escape")
        await screen.until(lambda shown: "add symbols" not in shown)
        await screen.press("minus", shows="")
        await pilot.pause()
        assert app._reader.removed == ["CF:BTCUSDT"]
        assert not app._exit


async def test_the_only_symbol_cannot_be_removed():
    app = app_of(scene(("CF:BTCUSDT",)))
    async with app.run_test(size=(80, 24)) as pilot:
        await Screen(app, pilot).press("delete", shows="last symbol cannot be removed")
        assert not app._reader.removed


async def test_an_alert_is_typed_and_rings_once(monkeypatch):
    model = scene(("CF:BTCUSDT",))
    app = app_of(model)
    rings = []
    monkeypatch.setattr(app, "bell", lambda: rings.append(1))
    async with app.run_test(size=(80, 24)) as pilot:
        screen = Screen(app, pilot)
        await screen.press("b", shows="at price (now: none")
        await screen.press("x", "enter", shows="'x' is not a price")
        await pilot.press("backspace", *"99000", "enter")
        await screen.until(lambda shown: "alerts 1" in shown)
        await screen.press("b", shows="now: 99000")
        await pilot.press("escape")
        jump = Trade(symbol="CF:BTCUSDT", price=Decimal(99001), timestamp=int(NOW))
        model.on_tick(jump, NOW)
        await screen.until(lambda shown: "ALERT CF:BTCUSDT 99000" in shown)
        await screen.press("b", shows="now: none")
        await pilot.press(*"5", "enter")
        await screen.until(lambda shown: "alerts 1" in shown)
        await screen.press("b", shows="now: 5")
        await pilot.press("enter")
        await screen.until(lambda shown: "alerts 1" not in shown)
    assert rings == [1]


async def test_what_is_chosen_is_written_and_read_again(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    model = scene(("CF:BTCUSDT", "US:TSLA"))
    app = app_of(model)
    model.alerts.add(Alert("US:TSLA", Decimal("260.50")))
    async with app.run_test(size=(80, 24)) as pilot:
        screen = Screen(app, pilot)
        await screen.press("s", shows="quotes  by symbol")
        await screen.press("s", "t", "right", shows="quotes  by change")
        assert app.theme == "qos-light"
        await screen.press("w", shows="written to")
    path = config_path()
    assert path is not None
    kept = read_file(path)
    assert kept.watch_symbols == ("CF:BTCUSDT", "US:TSLA")
    assert kept.watch_interval is Interval.MIN_5
    assert kept.watch_sort == "change"
    assert kept.watch_alerts == model.alerts.waiting
    assert kept.watch_light


async def test_what_cannot_be_written_is_explained(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    (tmp_path / "file").write_text("")
    app = app_of(scene())
    async with app.run_test(size=(120, 36)) as pilot:
        await Screen(app, pilot).press("w", shows="cannot write")
