"""Changes of a fleet file while its recorder runs: what differs, on the same link."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from msgspec.structs import replace

import qos_async as qos
from qos_async.cli.options import CommandError
from qos_async.cli.record.fleet import FleetError, FleetFile, Holder

__all__ = ["Changes"]

_INTERVAL = 1.0
_ACKNOWLEDGED_WITHIN = 10.0


class Changes:
    """Reads a fleet file again when it has changed, and at SIGHUP.

    Args:
        file: The file.
        holder: What it had at the start.
        report: Prints a line.

    Attributes:
        holder: What is recorded now.
    """

    def __init__(
        self, file: FleetFile, holder: Holder, report: Callable[[str], None]
    ) -> None:
        self.holder = holder
        self._file, self._report = file, report
        self._ticks: qos.Subscription[Any] | None = None
        self._key = ""
        self._hangup = asyncio.Event()
        self._changed = asyncio.Event()

    @property
    def path(self) -> Path:
        """The file."""
        return self._file.path

    def key(self) -> str:
        """Return the key for a connection; the one before, if it cannot be read now."""
        try:
            self._key = self.holder.key.read()
        except CommandError as error:
            if not self._key:
                raise qos.AuthenticationError(str(error)) from None
            self._report(f"{error}: the key that was read before is used")
        return self._key

    def apply_to(self, ticks: qos.Subscription[Any] | None) -> None:
        """Apply changes to a subscription from now on; None: they wait for the next one."""
        self._ticks = ticks

    async def wait(self) -> None:
        """Wait until topics have changed that no subscription has."""
        await self._changed.wait()
        self._changed.clear()

    async def run(self) -> None:
        """Look for changes until it is cancelled."""
        with self._on_hangup():
            stamp = self._stamp()
            while True:
                asked = await self._look_again()
                if asked or self._stamp() != stamp:
                    stamp = self._stamp()
                    await self._reload(asked=asked)

    async def _look_again(self) -> bool:
        """Wait for an interval, or a SIGHUP: then return True."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_INTERVAL):
                await self._hangup.wait()
        asked = self._hangup.is_set()
        self._hangup.clear()
        return asked

    @contextlib.contextmanager
    def _on_hangup(self) -> Generator[None]:
        number = getattr(signal, "SIGHUP", None)
        if number is None:  # On Windows.
            yield
            return
        before = signal.getsignal(number)
        loop = asyncio.get_running_loop()
        try:
            loop.add_signal_handler(number, self._hangup.set)
        except (ValueError, RuntimeError, NotImplementedError):  # Not the main thread.
            yield
            return
        try:
            yield
        finally:
            loop.remove_signal_handler(number)
            signal.signal(number, before)

    def _stamp(self) -> object:
        try:
            found = os.stat(self.path)  # noqa: PTH116 - a Path would do no less
        except OSError as error:
            return error.errno
        return found.st_mtime_ns, found.st_size, found.st_ino

    async def _reload(self, *, asked: bool) -> None:
        try:
            holder = self._file.read()
        except FleetError as error:
            self._report(f"{error}; nothing was changed")
            return
        if holder is None:
            if asked:
                self._report(f"{self.path} has not changed")
            return
        await self._apply(holder)

    async def _apply(self, holder: Holder) -> None:
        before = self.holder
        added = [topic for topic in holder.topics if topic not in before.topics]
        removed = [topic for topic in before.topics if topic not in holder.topics]
        try:
            await self._subscribe(added, removed)
        except qos.LimitError as error:
            self._report(f"{error}; nothing was changed")
            return
        self.holder = replace(before, topics=holder.topics, key=holder.key)
        parts = [
            f"{sign}{topic}"
            for sign, topics in (("+", added), ("-", removed))
            for topic in topics
        ]
        if before.key != holder.key:
            parts.append("the next connection has the new key")
        if later := _different(before, holder):
            parts.append(f"{', '.join(later)} from the next start on")
        self._report(f"{self.path} was read again: {', '.join(parts) or 'no change'}")

    async def _subscribe(
        self, added: list[qos.Topic], removed: list[qos.Topic]
    ) -> None:
        """Change the subscription; a plan without room for that leaves it as it was."""
        ticks = self._ticks
        if ticks is None:
            self._changed.set()
            return
        if removed:
            await ticks.remove(*removed)
        if not added:
            return
        try:
            # A standby has no link: its server acknowledges nothing yet.
            async with asyncio.timeout(_ACKNOWLEDGED_WITHIN):
                await ticks.add(*added)
        except TimeoutError:
            pass
        except qos.LimitError:
            if removed:
                with contextlib.suppress(qos.QosError):
                    await ticks.add(*removed)
            raise
        except qos.RejectedError:
            pass  # The events of the subscription have it.


def _different(before: Holder, after: Holder) -> list[str]:
    """Return the fields that cannot change while a recorder runs."""
    pairs = {
        "stream": (before.stream, after.stream),
        "limits": (before.limits, after.limits),
        **{
            name: (before.recorder.get(name), after.recorder.get(name))
            for name in sorted({*before.recorder, *after.recorder})
        },
    }
    return [name for name, (old, new) in pairs.items() if old != new]
