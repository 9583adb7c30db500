"""Keys of ``qos sim`` on a terminal: each causes a fault, so that a client meets it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Generator

from qos_async.cli.streams import print_message
from qos_async.sim import Simulator

__all__ = ["SimKeys", "pressed_keys"]

_OUTAGE = 30.0
_HELP = "keys: c cut  o outage of 30 s  k expire the key  m mute  q quit"


class SimKeys:
    """Causes the fault of a key that was pressed, and prints a line about it.

    Args:
        sim: Runs already.

    Attributes:
        quit: Set by the key ``q``.
    """

    def __init__(self, sim: Simulator) -> None:
        self.quit = asyncio.Event()
        self._sim = sim
        self._is_expired = self._is_muted = False
        self._outage: asyncio.Task[None] | None = None
        self._actions = {
            "c": self._cut,
            "o": self._begin_outage,
            "k": self._toggle_key,
            "m": self._toggle_mute,
            "q": self.quit.set,
        }

    def press(self, key: str) -> None:
        """Do what the key stands for; the line of keys for any other one."""
        action = self._actions.get(key.lower())
        if action is None:
            print_message(_HELP)
        else:
            action()

    def close(self) -> None:
        """End an outage that lasts."""
        if self._outage is not None:
            self._outage.cancel()

    def _cut(self) -> None:
        count = len(self._sim.links)
        self._sim.cut()
        print_message(f"cut: {count} link{'' if count == 1 else 's'}")

    def _begin_outage(self) -> None:
        if self._outage is not None and not self._outage.done():
            self._outage.cancel()
            return
        print_message(f"outage of {_OUTAGE:g} s; o ends it now")
        self._outage = asyncio.create_task(self._sim.outage(_OUTAGE))
        self._outage.add_done_callback(lambda _: print_message("the outage is over"))

    def _toggle_key(self) -> None:
        self._is_expired = not self._is_expired
        if self._is_expired:
            self._sim.expire_key()
            print_message("the key has expired; k renews it")
        else:
            self._sim.renew_key()
            print_message("the key is accepted again")

    def _toggle_mute(self) -> None:
        self._is_muted = not self._is_muted
        if self._is_muted:
            self._sim.mute()
            print_message("mute: nothing is sent; m ends it")
        else:
            self._sim.unmute()
            print_message("no longer mute: what was held is sent")


@contextlib.contextmanager
def pressed_keys(press: Callable[[str], None]) -> Generator[bool]:
    """Call ``press`` with each key typed on stdin, without Enter.

    Yields whether it does: not where stdin is no terminal, where the program runs in its
    background, nor on Windows. The terminal is restored at the end.
    """
    try:
        import termios
        import tty
    except ImportError:  # Windows.
        yield False
        return
    if sys.stdin is None or not sys.stdin.isatty():
        yield False
        return
    terminal = sys.stdin.fileno()
    if not _is_in_foreground(terminal):
        yield False
        return
    loop = asyncio.get_running_loop()
    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal, termios.TCSANOW)  # Ctrl-C stays a signal.
    loop.add_reader(terminal, _read, terminal, press)
    print_message(_HELP)
    try:
        yield True
    finally:
        loop.remove_reader(terminal)
        if _is_in_foreground(terminal):
            with contextlib.suppress(termios.error):  # The terminal was closed.
                termios.tcsetattr(terminal, termios.TCSANOW, before)


def _read(terminal: int, press: Callable[[str], None]) -> None:
    # In the background, a read would stop the process.
    text = b""
    if _is_in_foreground(terminal):
        with contextlib.suppress(OSError):
            text = os.read(terminal, 64)
    if not text:  # Or the terminal was closed.
        asyncio.get_running_loop().remove_reader(terminal)
    for key in text.decode("utf-8", "replace"):
        press(key)


def _is_in_foreground(terminal: int) -> bool:
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:  # It is not the controlling terminal, which stops no process.
        return os.isatty(terminal)
